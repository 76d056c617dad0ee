"""Histories at random, each told by a number; and a failing one made short."""

import random
from collections.abc import Callable
from itertools import permutations

from tests.service.node.histories.world import STUDIES

SHORTEST, LONGEST = 8, 15
_OF_THE_NODE = {
    "wait": 26, "look": 4, "work": 4, "blink": 1, "own": 2, "restart": 2,
    "crash:extract": 1, "crash:render": 1, "crash:finish": 1,
}  # fmt: skip
_OF_A_STUDY = {
    "images": 1, "seg": 3, "rt": 1, "untracked": 4, "reader": 2, "renamed": 3, "accept": 4,
    **{f"edit:{lesion}": 4 for lesion in range(4)},
    **{f"{change}:{lesion}": 1.5 for change in ("delete", "add") for lesion in range(4)},
    **{f"part:{bits}": 0.5 for bits in (1, 7, 13)},
    **{f"again:{bits}": 0.5 for bits in (1, 2, 7)},
    **{f"retained:{bits}": 0.4 for bits in (1, 7, 15)},
}  # fmt: skip
_OF_PERSON_A = {"issuer": 1}
_OF_TWO_STUDIES = {"theirs": 1, "mixed": 0.3, "strayed": 1}
_FIRST = ("seg", "seg", "untracked", "rt")


def history(number: int) -> str:
    """Eight to fifteen events of one to three studies; most studies begin early, in any order.

    Parameters
    ----------
    number : int
        The same number gives the same history.

    Returns
    -------
    str
        Events, blanks between.
    """
    rng = random.Random(number)
    studies = sorted(rng.sample(list(STUDIES), rng.randint(1, 3)))
    first = [f"{kind}:{study}" for study in studies for kind in ("images", rng.choice(_FIRST))]
    first = [event for event in first if rng.random() < 0.9]
    rng.shuffle(first)
    weights = _weights(studies)
    length = rng.randint(SHORTEST, LONGEST) - len(first)
    events = rng.choices(list(weights), list(weights.values()), k=length)
    for event in first:
        events.insert(rng.randint(0, 3), event)
    return " ".join(events)


def _weights(studies: list[str]) -> dict[str, float]:
    """How often each event comes that these studies may meet."""
    weights = {event: weight * len(studies) for event, weight in _OF_THE_NODE.items()}
    for study in studies:
        own = _OF_A_STUDY | (_OF_PERSON_A if study[0] == "A" else {})
        for event, weight in own.items():
            name, *more = event.split(":")
            weights[":".join((name, study, *more))] = weight
    for one, other in permutations(studies, 2):
        for event, weight in _OF_TWO_STUDIES.items():
            if (event == "strayed") == (one[0] == other[0]):
                weights[f"{event}:{one}:{other}"] = weight
    return weights


def shortened(text: str, fails: Callable[[str], bool]) -> str:
    """A history that fails as this one does, from which no single event can be left out.

    Parameters
    ----------
    text : str
        A history that fails.
    fails : callable
        Whether a history fails.

    Returns
    -------
    str
    """
    events = text.split()
    size = len(events) // 2
    while size:
        at = 0
        while at < len(events):
            fewer = events[:at] + events[at + size :]
            if fails(" ".join(fewer)):
                events = fewer
            else:
                at += size
        size //= 2
    return " ".join(events)
