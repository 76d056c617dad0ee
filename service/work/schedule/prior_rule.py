"""Which earlier study of a patient is fetched, so that the response since it can be measured.

R-RET-1: one study by a written rule, in a window around the study's own date. Studies are joined
only when they are surely of one person.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from mirv.analysis.errors import Reason
from mirv.config.settings.processing import Priors
from mirv.dicom_io.standard.classes import SEGMENTATION_MODALITIES
from mirv.dicom_io.standard.person import Identity, Sameness, birth_date, compare
from mirv.service.peers.sources.query import WILDCARDS, FoundSeries, FoundStudy


@dataclass(frozen=True, slots=True)
class Patient:
    """Who a study is of, and when it was made; "" for what it does not say."""

    patient_id: str
    issuer: str
    birth_date: str
    study_uid: str
    study_date: str
    modality: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A study a source has, with its series."""

    study: FoundStudy
    series: tuple[FoundSeries, ...]

    def segmentations(self) -> tuple[str, ...]:
        """Series to fetch: the images they were drawn on follow by themselves."""
        found = {one.series_uid for one in self.series if one.modality in SEGMENTATION_MODALITIES}
        return tuple(sorted(found))


def window(patient: Patient, rule: Priors) -> tuple[str, str] | Reason:
    """First and last date (YYYYMMDD) to look at, or why there is none.

    Parameters
    ----------
    patient : Patient
    rule : Priors

    Returns
    -------
    (str, str) or Reason
    """
    if not patient.patient_id or WILDCARDS & set(patient.patient_id):
        return Reason("patient_not_sure", "found no PatientID that names one patient alone")
    if not (patient.birth_date or patient.issuer):
        return Reason(
            "patient_not_sure",
            "found neither PatientBirthDate nor IssuerOfPatientID beside the PatientID",
        )
    try:
        day = date.fromisoformat(patient.study_date)
        first, last = (day + timedelta(days) for days in (rule.from_days, rule.to_days))
    except (ValueError, OverflowError):
        return Reason("study_without_date", "found no StudyDate to look around")
    return first.strftime("%Y%m%d"), last.strftime("%Y%m%d")


def is_same_patient(patient: Patient, study: FoundStudy) -> bool:
    """The same PatientID, and birth date or issuer known on both sides; none that differ."""
    ours, theirs = (
        Identity(one.patient_id, one.issuer, birth_date(one.birth_date)) for one in (patient, study)
    )
    return compare(ours, theirs).sameness is Sameness.SAME


def worth_looking_into(patient: Patient, studies: Sequence[FoundStudy]) -> list[FoundStudy]:
    """Other studies of surely the same patient, of another date."""
    return [
        one
        for one in studies
        if one.study_uid
        and one.study_uid != patient.study_uid
        and one.study_date not in ("", patient.study_date)
        and is_same_patient(patient, one)
    ]


def choose(patient: Patient, candidates: Sequence[Candidate], rule: Priors) -> Candidate | Reason:
    """The one study that is fetched.

    With a segmentation and an image series of our modality, described by one of the wanted words.
    Of several: an earlier one before a later one, then the nearest in time, then the latest hour,
    then the smallest UID.

    Parameters
    ----------
    patient : Patient
    candidates : sequence of Candidate
    rule : Priors

    Returns
    -------
    Candidate or Reason
    """
    drawn = [
        one
        for one in candidates
        if one.segmentations() and any(each.modality == patient.modality for each in one.series)
    ]
    fit = [one for one in drawn if _is_described(one, patient.modality, rule.words)]
    if not fit:
        return Reason(
            "no_prior",
            f"found {len(candidates)} other studies in the window, {len(drawn)} of them with "
            f"{patient.modality} and a segmentation, wanted one described by "
            f"{' or '.join(rule.words) or 'anything'}",
        )
    return min(fit, key=lambda one: _order(patient, one.study))


def _is_described(candidate: Candidate, modality: str, words: Sequence[str]) -> bool:
    texts = [candidate.study.description]
    texts += [one.description for one in candidate.series if one.modality == modality]
    said = " ".join(texts).casefold()
    return not words or any(word.casefold() in said for word in words)


def _order(patient: Patient, study: FoundStudy) -> tuple[bool, int, float, str]:
    later = study.study_date > patient.study_date
    days = abs(_number(study.study_date) - _number(patient.study_date))
    return later, days, -_hour(study.study_time), study.study_uid


def _number(day: str) -> int:
    try:
        return date.fromisoformat(day).toordinal()
    except ValueError:
        return 0


def _hour(time: str) -> float:
    try:
        return float(time)
    except ValueError:
        return 0.0
