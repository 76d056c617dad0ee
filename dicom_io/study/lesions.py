"""The lesions of an image: numbered, placed in the body, and told apart."""

from collections.abc import Mapping, Sequence
from itertools import combinations

from mirv.analysis.model import Lesion
from mirv.dicom_io.masks.overlap import dice
from mirv.dicom_io.model import LesionSource, Note, QualityOutcome
from mirv.dicom_io.study.candidates import Candidate
from mirv.dicom_io.study.quality_rows import QualityRows
from mirv.dicom_io.study.sites import site_of

COINCIDING_DICE = 0.9


def lesion_set(
    candidates: Sequence[Candidate], matched_by: Mapping[str, str], rows: QualityRows
) -> tuple[tuple[Lesion, ...], dict[str, LesionSource]]:
    """The lesions of one image, numbered.

    Parameters
    ----------
    candidates : sequence of Candidate
        Of all segmentations of the image that count.
    matched_by : mapping of SOP Instance UID to rule
        What joined each segmentation to the image.
    rows : QualityRows
        Takes what was drawn twice or has no known site.

    Returns
    -------
    lesions : tuple of Lesion
        By (segmentation, segment, component).
    sources : mapping of tracking UID to LesionSource
        Where each was drawn.
    """
    lesions, sources = _lesions(candidates, matched_by, rows)
    _say_coinciding(lesions, rows)
    return lesions, sources


def _lesions(
    candidates: Sequence[Candidate], matched_by: Mapping[str, str], rows: QualityRows
) -> tuple[tuple[Lesion, ...], dict[str, LesionSource]]:
    """Lesions numbered by (segmentation, segment, component), and where each was drawn."""
    ordered = sorted(candidates, key=lambda c: (c.segmentation, c.segment.number, c.component))
    lesions, sources = [], {}
    for number, one in enumerate(ordered, start=1):
        segment = one.segment
        site = site_of(
            (segment.anatomy, segment.finding),
            (segment.label, one.tracking_id, segment.description),
        )
        if site == "unknown":
            rows.add(
                Note(
                    "site",
                    QualityOutcome.WARN,
                    found=f"segment {segment.number} {segment.label!r}",
                    wanted="an anatomic code or a name in sites.yaml",
                    detail="the site is unknown; statistics by site leave this lesion out",
                ),
                segmentation=one.segmentation,
                lesion=one.tracking_uid,
            )
        lesions.append(
            Lesion(number, segment.label, one.tracking_id, one.tracking_uid, site, one.mask)
        )
        sources[one.tracking_uid] = LesionSource(
            segmentation_uid=one.segmentation,
            number=segment.number,
            algorithm_type=segment.algorithm_type,
            algorithm_name=segment.algorithm_name,
            category=segment.category,
            finding=segment.finding,
            anatomy=segment.anatomy,
            matched_by=matched_by.get(one.segmentation, ""),
            tracking_received=one.tracking_uid == segment.tracking_uid,
            component=one.component,
        )
    return tuple(lesions), sources


def _say_coinciding(lesions: Sequence[Lesion], rows: QualityRows) -> None:
    """Warn of lesions that are nearly one: a set exported twice would count every lesion twice."""
    sizes = {lesion.number: lesion.mask.n_voxels for lesion in lesions}
    for first, second in combinations(lesions, 2):
        small, large = sorted((sizes[first.number], sizes[second.number]))
        if 2 * small < COINCIDING_DICE * (small + large):  # sizes alone rule it out
            continue
        likeness = dice(first.mask, second.mask)
        if likeness >= COINCIDING_DICE:
            rows.add(
                Note(
                    "lesions_coincide",
                    QualityOutcome.WARN,
                    found=f"Dice {likeness:.3f} of lesions {first.number} and {second.number}",
                    wanted=f"below {COINCIDING_DICE}",
                    detail="two lesions with different tracking UIDs are nearly the same voxels",
                ),
                lesion=second.tracking_uid,
            )
