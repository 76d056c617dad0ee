"""Which results an export holds."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mirv.analysis.model import StudyResult
from mirv.service.study.result_record import ResultRecord


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to keep; an empty field keeps all.

    Attributes
    ----------
    patients : frozenset of PatientID, or None for all
    start, end : str
        Study dates YYYYMMDD, both included; a study without date is kept only when both are "".
    sites, profiles : frozenset of str
    min_lesions : int
        Counted before lesions are filtered by site.
    """

    patients: frozenset[str] | None = None
    start: str = ""
    end: str = ""
    sites: frozenset[str] = frozenset()
    profiles: frozenset[str] = frozenset()
    min_lesions: int = 0


def select(found: Iterable[ResultRecord], wanted: Wanted) -> list[ResultRecord]:
    """Keep the studies and rows that are wanted.

    Patient-level measures stay as computed over all lesions: filtering rows does not change a
    number.
    """
    return [_rows(record, wanted) for record in found if _study(record, wanted)]


def _study(record: ResultRecord, wanted: Wanted) -> bool:
    if wanted.patients is not None and record.patient_id not in wanted.patients:
        return False
    dated = record.study_date or ""
    if (wanted.start or wanted.end) and not dated:
        return False
    if (wanted.start and dated < wanted.start) or (wanted.end and dated > wanted.end):
        return False
    return len({row.tracking_uid for row in record.result.lesions}) >= wanted.min_lesions


def _rows(record: ResultRecord, wanted: Wanted) -> ResultRecord:
    def profile(name: str) -> bool:
        return not name or not wanted.profiles or name in wanted.profiles

    result = record.result
    lesions = tuple(
        row
        for row in result.lesions
        if profile(row.profile) and (not wanted.sites or row.site in wanted.sites)
    )
    kept = {row.tracking_uid for row in lesions}
    return replace(
        record,
        result=StudyResult(
            lesions=lesions,
            measures=tuple(row for row in result.measures if profile(row.profile)),
            pairs=tuple(
                row
                for row in result.pairs
                if profile(row.profile) and {row.tracking_uid_a, row.tracking_uid_b} <= kept
            ),
            variation=tuple(
                row
                for row in result.variation
                if profile(row.profile)
                and (not wanted.sites or not row.site or row.site in wanted.sites)
            ),
            provenance=result.provenance,
        ),
    )
