"""What lies where in a node's folder, and that one node serves it."""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from mirv.config.errors import MirvError
from mirv.config.settings import Settings
from mirv.service.catalogue import sqlite_url


class AlreadyRunning(MirvError, RuntimeError):  # noqa: N818 - the name says what is the case
    """Another node serves this folder."""


@dataclass(frozen=True, slots=True)
class NodeFolder:
    """The paths in a node's folder.

    Attributes
    ----------
    path : Path
        The folder itself: `Settings.folder`.
    """

    path: Path

    @property
    def spool(self) -> Path:
        """Received objects, results and artifacts."""
        return self.path / "spool"

    @property
    def catalogue(self) -> Path:
        """SQLite's file, where the catalogue is in no other database."""
        return self.path / "catalogue.sqlite"

    @property
    def workflows(self) -> Path:
        """SQLite's file of DBOS, where its checkpoints are in no other database."""
        return self.path / "workflows.sqlite"

    @property
    def pseudonym_key(self) -> Path:
        """The key of the pseudonyms of an export; made at the first."""
        return self.path / "pseudonym.key"

    @property
    def retrieving(self) -> Path:
        """What is retrieved for a trial comes through here."""
        return self.path / "retrieving"

    @property
    def lock(self) -> Path:
        """Held by the one node of the folder."""
        return self.path / "node.lock"

    @property
    def association_slots(self) -> Path:
        """Locked bytes: one an association, over all listener processes."""
        return self.path / "associations.lock"


def catalogue_url(settings: Settings) -> str:
    """Where the catalogue is."""
    return settings.database_url or sqlite_url(NodeFolder(settings.folder).catalogue)


def workflow_url(settings: Settings) -> str:
    """Where DBOS keeps its checkpoints."""
    return settings.workflow_database_url or sqlite_url(NodeFolder(settings.folder).workflows)


class FolderLock:
    """One node a folder: held by the process, so a crash frees it.

    Parameters
    ----------
    folder : NodeFolder
    """

    def __init__(self, folder: NodeFolder) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def take(self) -> None:
        """Take the lock.

        Raises
        ------
        AlreadyRunning
            Another process has it.
        OSError
            Its file cannot be made.
        """
        descriptor = os.open(self._folder.lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise AlreadyRunning(f"another node serves {self._folder.path}") from None
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
