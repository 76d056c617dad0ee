"""Orthanc as a source: its log of changes is followed, and what is new is fetched.

The position in the log is stored only after everything up to it is durable, so a crash repeats a
little and loses nothing; what is known already is not fetched again. One object is in memory at a
time, and one page of the log. A change of which something cannot be had is put off, and asked for
again until it is whole.
"""

import json
import math
import re
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from pyorthanc import Orthanc

from analysis.errors import Transient
from config.settings import Followed
from dicom_io.classes import IMAGE_CLASSES, SEGMENTATION_CLASSES
from dicom_io.header import OWN_MANUFACTURER
from service.intake import Intake
from service.log import get_logger
from service.state import Following
from service.store import Position, Store
from service.web import SECONDS, TooLarge, access, announced_size, body

WANTED_CLASSES = IMAGE_CLASSES | SEGMENTATION_CLASSES
_WANTED_MODALITIES = ("CT", "MR", "PT", "SEG", "RTSTRUCT")
_PAGE = 200
# What cannot be had for so long holds up no more what comes after it: it is put off, and asked
# for again as often. A restart or a full disk passes sooner.
_PUT_OFF_S = 900.0
# A server in trouble is not asked for all that it has.
_FAULTS_AT_ONCE = 3
_KINDS = {"stable_study": "StableStudy", "new_instance": "NewInstance"}
_NOBODY_THERE = (httpx.ConnectError, httpx.ConnectTimeout)
_NOT_ALLOWED = (401, 403)
_LIST_BYTES = 64 << 20
# An answer may take as long as a line of 1 Mbit/s takes, and no longer than this.
_SLOWEST = 128 << 10
_LONGEST_S = 3600.0
POSTPONED, CAUGHT_UP = "follow_postponed", "follow_caught_up"
_ID = re.compile(r"[0-9a-f-]{1,64}")
_CLASS_OF_FILE = struct.pack("<HH2s", 0x0002, 0x0002, b"UI")

T = TypeVar("T")

log = get_logger("orthanc")


class _Refused(Exception):  # noqa: N818 - the name says what happened
    """Orthanc answered, but not with what was asked for."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


class _Stopped(Exception):  # noqa: N818 - the name says what happened
    """The node ends."""


class _Odd(Exception):  # noqa: N818 - the name says what was found
    """An answer that is not Orthanc's."""


class _Oversized(_Odd):
    """An answer longer than is taken, which it will always be."""


_FAULTS = (_Refused, _Odd, httpx.HTTPError)


@dataclass(frozen=True, slots=True)
class _Resource:
    """A series or an instance as Orthanc lists it."""

    identifier: str
    tags: dict[str, Any]


class Follower:
    """Follows one Orthanc.

    Parameters
    ----------
    wanted : Followed
    intake : Intake
    store : Store
    max_object_bytes : int
        Larger objects are not taken.
    paused : callable
        True while nothing is to be fetched; a study that was begun is fetched to its end.
    stopping : callable
        True when the node ends: what is left of a study comes after the next start.
    clock : callable
        Seconds since 1970.
    """

    def __init__(
        self,
        wanted: Followed,
        intake: Intake,
        store: Store,
        max_object_bytes: int,
        paused: Callable[[], bool] = lambda: False,
        stopping: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.state = Following()
        self._wanted = wanted
        self._intake = intake
        self._store = store
        self._max_object_bytes = max_object_bytes
        self._paused = paused
        self._stopping = stopping
        self._clock = clock
        self._failing_since: dict[int, float] = {}
        self._left_out = set[str]()
        self._hard = set[str]()
        self._caught_up_at = -math.inf
        self._orthanc = Orthanc(wanted.url.rstrip("/"), return_raw_response=True, **access(wanted))

    def close(self) -> None:
        """Close the connection."""
        self._orthanc.close()

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
        except httpx.HTTPError as fault:
            if isinstance(fault, _NOBODY_THERE):
                # Time that it was away is not time that it could not give an object.
                self._failing_since.clear()
            self._note_fault(type(fault).__name__)
        except (_Refused, _Odd) as fault:
            self._note_fault(str(fault))
        else:
            self._note_fault("")
            return more
        return False

    def _note_fault(self, fault: str) -> None:
        if fault and fault != self.state.fault:
            log.warning("following interrupted", source=self._wanted.name, why=fault)
        self.state.fault = fault

    def _turn(self) -> bool:
        if self._paused():
            return False
        position = self._store.positions.get(self._wanted.name)
        if position is None:
            return self._begin()
        # From one before the position: the change there must still be the one we know.
        page = self._changes(since=max(position.number - 1, 0), limit=_PAGE)
        self.state.contact_at = self._clock()
        self.state.position, self.state.last = position.number, page["Last"]
        if self._is_another_log(position, page):
            log.warning("orthanc was reset: followed from its beginning", source=self._wanted.name)
            self._store.events.add(self._clock(), "follow_reset", source=self._wanted.name)
            self._put(Position(0, ""))
            return True
        self._catch_up()
        new = [one for one in page["Changes"] if one["Seq"] > position.number]
        for change in new:
            if self._paused():
                return False
            if self._deal_with(change):
                self._put(Position(change["Seq"], _mark(change)))
        if new and self.state.position < new[-1]["Seq"]:
            self._put(Position(new[-1]["Seq"], _mark(new[-1])))
        return not page["Done"]

    def _begin(self) -> bool:
        if self._wanted.begin == "beginning":
            self._put(Position(0, ""))
            return True
        page = self._changes(last=True)
        self._put(Position(page["Last"], _mark(page["Changes"][-1]) if page["Changes"] else ""))
        return False

    def _is_another_log(self, position: Position, page: dict[str, Any]) -> bool:
        """Whether the log is not the one the position is in: Orthanc began anew.

        Changes go with their studies, so that the one we know may be missing says nothing. A log
        that ends before our position is another one unless its end is older than our mark.
        """
        for change in page["Changes"]:
            if change["Seq"] == position.number:
                return bool(position.mark) and _mark(change) != position.mark
        if page["Last"] >= position.number:
            return False
        ends = self._changes(last=True)["Changes"]
        return not ends or _date(_mark(ends[-1])) > _date(position.mark)

    def _deal_with(self, change: dict[str, Any]) -> bool:
        """Fetch what a change tells of; whether it tells of something we follow."""
        number, kind = change["Seq"], change["ChangeType"]
        if kind != _KINDS[self._wanted.on]:
            return False
        try:
            self._take_all(kind, change["ID"], number)
        except _FAULTS as fault:
            now = self._clock()
            since = self._failing_since.setdefault(number, now)
            if _says_nothing_of_it(fault) or now - since < _PUT_OFF_S:
                raise
            # One object that Orthanc cannot give must not hold up all that come after it.
            self._postpone(kind, change["ID"], number, _words(fault))
        self._failing_since.pop(number, None)
        return True

    def _take_all(self, kind: str, resource: str, change: int) -> None:
        take = self._take_study if kind == _KINDS["stable_study"] else self._take_instance
        take(resource, change)

    def _postpone(self, kind: str, resource: str, change: int, why: str) -> None:
        log.error("put off", source=self._wanted.name, change=change, why=why)
        self._note(POSTPONED, kind, resource, change, why=why)
        self.state.postponed += 1

    def _catch_up(self) -> None:
        """Ask again for what was put off; it stays so until Orthanc gives it, or has it no more."""
        now = self._clock()
        if abs(now - self._caught_up_at) < _PUT_OFF_S:
            return
        left = self._postponed()
        self.state.postponed = len(left)
        for kind, resource, change in left:
            if self._paused():
                return
            try:
                self._take_all(kind, resource, change)
            except _FAULTS as fault:
                if _says_nothing_of_it(fault):
                    raise
                log.warning("still put off", source=self._wanted.name, why=_words(fault))
            else:
                self._note(CAUGHT_UP, kind, resource, change)
                self.state.postponed -= 1
        self._caught_up_at = now

    def _postponed(self) -> list[tuple[str, str, int]]:
        """(kind, resource, last change) of what was put off and has not come since."""
        found = {
            (one.detail["change_type"], one.detail["resource"]): one.detail["change"]
            for one in self._store.events.unsettled(POSTPONED, CAUGHT_UP)
            if one.detail["source"] == self._wanted.name
        }
        return [(kind, resource, change) for (kind, resource), change in found.items()]

    def _note(self, event: str, kind: str, resource: str, change: int, **more: str) -> None:
        self._store.events.add(
            self._clock(),
            event,
            object_uid=f"{self._wanted.name} {kind} {resource}",
            source=self._wanted.name,
            change_type=kind,
            resource=resource,
            change=change,
            **more,
        )

    def _skip(self, change: int, resource: str, why: str) -> None:
        log.error("skipped", source=self._wanted.name, change=change, why=why)
        self._store.events.add(
            self._clock(),
            "follow_skipped",
            source=self._wanted.name,
            change=change,
            resource=resource,
            why=why,
        )

    def _put(self, position: Position) -> None:
        self._store.positions.put(self._wanted.name, position, self._clock())
        self.state.position = position.number

    # Objects

    def _take_study(self, study: str, change: int) -> None:
        series = [
            one
            for one in self._resources(f"/studies/{study}/series")
            if one.tags.get("Modality") in _WANTED_MODALITIES
            and one.tags.get("Manufacturer") != OWN_MANUFACTURER
        ]
        taken = self._each(series, lambda one: self._take_series(one, change))
        if taken:
            log.info("fetched", source=self._wanted.name, objects=taken)

    def _take_series(self, series: _Resource, change: int) -> int:
        wanted: bool | None = None

        def take(one: _Resource) -> int:
            nonlocal wanted
            if wanted is None:  # all of a series are alike
                wanted = self._class_of(one.identifier) in WANTED_CLASSES
            return self._take(one.identifier, change) if wanted else 0

        listed = self._resources(f"/series/{series.identifier}/instances")
        return self._each([one for one in listed if not self._is_known(one)], take)

    def _each(self, found: list[_Resource], take: Callable[[_Resource], int]) -> int:
        """Take what can be had, and raise what the rest met; that goes last the next time."""
        taken, faults = 0, list[Exception]()
        for one in sorted(found, key=lambda one: one.identifier in self._hard):
            try:
                taken += take(one)
            except _FAULTS as fault:
                faults.append(fault)
                if _says_nothing_of_it(fault):
                    break
                self._hard.add(one.identifier)
                if len(faults) == _FAULTS_AT_ONCE:
                    break
            else:
                self._hard.discard(one.identifier)
        if faults:
            raise faults[-1]
        return taken

    def _take_instance(self, instance: str, change: int) -> None:
        if self._class_of(instance) in WANTED_CLASSES:
            for found in self._resources(f"/instances/{instance}"):
                if not self._is_known(found):
                    self._take(instance, change)

    def _is_known(self, instance: _Resource) -> bool:
        row = self._store.instances.find(str(instance.tags.get("SOPInstanceUID")))
        return row is not None and row.removed_at is None

    def _take(self, instance: str, change: int) -> int:
        if self._stopping():
            raise _Stopped
        if instance in self._left_out:
            return 0
        try:
            content = self._get(f"/instances/{instance}/file", self._max_object_bytes)
        except _Oversized as fault:
            # It will be no smaller next time; the others of its study are taken.
            self._skip(change, instance, str(fault))
            self._left_out.add(instance)
            return 0
        if content is None or _class_of_file(content) not in WANTED_CLASSES:
            return 0
        # Whatever the verdict: it is indexed, or in quarantine with its reason.
        self._intake.take(content, f"follow:{self._wanted.name}")
        self.state.objects += 1
        return 1

    def _class_of(self, instance: str) -> str:
        content = self._get(f"/instances/{instance}/metadata/SopClassUid", 4096)
        return (content or b"").decode("ascii", "replace").strip()

    # What Orthanc says

    def _changes(self, **wanted: int | bool) -> dict[str, Any]:
        params = {name: "" if value is True else value for name, value in wanted.items()}
        content = self._get("/changes", _LIST_BYTES, params)
        if content is None:
            raise _Refused(httpx.codes.NOT_FOUND)
        return self._read(content, _checked)

    def _resources(self, path: str) -> list[_Resource]:
        """What is listed at this path, none when it is gone."""
        content = self._get(path, _LIST_BYTES)
        return [] if content is None else self._read(content, _listed)

    def _read(self, content: bytes, parse: Callable[[Any], T]) -> T:
        try:
            return parse(json.loads(content))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as fault:
            raise _Odd("found no answer of Orthanc's: check the url") from fault

    def _get(self, path: str, limit: int, params: dict[str, Any] | None = None) -> bytes | None:
        """What is at this path; None when it is gone: deleted since the change."""
        with self._orthanc.stream("GET", self._orthanc.url + path, params=params) as answer:
            if answer.status_code == httpx.codes.NOT_FOUND:
                return None
            if not answer.is_success:
                raise _Refused(answer.status_code)
            try:
                return body(answer, limit, _patience(announced_size(answer) or limit))
            except TooLarge as fault:
                raise _Oversized(str(fault)) from fault
            except Transient as fault:
                raise _Odd(str(fault)) from fault


def _patience(size: int) -> float:
    return min(SECONDS + size / _SLOWEST, _LONGEST_S)


def _words(fault: Exception) -> str:
    return str(fault) or type(fault).__name__


def _says_nothing_of_it(fault: Exception) -> bool:
    """Whether a fault is not the object's: no one is there, or will not let us in."""
    refused = isinstance(fault, _Refused) and fault.status in _NOT_ALLOWED
    return refused or isinstance(fault, _NOBODY_THERE)


def _checked(page: Any) -> dict[str, Any]:
    changes = [
        {
            "Seq": int(one["Seq"]),
            "ChangeType": str(one["ChangeType"]),
            "ID": _known_id(one),
            "Date": str(one["Date"]),
        }
        for one in page["Changes"]
    ]
    return {"Changes": changes, "Done": bool(page["Done"]), "Last": int(page["Last"])}


def _listed(found: Any) -> list[_Resource]:
    ones = found if isinstance(found, list) else [found]
    return [_Resource(_known_id(one), dict(one.get("MainDicomTags") or {})) for one in ones]


def _known_id(resource: Any) -> str:
    """Orthanc's identifier of a resource; it becomes part of an address, so it is checked."""
    found = str(resource["ID"])
    if not _ID.fullmatch(found):
        raise ValueError(f"found identifier {found[:80]!r}, wanted Orthanc's hexadecimal form")
    return found


def _mark(change: dict[str, Any]) -> str:
    return f"{change['Date']} {change['ChangeType']} {change['ID']}"


def _date(mark: str) -> str:
    return mark.partition(" ")[0]


def _class_of_file(content: bytes) -> str:
    """Media Storage SOP Class UID of a Part 10 file (PS3.10 section 7.1), "" when there is none."""
    at = content.find(_CLASS_OF_FILE, 132, 4096)
    if at < 0:
        return ""
    (length,) = struct.unpack_from("<H", content, at + 6)
    return content[at + 8 : at + 8 + length].rstrip(b"\0 ").decode("ascii", "replace")
