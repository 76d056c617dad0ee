"""The catalogue: everything the node knows beside the objects themselves. The only SQL."""

from pathlib import Path

from service.store.arrivals import Arrivals, Conflict, NewInstance
from service.store.claim import Claim
from service.store.clock import ClockBook, Jump
from service.store.comparisons import Comparisons
from service.store.deliveries import Deliveries, DeliveryRow
from service.store.engine import migrate, open_engine
from service.store.events import Event, EventKind, Events
from service.store.facts import Fact, Facts
from service.store.instances import InstanceRow, Instances
from service.store.positions import Change, Position, Positions
from service.store.priors import RunPriors
from service.store.quarantine import Quarantine, QuarantineRow
from service.store.runs import ArtifactRow, RunRow, Runs
from service.store.states import Commitment, DeliveryState, PriorSearch, RunState
from service.store.studies import Studies, StudyRow, WaitingRow
from service.store.workers import Workers

__all__ = [
    "ArtifactRow",
    "Change",
    "Commitment",
    "Conflict",
    "DeliveryRow",
    "DeliveryState",
    "Event",
    "EventKind",
    "Fact",
    "InstanceRow",
    "Instances",
    "Jump",
    "NewInstance",
    "Position",
    "PriorSearch",
    "QuarantineRow",
    "RunRow",
    "RunState",
    "Store",
    "Studies",
    "StudyRow",
    "WaitingRow",
    "sqlite_url",
]


def sqlite_url(file: Path) -> str:
    """URL of a SQLite database in this file."""
    return f"sqlite:///{file}"


class Catalogue:
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
        self.arrivals = Arrivals(self._database)
        self.instances = Instances(self._database)
        self.quarantine = Quarantine(self._database)
        self.studies = Studies(self._database)
        self.runs = Runs(self._database)
        self.comparisons = Comparisons(self._database)
        self.deliveries = Deliveries(self._database)
        self.workers = Workers(self._database)
        self.positions = Positions(self._database)
        self.priors = RunPriors(self._database)
        self.facts = Facts(self._database)
        self.clock = ClockBook(self._database)

    def close(self) -> None:
        """Close every connection."""
        self.claim.release()
        self._database.close()
