"""The catalogue: everything the node knows beside the objects themselves. The only SQL."""

from pathlib import Path

from service.store.claim import Claim
from service.store.deliveries import Deliveries, DeliveryRow
from service.store.engine import migrate, open_engine
from service.store.events import Event, Events
from service.store.instances import (
    Conflict,
    InstanceRow,
    Instances,
    NewInstance,
    QuarantineRow,
    StudyRow,
    WaitingRow,
)
from service.store.positions import Position, Positions
from service.store.runs import ArtifactRow, RunRow, Runs
from service.store.workers import Workers

__all__ = [
    "ArtifactRow",
    "Conflict",
    "DeliveryRow",
    "Event",
    "InstanceRow",
    "Instances",
    "NewInstance",
    "Position",
    "QuarantineRow",
    "RunRow",
    "Store",
    "StudyRow",
    "WaitingRow",
    "sqlite_url",
]


def sqlite_url(file: Path) -> str:
    """URL of a SQLite database in this file."""
    return f"sqlite:///{file}"


class Store:
    """The catalogue behind a URL, migrated to this version when opened.

    Parameters
    ----------
    url : str
        ``sqlite:///file`` (WAL, synchronous=FULL) or ``postgresql+psycopg://...``.
    """

    def __init__(self, url: str) -> None:
        self._database = open_engine(url)
        migrate(self._database)
        self.claim = Claim(self._database)
        self.events = Events(self._database)
        self.instances = Instances(self._database)
        self.runs = Runs(self._database)
        self.deliveries = Deliveries(self._database)
        self.workers = Workers(self._database)
        self.positions = Positions(self._database)

    def close(self) -> None:
        """Close every connection."""
        self.claim.release()
        self._database.close()
