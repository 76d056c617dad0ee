"""Choosing one baseline of those that may be, and taking it with its segmentations."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from mirv.analysis.errors import Reason
from mirv.config.errors import MirvError
from mirv.dicom_io.standard.classes import SEGMENTATION_CLASSES
from mirv.dicom_io.standard.person import Sameness, compare
from mirv.service.peers.sources.fetch import Address
from mirv.service.peers.sources.query import FoundSeries
from mirv.service.research.retrieval.candidates import Candidate, Found, Inquiry, look_through
from mirv.service.research.retrieval.persons import SEVERAL, are_several, other_person
from mirv.service.research.retrieval.received import Received
from mirv.service.research.retrieval.rule import Rank, days_from, why_not


class Ending(StrEnum):
    """How the search at a source ended."""

    TAKEN = "taken"
    NONE = "none"  # the source has no baseline of the patient
    STOPPED = "stopped"  # it has one that could not be taken whole


class _Stopped(MirvError):  # noqa: N818 - the name says what happened
    """The baseline is known and cannot be had now: no other is taken in its place."""


@dataclass(frozen=True, slots=True)
class _Drawing:
    """An object of a segmentation series, or why it cannot be taken."""

    series: FoundSeries
    address: Address
    content: Received | Reason

    def is_on(self, images: Candidate) -> bool:
        """Whether it names the series, or an image of it; never by place alone."""
        if isinstance(self.content, Reason):
            return False
        header = self.content.header
        return images.series.series_uid in header.referenced_series or not set(
            images.objects
        ).isdisjoint(header.referenced_instances)


def take_baseline(inquiry: Inquiry) -> Ending:
    """Look for the baseline of a patient at a source, and take it.

    Parameters
    ----------
    inquiry : Inquiry

    Returns
    -------
    Ending

    Raises
    ------
    Transient, PeerRefused, Unsuitable, OSError
        As `Passage`, and as the shelf keeps.
    """
    found = look_through(inquiry)
    try:
        taken = _take_first(inquiry, found)
    except _Stopped:
        return Ending.STOPPED
    elsewhere = Reason("no_baseline_here", "the baseline is no series of this study")
    for study, series in found.segmentations:
        if taken is None or study.study_uid != taken.study.study_uid:
            inquiry.note(elsewhere, study, series)
    return Ending.NONE if taken is None else Ending.TAKEN


def _take_first(inquiry: Inquiry, found: Found) -> Candidate | None:
    """Take the first by the rule; what is not whole what its sample said is left out."""
    left = list(found.candidates)
    drawings: dict[str, list[_Drawing]] = {}
    while left:
        day = _nearest(inquiry, left)
        for uid in {one.study.study_uid for one in day} - drawings.keys():
            drawings[uid] = _drawings(inquiry, found, uid)
        drawn = {
            one.address
            for one in day
            if any(each.is_on(one) for each in drawings[one.study.study_uid])
        }
        best = min(day, key=lambda one: _rank(inquiry, one, drawn).key)
        why = _take_images(inquiry, best, segmented=best.address in drawn)
        if why is not None:
            inquiry.note(why, best.study, best.series)
            left.remove(best)
            continue
        for other in left:
            if other is not best:
                ranks = [_rank(inquiry, one, drawn) for one in (other, best)]
                inquiry.note(why_not(*ranks), other.study, other.series)
        _take_drawings(inquiry, best, drawings[best.study.study_uid])
        return best
    return None


def _rank(inquiry: Inquiry, one: Candidate, drawn: Collection[Address]) -> Rank:
    days = days_from(inquiry.patient.index_date, one.study.study_date)
    return Rank(
        days=days or 0,
        drawn=one.address in drawn,
        thickness_mm=one.facts.thickness_mm,
        study_uid=one.study.study_uid,
        series_uid=one.series.series_uid,
    )


def _nearest(inquiry: Inquiry, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those of the day that comes first: only their segmentations are worth reading."""
    days = [_rank(inquiry, one, ()).key[:2] for one in candidates]
    return [one for one, day in zip(candidates, days, strict=True) if day == min(days)]


# --- images ---------------------------------------------------------------------------------


def _take_images(inquiry: Inquiry, best: Candidate, *, segmented: bool) -> Reason | None:
    """Take the series whole; why it cannot be the baseline.

    Raises
    ------
    _Stopped
        It came in part or cannot be kept: said in the listing.
    """
    was_there = False
    if inquiry.rule.segmented and not segmented:
        return Reason("not_segmented", "found no segmentation of it, wanted one")
    if not inquiry.shelf.dry:
        kept = _kept(inquiry, best)
        was_there = len(kept) == len(best.objects)
        objects = kept if was_there else inquiry.passage.series(best.address, best.objects)
        if len(objects) < len(best.objects):
            _stop(inquiry, best, _in_part(best, len(objects), len(kept)))
        if (reason := _not_as_its_sample(inquiry, best, objects)) is not None:
            return reason
        if not was_there:
            _keep(inquiry, best, objects)
    inquiry.note(_why(inquiry, best, segmented, was_there), best.study, best.series, taken=True)
    return None


def _kept(inquiry: Inquiry, best: Candidate) -> dict[str, Received]:
    found = {}
    for uid in best.objects:
        path = inquiry.shelf.find(_address(best, uid))
        received = path and inquiry.passage.read_back(path)
        if received:
            found[uid] = received
    return found


def _address(candidate: Candidate, uid: str) -> Address:
    return replace(candidate.address, sop_instance_uid=uid)


def _in_part(best: Candidate, came: int, before: int) -> Reason:
    earlier = f" ({before} were there before)" if before else ""
    detail = f"found {came} of {len(best.objects)} objects{earlier}: counts as not fetched"
    return Reason("in_part", detail)


def _stop(inquiry: Inquiry, best: Candidate, reason: Reason) -> None:
    inquiry.note(reason, best.study, best.series)
    raise _Stopped(reason.code)


def _not_as_its_sample(
    inquiry: Inquiry, best: Candidate, objects: dict[str, Received]
) -> Reason | None:
    if are_several(one.header.identity for one in objects.values()):
        return SEVERAL
    for one in objects.values():
        judged = inquiry.judged(one, best.facts)
        if isinstance(judged, Reason):
            return Reason(judged.code, f"{judged.detail} (in the whole series)")
    return None


def _keep(inquiry: Inquiry, best: Candidate, objects: dict[str, Received]) -> None:
    source = inquiry.passage.source.name
    for uid, received in sorted(objects.items()):
        reason = inquiry.shelf.keep(_address(best, uid), received, source)
        if reason is not None:
            _stop(inquiry, best, reason)
    inquiry.shelf.note_series(best.address, source, len(objects))


def _why(inquiry: Inquiry, best: Candidate, segmented: bool, was_there: bool) -> Reason:
    days = days_from(inquiry.patient.index_date, best.study.study_date)
    said = [f"{days:+d} days from the index date"]
    if not segmented:
        said.append("no segmentation of it found")
    if compare(inquiry.patient.identity, best.identity).sameness is not Sameness.SAME:
        said.append("the PatientID alone tells whose it is")
    if was_there:
        said.append("it was there")
    return Reason("baseline", "; ".join(said))


# --- segmentations --------------------------------------------------------------------------


def _drawings(inquiry: Inquiry, found: Found, study_uid: str) -> list[_Drawing]:
    """Every object of the segmentation series of a study, read."""
    drawings = []
    for study, series in found.segmentations:
        if study.study_uid == study_uid:
            address = Address(study.study_uid, series.series_uid)
            objects = inquiry.passage.objects(address, SEGMENTATION_CLASSES)
            if not objects:
                inquiry.note(_no_segmentation(), study, series)
            for one in (replace(address, sop_instance_uid=uid) for uid in objects):
                content = _checked(inquiry, inquiry.object_of(one))
                drawings.append(_Drawing(series, one, content))
    return drawings


def _no_segmentation() -> Reason:
    return Reason("no_segmentation", "found no object of a segmentation class")


def _checked(inquiry: Inquiry, content: Received | Reason) -> Received | Reason:
    if isinstance(content, Reason):
        return content
    header = content.header
    if header.own:
        return Reason("own_output", "made by this node")
    if not header.is_segmentation:
        return _no_segmentation()
    verdict = compare(inquiry.patient.identity, header.identity)
    if verdict.sameness is Sameness.OTHER:
        return other_person(verdict.differing)
    return content


def _take_drawings(inquiry: Inquiry, best: Candidate, drawings: Sequence[_Drawing]) -> None:
    """Keep what was drawn on the baseline, and say of each series what was and what was not."""
    of_series: dict[str, list[_Drawing]] = {}
    for one in drawings:
        of_series.setdefault(one.series.series_uid, []).append(one)
    for objects in of_series.values():
        first = objects[0]
        reasons = [_keep_drawing(inquiry, best, one) for one in objects]
        refused = [reason for reason in reasons if reason is not None]
        n_taken = len(objects) - len(refused)
        said = refused[0] if refused else Reason("of_the_baseline", "drawn on the baseline")
        if n_taken and refused:
            detail = f"{n_taken} of {len(objects)} objects; of another: {refused[0]}"
            said = Reason("of_the_baseline", detail)
        if n_taken and not inquiry.shelf.dry:
            inquiry.shelf.note_series(first.address, inquiry.passage.source.name, n_taken)
        inquiry.note(said, best.study, first.series, taken=n_taken > 0)


def _keep_drawing(inquiry: Inquiry, best: Candidate, one: _Drawing) -> Reason | None:
    """Keep one object; why not."""
    if isinstance(one.content, Reason):
        return one.content
    if not one.is_on(best):
        return Reason("not_of_the_baseline", "names no image of the baseline")
    verdict = compare(best.identity, one.content.header.identity)
    if verdict.sameness is Sameness.OTHER:
        return other_person(verdict.differing)
    if one.content.kept or inquiry.shelf.dry:
        return None
    return inquiry.shelf.keep(one.address, one.content, inquiry.passage.source.name)
