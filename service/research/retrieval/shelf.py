"""Where a trial's objects are kept: a folder of files, or the node's own intake."""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Protocol

from mirv.analysis.errors import Reason
from mirv.config.errors import Unavailable, opening
from mirv.dicom_io.standard.uids import derive_uid, is_uid
from mirv.service.catalogue import Catalogue, EventKind
from mirv.service.objects.intake import Intake, Verdict
from mirv.service.objects.same_object import same_object
from mirv.service.objects.spool import Spool
from mirv.service.peers.sources.fetch import Address
from mirv.service.research.retrieval.received import Received

_PASSAGE = ".mirv-retrieve-"


class Shelf(Protocol):
    """What keeps objects; dry: nothing is kept, so no series is fetched for it."""

    @property
    def dry(self) -> bool:
        """Whether it keeps nothing."""

    def find(self, address: Address) -> Path | None:
        """The file of an object that was kept earlier."""

    def keep(self, address: Address, received: Received, source: str) -> Reason | None:
        """Keep an object for good; why it cannot be kept.

        Raises
        ------
        OSError, Transient
            The disk is full or broken, or the catalogue cannot be written now.
        """

    def note_series(self, address: Address, source: str, objects: int) -> None:
        """A series is there whole."""


class NoShelf:
    """Nothing is kept: what is asked is only what would be."""

    dry = True

    def find(self, address: Address) -> Path | None:
        """Nothing."""
        del address
        return None

    def keep(self, address: Address, received: Received, source: str) -> Reason | None:
        """Nothing is."""
        del address, received, source
        return None

    def note_series(self, address: Address, source: str, objects: int) -> None:
        """Nothing to note."""
        del address, source, objects


class FolderShelf:
    """Files below a folder: study, series, object, each by its UID.

    Parameters
    ----------
    folder : Path
    """

    dry = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, address: Address) -> Path | None:
        """The file of an object that was kept earlier."""
        path = self._path(address)
        return path if path.is_file() else None

    def keep(self, address: Address, received: Received, source: str) -> Reason | None:
        """Move a file to its place; what is there with other content stays."""
        del source
        path = self._path(address)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            received.path.replace(path)
        elif not same_object(path.read_bytes(), received.path.read_bytes()):
            return Reason(
                "other_content", "a file of this SOP Instance UID is there with other content"
            )
        return None

    def note_series(self, address: Address, source: str, objects: int) -> None:
        """Make the names of its files durable."""
        del source, objects
        folder = os.open(self._path(address).parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _path(self, address: Address) -> Path:
        names = (_name(address.study_uid), _name(address.series_uid))
        return self._folder.joinpath(*names, f"{_name(address.sop_instance_uid)}.dcm")


def _name(uid: str) -> str:
    """A name of a file for a UID from outside: a proper one is its own."""
    return uid if is_uid(uid) else derive_uid("file name", uid)


class NodeShelf:
    """The node's intake, beside the running node.

    Parameters
    ----------
    spool : Spool
    catalogue : Catalogue
    issuer_of : callable
        Issuer of what comes from a source without one.
    clock : callable
        Seconds since 1970.
    """

    dry = False

    def __init__(
        self,
        spool: Spool,
        catalogue: Catalogue,
        issuer_of: Callable[[str], str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._spool = spool
        self._catalogue = catalogue
        self._clock = clock
        self._intake = Intake(spool, catalogue, clock, issuer_of)

    def find(self, address: Address) -> Path | None:
        """The file of an object the node has."""
        row = self._catalogue.instances.find(address.sop_instance_uid)
        if row is None or row.removed_at is not None:
            return None
        if (row.study_uid, row.series_uid) != (address.study_uid, address.series_uid):
            return None
        path = self._spool.path(row.sha256)
        return path if path.is_file() else None

    def keep(self, address: Address, received: Received, source: str) -> Reason | None:
        """Take an object in, as what is fetched."""
        content = received.path.read_bytes()
        taken = self._intake.take(
            content, f"retrieve:{source}", claimed_uid=address.sop_instance_uid
        )
        received.path.unlink()
        if taken.verdict in (Verdict.STORED, Verdict.KNOWN):
            return None
        return taken.reason or Reason("put_aside", f"found verdict {taken.verdict}")

    def note_series(self, address: Address, source: str, objects: int) -> None:
        """Say it in the audit trail."""
        self._catalogue.events.add(
            self._clock(),
            EventKind.FETCHED,
            study_uid=address.study_uid,
            object_uid=address.series_uid,
            source=source,
            objects=objects,
        )


@contextmanager
def passage_in(folder: Path) -> Iterator[Path]:
    """A folder of passage inside this one, on the same file system; gone at the end.

    One process at a time: what a broken-off one left is removed.

    Parameters
    ----------
    folder : Path
        Made when absent.

    Raises
    ------
    Unavailable
        It cannot be made or written, or another process works on it.
    """
    with opening():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Unavailable(f"{folder}: another mirv retrieve works on it") from error
        with opening():
            for left in folder.glob(f"{_PASSAGE}*"):
                shutil.rmtree(left, ignore_errors=True)
            passage = Path(mkdtemp(prefix=_PASSAGE, dir=folder))
        try:
            yield passage
        finally:
            shutil.rmtree(passage, ignore_errors=True)
    finally:
        os.close(descriptor)
