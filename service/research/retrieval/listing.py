"""What was seen at a source, and what became of it: a row for every study and series."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from mirv.analysis.errors import Reason
from mirv.service.research.retrieval.patient_list import ListedPatient
from mirv.service.study.result_tables import to_csv

COLUMNS = (
    "patient_id", "index_date", "study_uid", "study_date", "series_uid", "taken", "reason",
    "source",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """A study or series that was seen, or a patient of whom nothing was.

    Attributes
    ----------
    patient_id, index_date : str
        Of the list; YYYYMMDD.
    study_uid, study_date, series_uid : str
        "" for what the row is not about.
    taken : str
        ``yes`` or ``no``.
    reason : str
        Code and sentence.
    source : str
        Its name in the settings.
    """

    patient_id: str
    index_date: str
    study_uid: str
    study_date: str
    series_uid: str
    taken: str
    reason: str
    source: str


class Listing:
    """The rows of one patient at one source; a later word on a series replaces the earlier.

    Parameters
    ----------
    patient : ListedPatient
    source : str
    """

    def __init__(self, patient: ListedPatient, source: str) -> None:
        self._patient = patient
        self._source = source
        self._rows: dict[tuple[str, str, str], tuple[bool, Reason]] = {}

    def note(
        self,
        reason: Reason,
        study_uid: str = "",
        study_date: str = "",
        series_uid: str = "",
        *,
        taken: bool = False,
    ) -> None:
        """Say what became of a study, of a series or, without either, of the patient."""
        self._rows[study_date, study_uid, series_uid] = taken, reason

    def rows(self) -> tuple[Row, ...]:
        """By study date and UIDs."""
        return tuple(
            Row(
                patient_id=self._patient.identity.patient_id,
                index_date=self._patient.index_date.strftime("%Y%m%d"),
                study_uid=study_uid,
                study_date=study_date,
                series_uid=series_uid,
                taken="yes" if taken else "no",
                reason=str(reason),
                source=self._source,
            )
            for (study_date, study_uid, series_uid), (taken, reason) in sorted(self._rows.items())
        )


def listing_csv(rows: Iterable[Row]) -> bytes:
    """The rows as CSV.

    Parameters
    ----------
    rows : iterable of Row

    Returns
    -------
    bytes
    """
    return to_csv(COLUMNS, (asdict(row) for row in rows))
