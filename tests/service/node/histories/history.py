"""Histories as text: what happens to a node, one word an event, so that a failing one is replayed.

images:A0     the CT slices of study A0 come (all of those that were not named by ``part``)
part:A0:5     those slices whose bit is set in 5 come
seg:A0        a SEG of its lesions as they are drawn now comes; also ``rt`` (an RTSTRUCT),
              ``untracked`` (a SEG without tracking UIDs), ``reader`` (a SEG of another reader)
edit:A0:1     lesion 1 is drawn otherwise or anew, and the lesions come as they came last
delete:A0:1   lesion 1 is no longer drawn, and the lesions come as they came last
add:A0:1      lesion 1 is drawn again, and the lesions come as they came last
again:A0:5    what came of A0 comes again: each object whose number has a bit of 5 in common
renamed:A0    what came of A0 comes again under the same UIDs, the patient's name corrected
accept:A0     someone accepts what of A0 came under known UIDs with other content, where they can
theirs:A0:B0  the SEG of A0 comes as one of the person of B0
mixed:A0:B0   a slice of A0's series comes as one of the person of B0
strayed:A0:A1 the SEG of A0 comes in study A1
issuer:A0     the SEG of A0 comes as of a patient of that ID of another issuer
retained:A0:5 all is worked; what is delivered is removed, as retention does; of A0 those slices
              whose bit is set in 5 come again, which changes no result; all of it comes again
own           every output that was made comes back
wait          nothing comes for long, and all work is done
look          nothing comes for long; work is queued only
blink         a second passes
work          the first queued run is worked
crash:render  the process dies in the next run, while it renders (or extract, finish)
restart       the node ends and starts again
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.service.node.histories import world
from tests.service.node.histories.rig import Rig
from tests.service.node.histories.world import STUDIES, VARIANTS, Drawing

KINDS = ("seg", "rt", "untracked", "reader")


@dataclass
class Received:
    """What came, told by the sender's side alone.

    Attributes
    ----------
    valid : dict of SOP Instance UID to bytes
        The content under each: the first, until another is accepted.
    others : list of bytes
        What came later, with other content, under a UID that was there, or was replaced.
    pending : dict of SOP Instance UID to bytes
        Those of `others` that came last since one was accepted.
    replaced : list of bytes
        What was valid until another was accepted; retention may remove it from `others`.
    own : dict of SOP Instance UID to bytes
        Outputs that came back.
    drawn : dict of SOP Instance UID to (str, Drawing)
        Segmentations of a study's own person: of which study's images, and what they draw.
    mixed : set of str
        Studies of which a slice came as one of another person.
    """

    valid: dict[str, bytes] = field(default_factory=dict)
    others: list[bytes] = field(default_factory=list)
    pending: dict[str, bytes] = field(default_factory=dict)
    replaced: list[bytes] = field(default_factory=list)
    own: dict[str, bytes] = field(default_factory=dict)
    drawn: dict[str, tuple[str, Drawing]] = field(default_factory=dict)
    mixed: set[str] = field(default_factory=set)


@dataclass
class _Pen:
    """How a study's lesions are drawn now, and how they were sent last."""

    lesions: tuple[int, ...]
    kind: str = "seg"
    version: int = 0


class History:
    """What has happened to a node so far.

    Parameters
    ----------
    rig : Rig
    """

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.received = Received()
        self._pens = {name: _Pen(one.first) for name, one in STUDIES.items()}
        self._of = {name: list[bytes]() for name in STUDIES}

    def play(self, text: str) -> None:
        """Let everything of a history happen.

        Parameters
        ----------
        text : str
            Events, blanks between.
        """
        for event in text.split():
            name, *arguments = event.split(":")
            _EVENTS[name](self, *arguments)

    # What comes

    def _come(self, name: str, content: bytes) -> None:
        uid = world.uid_of(content)
        first = self.received.valid.setdefault(uid, content)
        if first == content:
            if content not in self._of[name]:
                self._of[name].append(content)
        else:
            self.received.pending[uid] = content
            if content not in self.received.others:
                self.received.others.append(content)
        self._rig.take(content)

    def _images(self, name: str) -> None:
        for content in world.images(name):
            self._come(name, content)

    def _part(self, name: str, bits: str) -> None:
        for index, content in enumerate(world.images(name)):
            if int(bits) >> index & 1:
                self._come(name, content)

    def _draw(self, name: str, kind: str) -> None:
        pen = self._pens[name]
        pen.kind = kind
        self._come_drawn(name, self._drawn(name))

    def _drawing(self, name: str) -> Drawing:
        pen = self._pens[name]
        return Drawing(pen.kind, pen.lesions, pen.version)

    def _drawn(self, name: str) -> bytes:
        return world.segmentation(name, self._drawing(name))

    def _come_drawn(self, name: str, content: bytes) -> None:
        self.received.drawn[world.uid_of(content)] = name, self._drawing(name)
        self._come(name, content)

    def _change(self, name: str, number: str, way: Callable[[int], int]) -> None:
        pen, at = self._pens[name], int(number)
        drawn = way(pen.lesions[at])
        if drawn == pen.lesions[at]:
            return
        lesions = (*pen.lesions[:at], drawn, *pen.lesions[at + 1 :])
        if not any(lesions):
            return
        pen.lesions, pen.version = lesions, pen.version + 1
        self._draw(name, pen.kind)

    def _edit(self, name: str, number: str) -> None:
        self._change(name, number, lambda was: was % VARIANTS + 1)

    def _delete(self, name: str, number: str) -> None:
        self._change(name, number, lambda _was: 0)

    def _add(self, name: str, number: str) -> None:
        self._change(name, number, lambda was: was or 1)

    def _again(self, name: str, bits: str) -> None:
        for index, content in enumerate(list(self._of[name])):
            if (index + 1) & int(bits):
                self._come(name, content)

    def _renamed(self, name: str) -> None:
        for content in list(self._of[name]):
            self._come(name, world.corrected(content))

    def _accept(self, name: str) -> None:
        received = self.received
        for uid in self._rig.accept(STUDIES[name].identity.study_uid):
            old, new = received.valid[uid], received.pending.pop(uid)
            received.valid[uid] = new
            received.replaced.append(old)
            received.others = [one for one in received.others if one not in (old, new)] + [old]

    def _theirs(self, name: str, other: str) -> None:
        self._come(other, world.as_of_another(self._drawn(name), other))

    def _mixed(self, name: str, other: str) -> None:
        self.received.mixed.add(name)
        self._come(other, world.as_of_another(world.images(name)[1], other))

    def _strayed(self, name: str, other: str) -> None:
        self._come_drawn(name, world.strayed(self._drawn(name), other))

    def _issuer(self, name: str) -> None:
        self._come(name, world.of_another_issuer(self._drawn(name)))

    def _retained(self, name: str, bits: str) -> None:
        aside = self._rig.aside()
        removed = self._rig.retain()
        swept = [aside[one] for one in aside.keys() - self._rig.aside().keys()]
        assert all(one in self.received.replaced for one in swept), "what waits was removed"
        self.received.others = [one for one in self.received.others if one not in swept]
        current = self._rig.current()
        for index, content in enumerate(world.images(name)):
            if int(bits) >> index & 1 and (uid := world.uid_of(content)) in removed:
                self._rig.take(self.received.valid[uid])
        self._rig.idle()
        assert self._rig.current() == current, "a part took the place of the whole"
        for uid in removed:  # its own outputs that came back are removed with their study
            self._rig.take(self.received.valid.get(uid) or self.received.own[uid])

    def _own(self) -> None:
        store, spool = self._rig.store, self._rig.spool
        for run in store.runs.all():
            for artifact in store.runs.artifacts(run.run_id):
                content = spool.path(artifact.sha256).read_bytes()
                self.received.own[artifact.sop_instance_uid] = content
                self._rig.take(content)

    # What the node does

    def _wait(self) -> None:
        self._rig.idle()

    def _look(self) -> None:
        self._rig.look()

    def _blink(self) -> None:
        self._rig.tick(1)

    def _work(self) -> None:
        self._rig.work_one()

    def _crash(self, step: str) -> None:
        self._rig.crash_in(step)

    def _restart(self) -> None:
        self._rig.restart()


_EVENTS: dict[str, Callable[..., None]] = {
    "images": History._images,
    "part": History._part,
    **{kind: lambda history, name, kind=kind: history._draw(name, kind) for kind in KINDS},
    "edit": History._edit,
    "delete": History._delete,
    "add": History._add,
    "again": History._again,
    "renamed": History._renamed,
    "accept": History._accept,
    "theirs": History._theirs,
    "mixed": History._mixed,
    "strayed": History._strayed,
    "issuer": History._issuer,
    "retained": History._retained,
    "own": History._own,
    "wait": History._wait,
    "look": History._look,
    "blink": History._blink,
    "work": History._work,
    "crash": History._crash,
    "restart": History._restart,
}
