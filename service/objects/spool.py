"""Received and made objects on disk: durable before anyone is told, never overwritten.

Layout::

    spool/
      incoming/      temporary files of writes under way; swept at start
      objects/ab/    content-addressed by SHA-256: received objects, results, artifacts
      quarantine/ab/ the same for what could not be taken in, or counts no more

Names come from content hashes alone: no string of a peer ever reaches a path.
"""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import itertools
import mmap
import os
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Area = Literal["objects", "quarantine"]
AREAS: tuple[Area, ...] = ("objects", "quarantine")
_NUMBERS = itertools.count()
Buffer = bytes | bytearray | memoryview
_MACHINE = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_FOREIGN_LEFTOVER_S = 86400.0
# POSIX promises nothing here, but this journal does: a link changes the file's own inode, and the
# sync of a file commits the whole change. `python -m tests.bench powercut` shows it.
_NAMES_FOLLOW_FILES = frozenset({"ext4"})
# Who sent a file, kept with it for a repair that finds no row; not every file system can.
_SOURCE = "user.mirv.source"
_PAGE = mmap.PAGESIZE
# Less is not worth a wait for the disk of its own.
_LARGE = 64 * 1024
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A file that is on disk for good.

    Attributes
    ----------
    path : Path
    sha256 : str
        Of the whole file.
    size : int
        Bytes.
    """

    path: Path
    sha256: str
    size: int


class Staged:
    """Content written under a temporary name, neither synced nor in its place yet."""

    def __init__(
        self, spool: "Spool", temporary: Path, descriptor: int, sha256: str, size: int
    ) -> None:
        self._spool = spool
        self._temporary = temporary
        self._descriptor = descriptor
        self.sha256 = sha256
        self.size = size

    def keep(self, area: Area = "objects") -> StoredObject:
        """Give the content its place; durable when this returns.

        The new name comes before the sync of the file, so that one commit of the file system's
        journal carries both; where that is not so, the folder is synced too. Until then the file
        has no row and no one was told: if the power goes, a start-up repair finds a name that its
        content does not match. A name that is there already is never left to such a fate: its new
        content is synced first.

        Raises
        ------
        OSError
            The disk is full or broken; nothing is left behind.
        """
        target = self._spool.path(self.sha256, area)
        if _linked(self._temporary, target):
            self._temporary.unlink()
            try:
                os.fsync(self._descriptor)
            except OSError:
                self._take_back(target)
                raise
            if not self._spool.names_follow_files:
                _sync_folder(target.parent)
        else:
            os.fsync(self._descriptor)
            with _locked(target.parent):
                self._temporary.replace(target)
            _sync_folder(target.parent)
        return StoredObject(target, self.sha256, self.size)

    def _take_back(self, target: Path) -> None:
        """Remove our file, but not one that another sender of the same has put in its place."""
        with _locked(target.parent), contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._descriptor), target.stat()):
                target.unlink()

    def discard(self) -> None:
        """Remove what is not kept; to be called in any case."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._temporary.unlink(missing_ok=True)


class Spool:
    """A folder of content-addressed files.

    Parameters
    ----------
    folder : Path
        Made when absent. Several processes may share it.

    Attributes
    ----------
    names_follow_files : bool
        Whether syncing a file that has just been given a name makes the name durable too.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._incoming = folder / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        for area in AREAS:
            for number in range(256):
                (folder / area / f"{number:02x}").mkdir(parents=True, exist_ok=True)
            _sync_folder(folder / area)
        _sync_folder(folder)
        self.names_follow_files = _file_system(folder) in _NAMES_FOLLOW_FILES

    def path(self, sha256: str, area: Area = "objects") -> Path:
        """Where content of this hash lies, whether it is there or not.

        Raises
        ------
        ValueError
            Not a SHA-256 in lower-case hex.
        """
        if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
            raise ValueError(f"found {sha256[:80]!r}, wanted a SHA-256 in lower-case hex")
        return self.folder / area / sha256[:2] / sha256

    def stage(self, parts: Iterable[Buffer], *, sha256: str = "", source: str = "") -> Staged:
        """Write the parts under a unique temporary name.

        Parameters
        ----------
        sha256 : str
            Of all parts, when it is known.
        source : str
            Who sent it; remembered with the file where the file system can.

        Raises
        ------
        OSError
            The disk is full or broken; nothing is left behind.
        """
        descriptor, name = self._temporary()
        digest = None if sha256 else hashlib.sha256()
        size = 0
        try:
            for part in parts:
                view = memoryview(part).cast("B")
                if digest is not None:
                    digest.update(view)
                size += view.nbytes
                _write(descriptor, view)
            if source:
                with contextlib.suppress(OSError):
                    os.setxattr(descriptor, _SOURCE, source.encode())
        except BaseException:
            os.close(descriptor)
            Path(name).unlink(missing_ok=True)
            raise
        known = sha256 if digest is None else digest.hexdigest()
        return Staged(self, Path(name), descriptor, known, size)

    def _temporary(self) -> tuple[int, str]:
        """A new file that no one else has, named after machine and process."""
        while True:
            name = f"{self._incoming}/{_MACHINE}-{os.getpid()}-{next(_NUMBERS)}"
            # A former process of this number may have left one.
            with contextlib.suppress(FileExistsError):
                return os.open(
                    name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
                ), name

    def put(self, parts: Iterable[Buffer], area: Area = "objects") -> StoredObject:
        """Store the parts, one after the other, as one durable file.

        Parameters
        ----------
        parts : iterable of bytes-like
        area : {"objects", "quarantine"}

        Returns
        -------
        StoredObject

        Raises
        ------
        OSError
            The disk is full or broken; nothing is left behind.
        """
        staged = self.stage(parts)
        try:
            return staged.keep(area)
        finally:
            staged.discard()

    def source(self, sha256: str) -> str:
        """Who sent an object, as far as the file itself knows; else ""."""
        try:
            return os.getxattr(self.path(sha256), _SOURCE).decode("utf-8", "replace")
        except OSError:
            return ""

    def put_aside(self, sha256: str) -> StoredObject:
        """Move an object to the quarantine; it is there when this returns.

        Parameters
        ----------
        sha256 : str

        Returns
        -------
        StoredObject
            Where it is now.

        Raises
        ------
        OSError
            It is not there, or cannot be moved.
        """
        source, target = self.path(sha256), self.path(sha256, "quarantine")
        source.replace(target)
        with contextlib.suppress(FileNotFoundError):
            if source.samefile(target):  # two names of one file: replacing did nothing
                source.unlink()
        _sync_folder(source.parent)
        _sync_folder(target.parent)
        return StoredObject(target, sha256, target.stat().st_size)

    def bring_back(self, sha256: str) -> StoredObject:
        """Give content of the quarantine its place among the objects too.

        Its name in the quarantine stays, for whoever is moving it at that moment.

        Parameters
        ----------
        sha256 : str

        Returns
        -------
        StoredObject
            Where it is now; durable when this returns.

        Raises
        ------
        OSError
            It is not there, or the disk is full or broken.
        """
        source, target = self.path(sha256, "quarantine"), self.path(sha256)
        if target.is_file():
            return StoredObject(target, sha256, target.stat().st_size)
        if not _linked(source, target):
            staged = self.stage((source.read_bytes(),), sha256=sha256)
            try:
                return staged.keep()
            finally:
                staged.discard()
        _sync_folder(target.parent)
        return StoredObject(target, sha256, target.stat().st_size)

    def free_bytes(self) -> int:
        """Bytes free on the spool's file system."""
        return shutil.disk_usage(self.folder).free

    def sweep(self) -> int:
        """Remove temporary files that no living writer can still need; return how many.

        A temporary name starts with its writer's machine and process, so workers that share the
        spool keep theirs: those of another machine go when they are a day old.
        """
        removed = 0
        for temporary in self._incoming.iterdir():
            if not _abandoned(temporary):
                continue
            temporary.unlink(missing_ok=True)
            removed += 1
        return removed

    def stored(self, area: Area = "objects") -> Iterator[StoredObject]:
        """Every file of an area, by name; `sha256` is what the name says."""
        for folder in sorted((self.folder / area).iterdir()):
            for path in sorted(folder.iterdir()):
                with contextlib.suppress(FileNotFoundError):
                    yield StoredObject(path, path.name, path.stat().st_size)

    def remove(self, sha256: str, area: Area = "objects") -> None:
        """Remove content; harmless when it is not there."""
        self.path(sha256, area).unlink(missing_ok=True)


def content_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(descriptor: int, view: memoryview) -> None:
    """Write it all; whole pages in whole blocks straight from memory to disk.

    What goes by way of the system's own pages is copied into memory that is new to it, which
    costs more than all else that is done with a CT slice.
    """
    whole = view.nbytes - view.nbytes % _PAGE
    if whole >= _LARGE and not _address(view) % _PAGE:
        view = view[_written_directly(descriptor, view[:whole]) :]
    _write_all(descriptor, view)


def _written_directly(descriptor: int, pages: memoryview) -> int:
    """Write around the system's pages; how many bytes, 0 where the file system does not."""
    written = 0
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_DIRECT)
        while written < pages.nbytes:
            written += os.write(descriptor, pages[written:])
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, 0)
    return written


def _address(view: memoryview) -> int:
    """Where in memory it starts; -1 where no one may write, as in what Python itself holds."""
    return -1 if view.readonly else ctypes.addressof(ctypes.c_char.from_buffer(view))


def _write_all(descriptor: int, view: memoryview) -> None:
    while view.nbytes:
        view = view[os.write(descriptor, view) :]


def _file_system(folder: Path) -> str:
    """Type of the file system a folder is on; "" when the system does not say."""
    device = folder.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    for mount in mounts:
        where, _, what = mount.partition(" - ")
        if where.split()[2] == wanted:
            return what.split()[0]
    return ""


def _linked(temporary: Path, target: Path) -> bool:
    """Give a file its second name; False when that is taken, or there are no second names."""
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, *_NO_LINKS):
            raise
        return False
    return True


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep apart those who replace a file here and those who take theirs back."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _abandoned(temporary: Path) -> bool:
    machine, _, rest = temporary.name.partition("-")
    process = rest.partition("-")[0]
    if machine != _MACHINE or not process.isdigit():
        try:
            return time.time() - temporary.stat().st_mtime > _FOREIGN_LEFTOVER_S
        except FileNotFoundError:
            return False
    return int(process) == os.getpid() or not _alive(int(process))


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
