"""The catalogue: everything the node knows beside the objects themselves. The only SQL."""

from pathlib import Path

from mirv.service.catalogue.acceptances import Acceptance, Acceptances, Changed, Withdrawal
from mirv.service.catalogue.clock import ClockBook, Jump
from mirv.service.catalogue.comparisons import Comparisons
from mirv.service.catalogue.database.claim import Claim
from mirv.service.catalogue.database.engine import migrate, no_database_told, open_engine
from mirv.service.catalogue.deliveries import Deliveries, DeliveryRow
from mirv.service.catalogue.events import Event, EventKind, Events
from mirv.service.catalogue.facts import Fact, Facts
from mirv.service.catalogue.positions import Change, Position, Positions
from mirv.service.catalogue.priors import RunPriors
from mirv.service.catalogue.received.arrivals import Arrivals, Conflict, NewInstance
from mirv.service.catalogue.received.corrections import (
    CorrectionRow,
    Corrections,
    NewCorrection,
)
from mirv.service.catalogue.received.instances import InstanceRow, Instances
from mirv.service.catalogue.received.quarantine import Quarantine, QuarantineRow
from mirv.service.catalogue.received.studies import MOST_LINKED, Studies, StudyRow, Wait, WaitingRow
from mirv.service.catalogue.run_rows import ArtifactRow, RunRow
from mirv.service.catalogue.runs import Runs
from mirv.service.catalogue.states import (
    CORRECTED,
    Commitment,
    CorrectionState,
    DeliveryState,
    PriorSearch,
    RunState,
)
from mirv.service.catalogue.workers import Workers

__all__ = [
    "CORRECTED",
    "MOST_LINKED",
    "Acceptance",
    "ArtifactRow",
    "Catalogue",
    "Change",
    "Changed",
    "Commitment",
    "Conflict",
    "CorrectionRow",
    "CorrectionState",
    "DeliveryRow",
    "DeliveryState",
    "Event",
    "EventKind",
    "Fact",
    "InstanceRow",
    "Instances",
    "Jump",
    "NewCorrection",
    "NewInstance",
    "Position",
    "PriorSearch",
    "QuarantineRow",
    "RunRow",
    "RunState",
    "Studies",
    "StudyRow",
    "Wait",
    "WaitingRow",
    "Withdrawal",
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

    Raises
    ------
    Unavailable
        What is there is no database, or of a later version.
    """

    def __init__(self, url: str) -> None:
        self._database = open_engine(url)
        with no_database_told():
            migrate(self._database)
        self.claim = Claim(self._database)
        self.events = Events(self._database)
        self.arrivals = Arrivals(self._database)
        self.instances = Instances(self._database)
        self.quarantine = Quarantine(self._database)
        self.corrections = Corrections(self._database)
        self.acceptances = Acceptances(self._database)
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
