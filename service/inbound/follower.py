"""Orthanc as a source: its log of changes is followed, and what is new is fetched.

The position in the log is stored only after everything up to it is durable, so a crash repeats a
little and loses nothing; what is known already is not fetched again. One object is in memory at a
time, and one page of the log. A change of which something cannot be had is put off, and asked for
again until it is whole.
"""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mirv.config.settings.network import Followed
from mirv.dicom_io.standard.classes import INPUT_CLASSES
from mirv.dicom_io.standard.identity import made_here
from mirv.service.catalogue import Catalogue, Change, EventKind, Position
from mirv.service.objects.intake import Intake
from mirv.service.peers.sources.orthanc import (
    FAULTS,
    OrthancSource,
    Oversized,
    Resource,
    class_of_file,
    date_of,
    in_short,
    is_away,
    mark,
    says_nothing_of_it,
    words,
)
from mirv.service.runtime.log import get_logger
from mirv.service.runtime.state import Following

WANTED_CLASSES = frozenset(one.uid for one in INPUT_CLASSES)
_WANTED_MODALITIES = frozenset(one.modality for one in INPUT_CLASSES)
_PAGE = 200
# What cannot be had for so long holds up no more what comes after it: it is put off, and asked
# for again as often. A restart or a full disk passes sooner.
_PUT_OFF_S = 900.0
# An object whose fetching makes Orthanc crash is put off when it went away so often after it.
_MOST_LOSSES = 5
# What was put off is asked for again for so long a turn, then it is the turn of what is new.
_CATCH_UP_S = 10.0
# A server in trouble is not asked for all that it has.
_FAULTS_AT_ONCE = 3
_KINDS = {"stable_study": "StableStudy", "new_instance": "NewInstance"}


log = get_logger("follower")


class _Stopped(Exception):  # noqa: N818 - the name says what happened
    """The node ends."""


@dataclass(slots=True)
class _Failing:
    """The change that holds up the log; time without Orthanc is taken out of `since`."""

    change: int
    since: float
    losses: int = 0


@dataclass(slots=True)
class _PutOff:
    """What was put off and has not come since."""

    change: Change
    asked_at: float = -math.inf


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a follower asks while it works.

    Attributes
    ----------
    paused : callable
        True while nothing is to be fetched; a study that was begun is fetched to its end.
    stopping : callable
        True when the node ends: what is left of a study comes after the next start.
    clock : callable
        Seconds since 1970.
    steady : callable
        Seconds of a clock that is never set.
    """

    paused: Callable[[], bool] = lambda: False
    stopping: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic


class Follower:
    """Follows one Orthanc.

    Parameters
    ----------
    wanted : Followed
    intake : Intake
    catalogue : Catalogue
    max_object_bytes : int
        Larger objects are not taken.
    around : Surroundings
    """

    def __init__(
        self,
        wanted: Followed,
        intake: Intake,
        catalogue: Catalogue,
        max_object_bytes: int,
        around: Surroundings,
    ) -> None:
        self.state = Following()
        self._wanted = wanted
        self._intake = intake
        self._catalogue = catalogue
        self._max_object_bytes = max_object_bytes
        self._paused = around.paused
        self._stopping = around.stopping
        self._clock = around.clock
        self._steady = around.steady
        self._failing: _Failing | None = None
        self._away_since: float | None = None
        self._put_off: dict[tuple[str, str], _PutOff] | None = None
        self._left_out = set[str]()
        self._hard = set[str]()
        self._source = OrthancSource(wanted)

    def close(self) -> None:
        """Close the connection."""
        self._source.close()

    def turn(self) -> bool:
        """Deal with one page of changes; True when there are more at once.

        An Orthanc that cannot be reached, or has trouble of its own, is asked again at the next
        turn; the position stays.

        Raises
        ------
        Transient, OSError
            Our own disk or catalogue: nothing is lost, the position stays.
        """
        try:
            more = self._turn()
        except _Stopped:
            return False
        except FAULTS as fault:
            if says_nothing_of_it(fault):
                self._note_away(fault)
            self._note_fault(in_short(fault))
        else:
            self._note_fault("")
            return more
        return False

    def _note_fault(self, fault: str) -> None:
        if fault and fault != self.state.fault:
            log.warning("following interrupted", source=self._wanted.name, why=fault)
        self.state.fault = fault

    def _note_away(self, fault: Exception) -> None:
        if self._away_since is not None:
            return
        self._away_since = self._steady()
        if self._failing is not None and is_away(fault):
            self._failing.losses += 1

    def _note_contact(self) -> None:
        """Time that it was away is not time that it could not give an object."""
        if self._away_since is not None and self._failing is not None:
            self._failing.since += self._steady() - self._away_since
        self._away_since = None

    def _turn(self) -> bool:
        if self._paused():
            return False
        position = self._catalogue.positions.get(self._wanted.name)
        if position is None:
            return self._begin()
        # From one before the position: the change there must still be the one we know.
        page = self._source.changes(since=max(position.number - 1, 0), limit=_PAGE)
        self._note_contact()
        self.state.contact_at = self._clock()
        self.state.position, self.state.last = position.number, page["Last"]
        if self._is_another_log(position, page):
            log.warning("orthanc was reset: followed from its beginning", source=self._wanted.name)
            self._catalogue.events.add(
                self._clock(), EventKind.FOLLOW_RESET, source=self._wanted.name
            )
            self._failing = None
            self._put(Position(0, ""))
            return True
        self.state.postponed = len(self._waiting())
        try:
            self._take_new([one for one in page["Changes"] if one["Seq"] > position.number])
        except FAULTS as fault:
            if not says_nothing_of_it(fault):
                # What is put off may come while one change holds up the log.
                with suppress(*FAULTS):
                    self._catch_up()
            raise
        self._catch_up()
        return not page["Done"] and not self._paused()

    def _take_new(self, new: list[dict[str, Any]]) -> None:
        for change in new:
            if self._paused():
                return
            if self._deal_with(change):
                self._put(Position(change["Seq"], mark(change)))
        if new and self.state.position < new[-1]["Seq"]:
            self._put(Position(new[-1]["Seq"], mark(new[-1])))

    def _begin(self) -> bool:
        if self._wanted.begin == "beginning":
            self._put(Position(0, ""))
            return True
        page = self._source.changes(last=True)
        self._put(Position(page["Last"], mark(page["Changes"][-1]) if page["Changes"] else ""))
        return False

    def _is_another_log(self, position: Position, page: dict[str, Any]) -> bool:
        """Whether the log is not the one the position is in: Orthanc began anew.

        Changes go with their studies, so that the one we know may be missing says nothing. A log
        that ends before our position is another one unless its end is older than our mark.
        """
        for change in page["Changes"]:
            if change["Seq"] == position.number:
                return bool(position.mark) and mark(change) != position.mark
        if page["Last"] >= position.number:
            return False
        ends = self._source.changes(last=True)["Changes"]
        return not ends or date_of(mark(ends[-1])) > date_of(position.mark)

    def _deal_with(self, change: dict[str, Any]) -> bool:
        """Fetch what a change tells of; whether it tells of something we follow."""
        number, kind = change["Seq"], change["ChangeType"]
        if kind != _KINDS[self._wanted.on]:
            return False
        told = Change(self._wanted.name, kind, change["ID"], number)
        try:
            self._take_all(told)
        except FAULTS as fault:
            if says_nothing_of_it(fault) or not self._has_failed_enough(number):
                raise
            # One object that Orthanc cannot give must not hold up all that come after it.
            self._postpone(told, words(fault))
        self._failing = None
        return True

    def _has_failed_enough(self, change: int) -> bool:
        now = self._steady()
        if self._failing is None or self._failing.change != change:
            self._failing = _Failing(change, now)
        return now - self._failing.since >= _PUT_OFF_S or self._failing.losses >= _MOST_LOSSES

    def _take_all(self, change: Change) -> None:
        of_study = change.change_type == _KINDS["stable_study"]
        take = self._take_study if of_study else self._take_instance
        take(change.resource, change.number)

    def _postpone(self, change: Change, why: str) -> None:
        log.error("put off", source=change.source, change=change.number, why=why)
        self._catalogue.positions.postpone(change, why, self._clock())
        waiting = self._waiting()
        waiting[_about(change)] = _PutOff(change, self._steady())
        self.state.postponed = len(waiting)

    def _catch_up(self) -> None:
        """Ask again for some of what was put off, first for what was asked for longest ago.

        It stays put off until Orthanc gives it, or has it no more.
        """
        begun, faults = self._steady(), 0
        due = [one for one in self._waiting().values() if begun - one.asked_at >= _PUT_OFF_S]
        for one in sorted(due, key=lambda one: one.asked_at):
            late = self._steady() - begun >= _CATCH_UP_S
            if late or faults == _FAULTS_AT_ONCE or self._paused():
                return
            faults += not self._comes_now(one)

    def _comes_now(self, one: _PutOff) -> bool:
        try:
            self._take_all(one.change)
        except FAULTS as fault:
            if says_nothing_of_it(fault):
                raise
            log.warning("still put off", source=self._wanted.name, why=words(fault))
            # Not before: what takes long would be due again as soon as it ends.
            one.asked_at = self._steady()
            return False
        self._catalogue.positions.catch_up(one.change, self._clock())
        del self._waiting()[_about(one.change)]
        self.state.postponed = len(self._waiting())
        return True

    def _waiting(self) -> dict[tuple[str, str], _PutOff]:
        """What is put off, by kind and resource; after a start as the catalogue has it."""
        if self._put_off is None:
            known = self._catalogue.positions.postponed(self._wanted.name)
            self._put_off = {_about(change): _PutOff(change) for change in known}
        return self._put_off

    def _skip(self, change: int, resource: str, why: str) -> None:
        log.error("skipped", source=self._wanted.name, change=change, why=why)
        self._catalogue.events.add(
            self._clock(),
            EventKind.FOLLOW_SKIPPED,
            source=self._wanted.name,
            change=change,
            resource=resource,
            why=why,
        )

    def _put(self, position: Position) -> None:
        self._catalogue.positions.put(self._wanted.name, position, self._clock())
        self.state.position = position.number

    # Objects

    def _take_study(self, study: str, change: int) -> None:
        series = [
            one
            for one in self._source.resources(f"/studies/{study}/series")
            if one.tags.get("Modality") in _WANTED_MODALITIES
            and not made_here([one.tags.get("Manufacturer")])
        ]
        taken = self._each(series, lambda one: self._take_series(one, change))
        if taken:
            log.info("fetched", source=self._wanted.name, objects=taken)

    def _take_series(self, series: Resource, change: int) -> int:
        wanted: bool | None = None

        def take(one: Resource) -> int:
            nonlocal wanted
            if wanted is None:  # all of a series are alike
                wanted = self._source.class_of(one.identifier) in WANTED_CLASSES
            return self._take(one.identifier, change) if wanted else 0

        listed = self._source.resources(f"/series/{series.identifier}/instances")
        return self._each([one for one in listed if not self._is_known(one)], take)

    def _each(self, found: list[Resource], take: Callable[[Resource], int]) -> int:
        """Take what can be had, and raise what the rest met; that goes last the next time."""
        taken, faults = 0, list[Exception]()
        for one in sorted(found, key=lambda one: one.identifier in self._hard):
            try:
                taken += take(one)
            except FAULTS as fault:
                faults.append(fault)
                if says_nothing_of_it(fault):
                    break
                self._hard.add(one.identifier)
                if len(faults) == _FAULTS_AT_ONCE:
                    break
            else:
                self._hard.discard(one.identifier)
        if faults:
            # Not the last: after an object that makes Orthanc crash, no one is there.
            raise faults[0]
        return taken

    def _take_instance(self, instance: str, change: int) -> None:
        if self._source.class_of(instance) in WANTED_CLASSES:
            for found in self._source.resources(f"/instances/{instance}"):
                if not self._is_known(found):
                    self._take(instance, change)

    def _is_known(self, instance: Resource) -> bool:
        row = self._catalogue.instances.find(str(instance.tags.get("SOPInstanceUID")))
        return row is not None and row.removed_at is None

    def _take(self, instance: str, change: int) -> int:
        if self._stopping():
            raise _Stopped
        if instance in self._left_out:
            return 0
        try:
            content = self._source.file(instance, self._max_object_bytes)
        except Oversized as fault:
            # It will be no smaller next time; the others of its study are taken.
            self._skip(change, instance, str(fault))
            self._left_out.add(instance)
            return 0
        if content is None or class_of_file(content) not in WANTED_CLASSES:
            return 0
        # Whatever the verdict: it is indexed, or in quarantine with its reason.
        self._intake.take(content, f"follow:{self._wanted.name}")
        self.state.objects += 1
        return 1


def _about(change: Change) -> tuple[str, str]:
    return change.change_type, change.resource
