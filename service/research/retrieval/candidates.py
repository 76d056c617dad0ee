"""What a source has of a patient: image series the rule lets be the baseline, and segmentations.

The source's own words on a series (C-FIND, QIDO-RS) are often few. What they contradict is refused
at once; of every other series one object is fetched and read, and the rule asks that object.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mirv.analysis.errors import Reason, Unsuitable
from mirv.config.settings.processing import Retrieval
from mirv.dicom_io.standard.classes import INPUT_CLASSES, SEGMENTATION_MODALITIES
from mirv.dicom_io.standard.person import Identity, Sameness, compare
from mirv.service.peers.sources.fetch import Address
from mirv.service.peers.sources.query import FoundSeries, FoundStudy
from mirv.service.research.retrieval.listing import Listing
from mirv.service.research.retrieval.patient_list import ListedPatient
from mirv.service.research.retrieval.persons import (
    SEVERAL,
    are_several,
    of_the_person,
    other_person,
)
from mirv.service.research.retrieval.received import (
    Passage,
    Received,
    facts_of,
    is_usable,
)
from mirv.service.research.retrieval.rule import SeriesFacts, outside_window, refusal
from mirv.service.research.retrieval.shelf import Shelf

_NOT_REACHED = Reason("not_reached", "the search ended before it")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image series that the rule lets be the baseline.

    Attributes
    ----------
    study : FoundStudy
    series : FoundSeries
    facts : SeriesFacts
        Of the object that was read.
    objects : tuple of str
        SOP Instance UIDs of its images.
    identity : Identity
        Of the object that was read.
    """

    study: FoundStudy
    series: FoundSeries
    facts: SeriesFacts
    objects: tuple[str, ...]
    identity: Identity

    @property
    def address(self) -> Address:
        """Of the series."""
        return Address(self.study.study_uid, self.series.series_uid)


@dataclass(frozen=True, slots=True)
class Found:
    """What may be taken: segmentations are looked into when their images are chosen."""

    candidates: list[Candidate]
    segmentations: list[tuple[FoundStudy, FoundSeries]]


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One patient at one source.

    Attributes
    ----------
    patient : ListedPatient
    rule : Retrieval
    passage : Passage
        Of the source.
    shelf : Shelf
    listing : Listing
        Told of every study and series.
    """

    patient: ListedPatient
    rule: Retrieval
    passage: Passage
    shelf: Shelf
    listing: Listing

    def note(
        self,
        reason: Reason,
        study: FoundStudy,
        series: FoundSeries | None = None,
        *,
        taken: bool = False,
    ) -> None:
        """Tell the listing what became of a study or series."""
        uid = series.series_uid if series else ""
        self.listing.note(reason, study.study_uid, study.study_date, uid, taken=taken)

    def object_of(self, address: Address) -> Received | Reason:
        """An object: as it was kept earlier, else fetched; why it cannot be read."""
        path = self.shelf.find(address)
        return (path and self.passage.read_back(path)) or self.passage.instance(address)

    def judged(self, received: Received, told: SeriesFacts) -> SeriesFacts | Reason:
        """What an image says of its series, or why that cannot be the baseline."""
        header = received.header
        verdict = compare(self.patient.identity, header.identity)
        if verdict.sameness is Sameness.OTHER:
            return other_person(verdict.differing)
        if header.sop_class_uid not in classes_of(self.rule.modality):
            return _no_image(self.rule.modality)
        try:
            facts = facts_of(received, told)
        except Unsuitable as fault:
            return fault.reason
        return refusal(facts, self.rule) or facts


def classes_of(*modalities: str) -> frozenset[str]:
    """SOP classes of these modalities."""
    return frozenset(one.uid for one in INPUT_CLASSES if one.modality in modalities)


def look_through(inquiry: Inquiry) -> Found:
    """Everything the source has of the patient, each study and series noted.

    Parameters
    ----------
    inquiry : Inquiry

    Returns
    -------
    Found

    Raises
    ------
    Transient, PeerRefused, Unsuitable, OSError
        As `Passage`.
    """
    found = Found([], [])
    for study in _studies(inquiry):
        _look_into(inquiry, study, found)
    if are_several([one.identity for one in found.candidates]):
        for one in found.candidates:
            inquiry.note(SEVERAL, one.study, one.series)
        found.candidates.clear()
    return found


def _studies(inquiry: Inquiry) -> list[FoundStudy]:
    """Studies of the person in the window."""
    found = inquiry.passage.studies(inquiry.patient.identity.patient_id)
    if not found:
        inquiry.listing.note(Reason("no_study", "found no study of this PatientID"))
    for study in found:
        inquiry.note(_NOT_REACHED, study)
    usable = [study for study in found if is_usable(study.study_uid)]
    for study in found:
        if study not in usable:
            inquiry.note(Reason("uid_malformed", "wanted a Study Instance UID"), study)
    kept, refused = of_the_person(inquiry.patient.identity, usable)
    within = []
    for study in usable:
        reason = refused.get(study.study_uid) or outside_window(
            study.study_date, inquiry.patient.index_date, inquiry.rule
        )
        if reason is not None:
            inquiry.note(reason, study)
        elif study in kept:
            within.append(study)
    return within


def _look_into(inquiry: Inquiry, study: FoundStudy, found: Found) -> None:
    series = inquiry.passage.series_of(study.study_uid)
    for one in series:
        inquiry.note(_NOT_REACHED, study, one)
    before = len(found.candidates)
    for one in series:
        if not is_usable(one.series_uid) or one.study_uid != study.study_uid:
            reason = Reason("uid_malformed", "wanted a Series Instance UID of this study")
            inquiry.note(reason, study, one)
        elif one.modality in SEGMENTATION_MODALITIES:
            found.segmentations.append((study, one))
        else:
            candidate = _candidate(inquiry, study, one)
            if isinstance(candidate, Reason):
                inquiry.note(candidate, study, one)
            else:
                found.candidates.append(candidate)
    inquiry.note(_in_short(series, len(found.candidates) - before), study)


def _candidate(inquiry: Inquiry, study: FoundStudy, series: FoundSeries) -> Candidate | Reason:
    told = SeriesFacts(
        modality=series.modality,
        body_part=series.body_part,
        description=series.description,
        protocol=series.protocol,
        study_description=study.description,
    )
    if (reason := refusal(told, inquiry.rule)) is not None:
        return reason
    address = Address(study.study_uid, series.series_uid)
    objects = inquiry.passage.objects(address, classes_of(inquiry.rule.modality))
    if not objects:
        return _no_image(inquiry.rule.modality)
    sample = inquiry.object_of(Address(study.study_uid, series.series_uid, objects[0]))
    if isinstance(sample, Reason):
        return sample
    facts = inquiry.judged(sample, told)
    if isinstance(facts, Reason):
        return facts
    return Candidate(study, series, facts, objects, sample.header.identity)


def _no_image(modality: str) -> Reason:
    return Reason("no_image", f"found no object of a {modality} image class")


def _in_short(series: Sequence[FoundSeries], candidates: int) -> Reason:
    detail = f"found {len(series)} series, {candidates} of them as the baseline must be"
    return Reason("in_window", detail)
