"""Which segmentation belongs to which image series: three rules in order, wrong pairs refused.

1. ``instances``: the segmentation names instances that are here.
2. ``series``: it names a series that is here.
3. ``frame_of_reference``: it shares the frame of reference of exactly one series; whether it fits
   the geometry is checked when it is read.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from mirv.config.settings.processing import Reading
from mirv.dicom_io.files.header import InstanceHeader
from mirv.dicom_io.model import Note, QualityOutcome, QualityRow
from mirv.dicom_io.standard.classes import RTSTRUCT_CLASS
from mirv.dicom_io.standard.person import NOBODY, Identity, Sameness, compare, in_words, together
from mirv.dicom_io.study.one_image import MOST_IDENTITIES, why_not_one
from mirv.dicom_io.study.quality_rows import row_of


class MatchRule(StrEnum):
    """What joined a segmentation to its image series; the first that holds."""

    INSTANCES = "instances"  # it names instances that are here
    SERIES = "series"  # it names a series that is here
    FRAME_OF_REFERENCE = "frame_of_reference"  # one series alone shares its frame of reference


@dataclass(frozen=True, slots=True)
class Selection:
    """An image series and the segmentations that belong to it.

    Attributes
    ----------
    study_uid, series_uid, patient_id, modality : str
        Of the images.
    images : tuple of str
        SOP Instance UIDs, sorted.
    segmentations : tuple of str
        SOP Instance UIDs, sorted.
    matched_by : tuple of (SOP Instance UID of a segmentation, MatchRule)
    input_digest : str
        SHA-256 over sorted (SOP Instance UID, content SHA-256) of images and segmentations.
    quality : tuple of QualityRow
        What matching has to say of this pair.
    identity : Identity
        Who the images are of, by all they say together; of a selection queued before it was read,
        the PatientID alone.
    default_issuer : str
        The issuer in `identity` where images carry none and it is by the settings; else "".
    """

    study_uid: str
    series_uid: str
    patient_id: str
    modality: str
    images: tuple[str, ...]
    segmentations: tuple[str, ...]
    matched_by: tuple[tuple[str, MatchRule], ...]
    input_digest: str
    quality: tuple[QualityRow, ...] = ()
    identity: Identity = NOBODY
    default_issuer: str = ""

    def to_json(self) -> str:
        """JSON text, sorted keys."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Selection":
        """The inverse of `to_json`.

        Parameters
        ----------
        text : str
            As `to_json` gave it.

        Returns
        -------
        Selection

        Raises
        ------
        ValueError, KeyError, TypeError
            The text is no JSON, or a field is missing or unknown.
        """
        raw: dict[str, Any] = json.loads(text)
        raw["images"], raw["segmentations"] = tuple(raw["images"]), tuple(raw["segmentations"])
        raw["matched_by"] = tuple((uid, MatchRule(rule)) for uid, rule in raw["matched_by"])
        raw["quality"] = tuple(QualityRow.from_fields(row) for row in raw["quality"])
        raw["identity"] = Identity(**raw.get("identity", {"patient_id": raw["patient_id"]}))
        return cls(**raw)


@dataclass(frozen=True, slots=True)
class Waiting:
    """An object that cannot be used yet.

    Attributes
    ----------
    study_uid, series_uid : str
    object_uid : str
        SOP Instance UID of a segmentation; "" for an image series.
    waits_for : str
        For people.
    """

    study_uid: str
    series_uid: str
    object_uid: str
    waits_for: str


@dataclass(frozen=True, slots=True)
class MatchOutcome:
    """What can be analysed, what waits, and what was refused.

    Attributes
    ----------
    selections : tuple of Selection
    waiting : tuple of Waiting
    quality : tuple of QualityRow
    refused : tuple of (Selection, QualityRow)
        Images with lesions that are not one series, and why: among `quality` too.
    """

    selections: tuple[Selection, ...]
    waiting: tuple[Waiting, ...]
    quality: tuple[QualityRow, ...]
    refused: tuple[tuple[Selection, QualityRow], ...] = ()


@dataclass(frozen=True, slots=True)
class _Series:
    """An image series: its instances, localizers left out unless there is nothing else."""

    headers: tuple[InstanceHeader, ...]

    @property
    def first(self) -> InstanceHeader:
        return self.headers[0]

    @property
    def uid(self) -> str:
        return self.first.series_uid

    @property
    def identities(self) -> list[Identity]:
        """Whose its images say they are; with more than these it is refused as several persons'."""
        return sorted({header.stated for header in self.headers})[:MOST_IDENTITIES]

    def shares_frame(self, segmentation: InstanceHeader) -> bool:
        frames = {header.frame_of_reference_uid for header in self.headers} - {""}
        return bool(frames & set(segmentation.referenced_frames))


@dataclass(frozen=True, slots=True)
class _Joined:
    """A segmentation with its series, or why there is none."""

    segmentation: InstanceHeader
    series: _Series | None = None
    rule: MatchRule | None = None
    waits_for: str = ""
    refused: QualityRow | None = None
    note: QualityRow | None = None


def match(headers: Sequence[InstanceHeader], reading: Reading) -> MatchOutcome:
    """Join segmentations to image series.

    Parameters
    ----------
    headers : sequence of InstanceHeader
        Of one or more studies, in any order; the node's own outputs are left out.
    reading : Reading
        `prefer` decides when one image has SEG and RTSTRUCT.

    Returns
    -------
    MatchOutcome
        Selections by study and series UID.
    """
    known = {header.sop_instance_uid: header for header in headers if not header.own}
    ordered = [known[uid] for uid in sorted(known)]
    series = _series_of(header for header in ordered if header.is_image)
    joined = [one for header in ordered if header.is_segmentation for one in _join(header, series)]
    quality = [one.refused for one in joined if one.refused is not None]
    waiting = [
        Waiting(
            one.segmentation.study_uid,
            one.segmentation.series_uid,
            one.segmentation.sop_instance_uid,
            one.waits_for,
        )
        for one in joined
        if one.waits_for
    ]
    selections, refused = [], []
    for candidate in series:
        mine = [one for one in joined if one.series is candidate]
        if not mine:
            if not all(header.is_localizer for header in candidate.headers):
                first = candidate.first
                waiting.append(Waiting(first.study_uid, first.series_uid, "", "a segmentation"))
            continue
        if (why := why_not_one(candidate.headers)) is not None:
            row = row_of(why, candidate.first.study_uid, candidate.uid)
            quality.append(row)
            refused.append((_selection(candidate, mine), row))
            continue
        chosen, left = _preferred(mine, reading.prefer)
        quality.extend(_not_analysed(one, candidate, reading.prefer) for one in left)
        selections.append(_selection(candidate, chosen))
    return MatchOutcome(tuple(selections), tuple(waiting), tuple(quality), tuple(refused))


def _series_of(images: Iterable[InstanceHeader]) -> list[_Series]:
    groups: dict[tuple[str, str], list[InstanceHeader]] = {}
    for header in images:
        groups.setdefault((header.study_uid, header.series_uid), []).append(header)
    result = []
    for key in sorted(groups):
        kept = [header for header in groups[key] if not header.is_localizer]
        result.append(_Series(tuple(kept or groups[key])))
    return result


def _join(segmentation: InstanceHeader, series: Sequence[_Series]) -> list[_Joined]:
    """A segmentation with its series; an RTSTRUCT with each that its contours were drawn on."""
    drawn_on = set(segmentation.drawn_on)
    drawn = [one for one in series if any(h.sop_instance_uid in drawn_on for h in one.headers)]
    if drawn:
        return [_joined(segmentation, one, MatchRule.INSTANCES) for one in drawn]
    referred = _by_reference(segmentation, series)
    if referred is None:
        return [_by_frame(segmentation, series)]
    return [_joined(segmentation, *referred)]


def _joined(segmentation: InstanceHeader, found: _Series, rule: MatchRule) -> _Joined:
    person = _another_study(segmentation, found) or _another_person(segmentation, found)
    if person is not None and person.refused:
        return _Joined(segmentation, refused=person)
    if found.shares_frame(segmentation) or not segmentation.referenced_frames:
        return _Joined(segmentation, found, rule, note=person)
    row = _row(
        segmentation,
        Note(
            "frame_of_reference",
            QualityOutcome.REFUSED,
            f"frame of reference {', '.join(segmentation.referenced_frames)}",
            f"{found.first.frame_of_reference_uid} of series {found.uid}",
            f"the segmentation refers to this series ({rule}) but lies in another frame of "
            "reference",
        ),
    )
    # A contour that names the slice it was drawn on can be held against that slice.
    if segmentation.sop_class_uid == RTSTRUCT_CLASS and rule is MatchRule.INSTANCES:
        note = replace(
            row,
            outcome=QualityOutcome.WARN,
            detail="accepted when every contour lies on its image",
        )
        return _Joined(segmentation, found, rule, note=note)
    return _Joined(segmentation, refused=row)


def _another_person(segmentation: InstanceHeader, series: _Series) -> QualityRow | None:
    """What there is to say when a segmentation names other person's details than its images.

    The names alone may differ (married, misspelt): the instances it names decide then.
    """
    differing = min(
        (compare(segmentation.stated, one).differing for one in series.identities), key=len
    )
    if not differing:
        return None
    refused = differing != ("name",)
    return _row(
        segmentation,
        Note(
            "other_patient",
            QualityOutcome.REFUSED if refused else QualityOutcome.WARN,
            f"another {in_words(differing)}",
            f"the patient of image series {series.uid}",
            "the segmentation refers to the images of another patient"
            if refused
            else "the segmentation gives its patient another name than the images do",
        ),
    )


def _another_study(segmentation: InstanceHeader, series: _Series) -> QualityRow | None:
    """Refuse a segmentation in another study than its images without one Patient ID for both."""
    if segmentation.study_uid == series.first.study_uid or (
        segmentation.patient_id and series.first.patient_id  # two IDs that differ are told as such
    ):
        return None
    return _row(
        segmentation,
        Note(
            "other_study",
            QualityOutcome.REFUSED,
            "a segmentation in another study than the images it names, without a Patient ID",
            f"the Patient ID of image series {series.uid}",
            "nothing tells that both are of one patient",
        ),
    )


def _by_reference(
    segmentation: InstanceHeader, series: Sequence[_Series]
) -> tuple[_Series, MatchRule] | None:
    wanted = set(segmentation.referenced_instances)
    hits = Counter(
        {
            index: sum(header.sop_instance_uid in wanted for header in one.headers)
            for index, one in enumerate(series)
        }
    )
    if series and (best := max(hits.values())) > 0:
        first = min(index for index, count in hits.items() if count == best)
        return series[first], MatchRule.INSTANCES
    for one in series:
        if one.uid in segmentation.referenced_series:
            return one, MatchRule.SERIES
    return None


def _by_frame(segmentation: InstanceHeader, series: Sequence[_Series]) -> _Joined:
    sharing = [
        one
        for one in series
        if one.shares_frame(segmentation)
        and one.first.patient_id == segmentation.patient_id
        and _another_study(segmentation, one) is None
        and compare(segmentation.identity, one.first.identity).sameness is not Sameness.OTHER
        and not all(header.is_localizer for header in one.headers)
    ]
    same_study = [one for one in sharing if one.first.study_uid == segmentation.study_uid]
    candidates = same_study or sharing
    if len(candidates) == 1:
        return _Joined(segmentation, candidates[0], MatchRule.FRAME_OF_REFERENCE)
    if candidates:
        row = _row(
            segmentation,
            Note(
                "ambiguous_image",
                QualityOutcome.REFUSED,
                f"{len(candidates)} series in its frame of reference: "
                + ", ".join(one.uid for one in candidates),
                "references to one of them",
                "the segmentation names no instance or series that is here",
            ),
        )
        return _Joined(segmentation, refused=row)
    return _Joined(segmentation, waits_for=_missing_images(segmentation, series))


def _missing_images(segmentation: InstanceHeader, series: Sequence[_Series]) -> str:
    """What the images that a segmentation waits for must be."""
    if segmentation.referenced_series:
        wanted = f"images of series {', '.join(segmentation.referenced_series)}"
    elif segmentation.referenced_instances:
        wanted = f"image instance {segmentation.referenced_instances[0]}"
    elif segmentation.referenced_frames:
        wanted = f"images in frame of reference {', '.join(segmentation.referenced_frames)}"
    else:
        return "images (it names no series and no frame of reference)"
    same = [one for one in series if one.first.patient_id == segmentation.patient_id]
    if same:
        wanted += f"; the {len(same)} image series of this patient are not it"
    return wanted


def _preferred(joined: Sequence[_Joined], prefer: str) -> tuple[list[_Joined], list[_Joined]]:
    """The segmentations to analyse and those to leave out."""
    contours = [one for one in joined if one.segmentation.sop_class_uid == RTSTRUCT_CLASS]
    segments = [one for one in joined if one.segmentation.sop_class_uid != RTSTRUCT_CLASS]
    if prefer == "both" or not contours or not segments:
        return list(joined), []
    return (segments, contours) if prefer == "seg" else (contours, segments)


def _not_analysed(one: _Joined, series: _Series, prefer: str) -> QualityRow:
    return _row(
        one.segmentation,
        Note(
            "not_preferred",
            QualityOutcome.WARN,
            "SEG and RTSTRUCT of one image",
            prefer,
            f"series {series.uid} has both; the setting reading.prefer chooses {prefer}",
        ),
    )


def digest_of(contents: Mapping[str, str]) -> str:
    """Digest of the inputs of a run: what is read, in which content.

    Parameters
    ----------
    contents : mapping of SOP Instance UID to SHA-256 of the file

    Returns
    -------
    str
    """
    digest = hashlib.sha256()
    for uid in sorted(contents):
        digest.update(f"{uid} {contents[uid]}\n".encode())
    return digest.hexdigest()


def _selection(series: _Series, chosen: Sequence[_Joined]) -> Selection:
    first = series.first
    stated = together(series.identities)
    # A default counts where no image says it, so never against what one says.
    default = "" if stated.issuer else max(header.issuer for header in series.headers)
    identity = replace(stated, issuer=stated.issuer or default)
    by_uid: Mapping[str, InstanceHeader] = {
        header.sop_instance_uid: header
        for header in (*series.headers, *(one.segmentation for one in chosen))
    }
    rows = []
    for one in chosen:
        rows.append(
            _row(
                one.segmentation,
                Note(
                    "matched",
                    QualityOutcome.OK,
                    str(one.rule),
                    "instances, series or frame_of_reference",
                    f"joined to image series {series.uid}",
                ),
            )
        )
        rows.extend([one.note] if one.note is not None else [])
        rows.extend(_lacking(one, series))
    return Selection(
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        patient_id=identity.patient_id,
        modality=first.modality,
        images=tuple(sorted(header.sop_instance_uid for header in series.headers)),
        segmentations=tuple(sorted(one.segmentation.sop_instance_uid for one in chosen)),
        matched_by=tuple(
            sorted((one.segmentation.sop_instance_uid, one.rule) for one in chosen if one.rule)
        ),
        input_digest=digest_of({uid: header.sha256 for uid, header in by_uid.items()}),
        quality=tuple(rows),
        identity=identity,
        default_issuer=default,
    )


def _lacking(one: _Joined, series: _Series) -> list[QualityRow]:
    """Say when some of the images a segmentation names are not there: the series may be cut."""
    named = set(one.segmentation.referenced_instances)
    here = named & {header.sop_instance_uid for header in series.headers}
    if one.rule is not MatchRule.INSTANCES or len(here) == len(named):
        return []
    return [
        _row(
            one.segmentation,
            Note(
                "referenced_images",
                QualityOutcome.WARN,
                f"{len(here)} of {len(named)} images it names",
                "all of them",
                "the series may be incomplete, or the segmentation names other series too",
            ),
        )
    ]


def unmatched(waiting: Waiting, outcome: QualityOutcome) -> QualityRow:
    """The row of an object that nothing in the folders given completes."""
    return QualityRow(
        study_uid=waiting.study_uid,
        series_uid=waiting.series_uid,
        object_uid=waiting.object_uid,
        check="unmatched",
        outcome=outcome,
        wanted=waiting.waits_for,
        detail="nothing in the folders given completes this object",
    )


def _row(header: InstanceHeader, note: Note) -> QualityRow:
    return row_of(note, header.study_uid, header.series_uid, object_uid=header.sop_instance_uid)
