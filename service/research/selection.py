"""Which results an export holds."""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace

from mirv.analysis.model import StudyResult
from mirv.service.study.result_record import ResultRecord
from mirv.service.study.time_points import cohorts_of, persons_of


@dataclass(frozen=True, slots=True)
class Filter:
    """What to keep; an empty field keeps all.

    Attributes
    ----------
    patients : frozenset of PatientID or key of a person, or None for all
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


def select(found: Iterable[ResultRecord], rule: Filter) -> list[ResultRecord]:
    """Keep the studies and rows that a rule keeps.

    Patient-level measures stay as computed over all lesions: filtering rows does not change a
    number.

    Parameters
    ----------
    found : iterable of ResultRecord
    rule : Filter

    Returns
    -------
    list of ResultRecord
    """
    return [_rows(record, rule) for record in found if _study(record, rule)]


def of_cohorts(
    records: Sequence[ResultRecord], labels: Sequence[str], listed: Set[str]
) -> tuple[list[ResultRecord], int]:
    """Keep the results of persons of any of some cohorts, whole histories.

    Parameters
    ----------
    records : sequence of ResultRecord
    labels : sequence of str
        Published ones, among all records given.
    listed : set of str
        PatientIDs, or keys of persons.

    Returns
    -------
    kept : list of ResultRecord
    absent : int
        Names listed that no record is of.
    """
    people = persons_of(records)
    kept, met = [], set()
    for record, person, own in zip(records, people, cohorts_of(records), strict=True):
        named = {record.patient_id, person} & listed
        met |= named
        if named or set(own) & set(labels):
            kept.append(record)
    return kept, len(listed - met)


def shared(found: Iterable[ResultRecord], rule: Filter) -> dict[str, list[str]]:
    """PatientIDs a rule asks for that several persons share, with the keys of those.

    Parameters
    ----------
    found : iterable of ResultRecord
        As `select` gave them.
    rule : Filter

    Returns
    -------
    dict of PatientID to list of str
    """
    keys: dict[str, set[str]] = {}
    for record in found:
        if rule.patients is not None and record.patient_id in rule.patients:
            keys.setdefault(record.patient_id, set()).add(record.person)
    return {patient: sorted(of) for patient, of in sorted(keys.items()) if len(of) > 1}


def _study(record: ResultRecord, rule: Filter) -> bool:
    if rule.patients is not None and not rule.patients & {record.patient_id, record.person}:
        return False
    dated = record.study_date or ""
    if (rule.start or rule.end) and not dated:
        return False
    if (rule.start and dated < rule.start) or (rule.end and dated > rule.end):
        return False
    return len({row.tracking_uid for row in record.result.lesions}) >= rule.min_lesions


def _rows(record: ResultRecord, rule: Filter) -> ResultRecord:
    def profile(name: str) -> bool:
        return not name or not rule.profiles or name in rule.profiles

    result = record.result
    lesions = tuple(
        row
        for row in result.lesions
        if profile(row.profile) and (not rule.sites or row.site in rule.sites)
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
                and (not rule.sites or not row.site or row.site in rule.sites)
            ),
            provenance=result.provenance,
            changes=tuple(
                row for row in result.changes if not rule.sites or row.site in rule.sites
            ),
            identities={uid: one for uid, one in result.identities.items() if uid in kept},
        ),
    )
