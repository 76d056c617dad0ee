"""Histories at random, each told by a number; and a failing one made short."""

import random
from collections.abc import Callable
from itertools import permutations

from tests.service.node.histories.world import STUDIES

SHORTEST, LONGEST = 8, 15
_OF_THE_NODE = {
    "wait": 8, "look": 3, "work": 2, "blink": 1, "own": 2, "restart": 2,
    "crash:extract": 1, "crash:render": 1, "crash:finish": 1,
}  # fmt: skip
_OF_A_STUDY = {
    "images": 14, "seg": 10, "rt": 3, "untracked": 3, "reader": 1, "renamed": 2,
    **{f"{change}:{lesion}": 1 for change in ("edit", "delete", "add") for lesion in range(4)},
    **{f"part:{bits}": 1 for bits in (1, 7, 13)},
    **{f"again:{bits}": 1 for bits in (1, 2, 7)},
}  # fmt: skip
_OF_TWO_STUDIES = {"theirs": 2, "mixed": 1, "strayed": 1}


def history(number: int) -> str:
    """Eight to fifteen events of one to three studies.

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
    weights = _weights(studies)
    length = rng.randint(SHORTEST, LONGEST)
    return " ".join(rng.choices(list(weights), list(weights.values()), k=length))


def _weights(studies: list[str]) -> dict[str, int]:
    """How often each event comes that these studies may meet."""
    weights = dict(_OF_THE_NODE)
    for study in studies:
        for event, weight in _OF_A_STUDY.items():
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
