"""The headline report: what a viewer draws, one TID 1410 group a lesion on its slice.

Viewers draw only groups with coordinates, and some fail on groups of other kinds, so the indices
of the patient stand here as text; the patient report has them as numbers.
"""

from collections.abc import Sequence

import numpy as np

from mirv.analysis.heterogeneity import METRICS
from mirv.analysis.masks.axes import Axes, axial_axes
from mirv.analysis.model import FloatArray, Lesion, Measure, StudyResult
from mirv.dicom_io.model import Artifact, Code, RenderContext, StudyInput
from mirv.dicom_io.outputs import document
from mirv.dicom_io.outputs.document import Role
from mirv.dicom_io.outputs.reports import comparison, template_content
from mirv.dicom_io.outputs.reports.lesion_sr import finding_items
from mirv.dicom_io.outputs.reports.measure_codes import measure_title
from mirv.dicom_io.outputs.segmentation.lesion_seg import drawn_lesions
from mirv.dicom_io.sr import concepts
from mirv.dicom_io.sr.items import (
    CONTAINS,
    HAS_CONCEPT_MOD,
    INFERRED_FROM,
    SELECTED_FROM,
    code_item,
    container_item,
    image_item,
    num_item,
    scoord_item,
    sop_reference,
    text_item,
)

HEADLINE_SR = Role(
    "headline_sr", document.COMPREHENSIVE_3D_SR, "SR", 9004, "Lesion diameters (research use)"
)
VIEWER_TAG = "Cornerstone3DTools@^0.1.0:Bidirectional"
"""What OHIF's loader knows a pair of axes by; the lesion's own identifier follows it."""
_SAID = frozenset(
    ("n_lesions", "n_sites", "volume_total_ml", *(one.name for one in METRICS if one.headline))
)


def headline_sr(
    study: StudyInput, result: StudyResult, context: RenderContext
) -> tuple[Artifact, ...]:
    """Render the headline report; none when no lesion has a voxel on the image grid."""
    lesions = drawn_lesions(study)
    if not lesions:
        return ()
    ds = document.sr_header(study, context, HEADLINE_SR, document.inputs(study))
    measurements = container_item(
        CONTAINS,
        concepts.IMAGING_MEASUREMENTS,
        [
            *template_content.algorithm(context, ["native axial planes, mask as received"]),
            *(_group(study, lesion) for lesion in lesions),
        ],
    )
    lines = [*headlines(result.measures), *comparison.compared_in_words(result)]
    summary = [text_item(CONTAINS, concepts.SUMMARY, line) for line in lines]
    body = [measurements, template_content.statements(study, summary)]
    content = template_content.measurement_report(study, context, body)
    return (document.artifact(ds, HEADLINE_SR, context, content),)


def headlines(measures: Sequence[Measure]) -> list[str]:
    """The patient's indices as lines for people: rounded, with profile and space."""
    lines = []
    for measure in measures:
        if measure.name not in _SAID:
            continue
        view = " / ".join(name for name in (measure.profile, measure.space) if name)
        value = f"none ({measure.reason})" if measure.value is None else f"{measure.value:.4g}"
        unit = measure.unit if measure.value is not None and measure.unit in {"ml", "%"} else ""
        said = f"{measure_title(measure.name)}: {value} {unit}".rstrip()
        lines.append(f"{said} [{view}]" if view else said)
    return lines


def _group(study: StudyInput, lesion: Lesion) -> bytes:
    """TID 1410: both axes of a lesion as one cross on the slice, and each below its length."""
    axes = axial_axes(lesion.mask, study.volume.geometry)
    index, frame = study.evidence.frame_of[axes.plane]
    image = study.evidence.images[index]
    reference = sop_reference(
        str(image.SOPClassUID), str(image.SOPInstanceUID), frames=() if frame is None else (frame,)
    )
    slice_item = image_item(SELECTED_FROM, None, reference)
    volume_ml = lesion.mask.n_voxels * study.volume.geometry.voxel_volume_ml
    source = study.sources[lesion.tracking_uid]
    native = text_item(HAS_CONCEPT_MOD, concepts.EQUIVALENT_NAME, "native volume")
    children = [
        *template_content.tracking(f"{VIEWER_TAG}:{lesion.tracking_id}", lesion.tracking_uid),
        text_item(CONTAINS, concepts.COMMENT, lesion.tracking_id),
        *finding_items(lesion, source),
        *template_content.time_point(study),
        scoord_item(
            CONTAINS, concepts.IMAGE_REGION, "POLYLINE", _pixels(_cross(axes)), [slice_item]
        ),
        _length(concepts.LONG_AXIS, axes.long_mm, axes.long, slice_item),
        _length(concepts.SHORT_AXIS, axes.short_mm, axes.short, slice_item),
        num_item(CONTAINS, concepts.VOLUME, volume_ml * 1000, concepts.MM3, [native]),
    ]
    return container_item(CONTAINS, concepts.MEASUREMENT_GROUP, children, "1410")


def _length(name: Code, value: float, line: FloatArray, slice_item: bytes) -> bytes:
    children = [
        code_item(HAS_CONCEPT_MOD, concepts.DERIVATION, concepts.MAXIMUM),
        scoord_item(
            INFERRED_FROM, concepts.SOURCE_OF_MEASUREMENT, "POLYLINE", _pixels(line), [slice_item]
        ),
    ]
    return num_item(CONTAINS, name, value, concepts.MM, children)


def _cross(axes: Axes) -> FloatArray:
    """Long and short axis in one stroke, through the point where they meet."""
    start, end = axes.long
    direction = end - start
    # Solved as start + t (end - start) = short_0 + s (short_1 - short_0).
    across = axes.short[1] - axes.short[0]
    determinant = direction[1] * across[0] - direction[0] * across[1]
    gap = axes.short[0] - start
    t = (gap[1] * across[0] - gap[0] * across[1]) / determinant
    meeting = start + t * direction
    stroke: FloatArray = np.array([start, meeting, *axes.short, meeting, end])
    return stroke


def _pixels(points: FloatArray) -> list[float]:
    """Column and row of each point, 0.5 being the middle of the first pixel (C.18.6.1.1)."""
    return [float(value) for row, column in points for value in (column + 0.5, row + 0.5)]
