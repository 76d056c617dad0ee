"""Talking to an Orthanc: its log of changes, what it lists, and its files.

Nothing it says is believed unread: identifiers become parts of addresses, sizes become memory.
"""

import json
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from pyorthanc import Orthanc

from mirv.analysis.errors import Transient
from mirv.config.errors import MirvError
from mirv.config.settings.network import Followed
from mirv.service.peers.web_client import SECONDS, TooLarge, access, announced_size, body

_NOBODY_THERE = (httpx.ConnectError, httpx.ConnectTimeout)
_NOT_ALLOWED = (401, 403)
_LIST_BYTES = 64 << 20
# An answer may take as long as a line of 1 Mbit/s takes, and no longer than this.
_SLOWEST = 128 << 10
_LONGEST_S = 3600.0
_ID = re.compile(r"[0-9a-f-]{1,64}")
_CLASS_OF_FILE = struct.pack("<HH2s", 0x0002, 0x0002, b"UI")

T = TypeVar("T")


class Refused(MirvError):  # noqa: N818 - the name says what happened
    """Orthanc answered, but not with what was asked for."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


class Odd(MirvError):  # noqa: N818 - the name says what was found
    """An answer that is not Orthanc's."""


class Oversized(Odd):
    """An answer longer than is taken, which it will always be."""


FAULTS = (Refused, Odd, httpx.HTTPError)


@dataclass(frozen=True, slots=True)
class Resource:
    """A series or an instance as Orthanc lists it."""

    identifier: str
    tags: dict[str, Any]


class OrthancSource:
    """One Orthanc and how it is asked.

    Parameters
    ----------
    settings : Followed
    """

    def __init__(self, settings: Followed) -> None:
        self._orthanc = Orthanc(
            settings.url.rstrip("/"), return_raw_response=True, **access(settings)
        )

    def close(self) -> None:
        """Close the connection."""
        self._orthanc.close()

    def changes(self, **asked: int | bool) -> dict[str, Any]:
        """A page of the log.

        Parameters
        ----------
        asked : int or bool
            ``since`` and ``limit``, or ``last=True`` for the last change alone.

        Returns
        -------
        dict
            ``Changes`` (each with ``Seq``, ``ChangeType``, ``ID``, ``Date``), ``Done``, ``Last``.
        """
        params = {name: "" if value is True else value for name, value in asked.items()}
        content = self._get("/changes", _LIST_BYTES, params)
        if content is None:
            raise Refused(httpx.codes.NOT_FOUND)
        return self._read(content, _checked)

    def resources(self, path: str) -> list[Resource]:
        """What is listed at this path, none when it is gone.

        Parameters
        ----------
        path : str
            Below the server's url, such as ``/series/{id}``.

        Returns
        -------
        list of Resource

        Raises
        ------
        Refused, Odd, Oversized
            It answered otherwise than it should.
        httpx.HTTPError
            It cannot be reached or broke off.
        """
        content = self._get(path, _LIST_BYTES)
        return [] if content is None else self._read(content, _listed)

    def class_of(self, instance: str) -> str:
        """SOP Class UID of an instance, "" when it is gone.

        Parameters
        ----------
        instance : str
            Orthanc's own identifier.

        Returns
        -------
        str

        Raises
        ------
        Refused, Odd, Oversized
            It answered otherwise than it should.
        httpx.HTTPError
            It cannot be reached or broke off.
        """
        content = self._get(f"/instances/{instance}/metadata/SopClassUid", 4096)
        return (content or b"").decode("ascii", "replace").strip()

    def file(self, instance: str, limit: int) -> bytes | None:
        """The Part 10 file of an instance; None when it is gone.

        Raises
        ------
        Oversized
            It is larger than `limit` bytes.
        """
        return self._get(f"/instances/{instance}/file", limit)

    def _read(self, content: bytes, parse: Callable[[Any], T]) -> T:
        try:
            return parse(json.loads(content))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as fault:
            raise Odd("found no answer of Orthanc's: check the url") from fault

    def _get(self, path: str, limit: int, params: dict[str, Any] | None = None) -> bytes | None:
        """What is at this path; None when it is gone: deleted since the change."""
        with self._orthanc.stream("GET", self._orthanc.url + path, params=params) as answer:
            if answer.status_code == httpx.codes.NOT_FOUND:
                return None
            if not answer.is_success:
                raise Refused(answer.status_code)
            try:
                return body(answer, limit, _patience(announced_size(answer) or limit))
            except TooLarge as fault:
                raise Oversized(str(fault)) from fault
            except Transient as fault:
                raise Odd(str(fault)) from fault


def _patience(size: int) -> float:
    return min(SECONDS + size / _SLOWEST, _LONGEST_S)


def words(fault: Exception) -> str:
    """What a fault says of itself, never nothing."""
    return str(fault) or type(fault).__name__


def in_short(fault: Exception) -> str:
    """What interrupted the following: httpx's own words name the address, so its kind alone."""
    return type(fault).__name__ if isinstance(fault, httpx.HTTPError) else str(fault)


def says_nothing_of_it(fault: Exception) -> bool:
    """Whether a fault is not the object's: no one is there, or will not let us in."""
    refused = isinstance(fault, Refused) and fault.status in _NOT_ALLOWED
    return refused or is_away(fault)


def is_away(fault: Exception) -> bool:
    """Whether no one is there."""
    return isinstance(fault, _NOBODY_THERE)


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


def _listed(found: Any) -> list[Resource]:
    ones = found if isinstance(found, list) else [found]
    return [Resource(_known_id(one), dict(one.get("MainDicomTags") or {})) for one in ones]


def _known_id(resource: Any) -> str:
    """Orthanc's identifier of a resource; it becomes part of an address, so it is checked."""
    found = str(resource["ID"])
    if not _ID.fullmatch(found):
        raise ValueError(f"found identifier {found[:80]!r}, wanted Orthanc's hexadecimal form")
    return found


def mark(change: dict[str, Any]) -> str:
    """What a change was: another log of the same numbers has another."""
    return f"{change['Date']} {change['ChangeType']} {change['ID']}"


def date_of(mark: str) -> str:
    """When the change of this mark was."""
    return mark.partition(" ")[0]


def class_of_file(content: bytes) -> str:
    """Media Storage SOP Class UID of a Part 10 file (PS3.10 section 7.1), "" when there is none.

    Parameters
    ----------
    content : bytes
        Of the file, from its start.

    Returns
    -------
    str
    """
    at = content.find(_CLASS_OF_FILE, 132, 4096)
    if at < 0:
        return ""
    (length,) = struct.unpack_from("<H", content, at + 6)
    return content[at + 8 : at + 8 + length].rstrip(b"\0 ").decode("ascii", "replace")
