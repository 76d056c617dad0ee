"""The patient report: one TID 1501 group for volumes and one a profile and feature space."""

from collections.abc import Sequence

from mirv.analysis.heterogeneity import metric_of
from mirv.analysis.model import Measure, StudyResult
from mirv.analysis.patient.study import divergent_pair
from mirv.dicom_io.model import Artifact, RenderContext, StudyInput
from mirv.dicom_io.outputs import document
from mirv.dicom_io.outputs.document import Role
from mirv.dicom_io.outputs.reports import comparison, template_content
from mirv.dicom_io.outputs.reports.measure_codes import (
    measure_code,
    measure_modifiers,
    measure_unit,
)
from mirv.dicom_io.outputs.segmentation.lesion_seg import drawn_lesions, seg_role
from mirv.dicom_io.sr import concepts
from mirv.dicom_io.sr.items import (
    CONTAINS,
    HAS_CONCEPT_MOD,
    INFERRED_FROM,
    code_item,
    container_item,
    num_item,
    text_item,
    uid_item,
)
from mirv.dicom_io.standard.uids import derive_uid

PATIENT_SR = Role(
    "patient_sr", document.COMPREHENSIVE_3D_SR, "SR", 9003, "Patient heterogeneity (research use)"
)


def patient_sr(
    study: StudyInput, result: StudyResult, context: RenderContext
) -> tuple[Artifact, ...]:
    """Render the patient report."""
    evidence = document.inputs(study)
    if drawn_lesions(study):
        evidence.append(document.made_here(study, context, seg_role(study, context)))
    ds = document.sr_header(study, context, PATIENT_SR, evidence)
    groups = [
        _group(study, result, context, profile, space) for profile, space in _views(result.measures)
    ]
    groups += comparison.change_groups(study, result)
    measurements = container_item(CONTAINS, concepts.IMAGING_MEASUREMENTS, groups)
    body = [measurements, template_content.statements(study)]
    content = template_content.measurement_report(study, context, body)
    return (document.artifact(ds, PATIENT_SR, context, content),)


def _views(measures: Sequence[Measure]) -> list[tuple[str, str]]:
    """The (profile, space) of the measures, each once, in their order."""
    return list(dict.fromkeys((measure.profile, measure.space) for measure in measures))


def patient_tracking_uid(study: StudyInput, profile: str, space: str) -> str:
    """Tracking UID of the whole set of lesions of this image, as seen in one space.

    It follows from the image, not the run: a revision carries the same.
    """
    image = study.evidence.images[0]
    return derive_uid("mirv patient", str(image.SeriesInstanceUID), profile, space)


def _group(
    study: StudyInput, result: StudyResult, context: RenderContext, profile: str, space: str
) -> bytes:
    """TID 1501: the measures of one view on the patient's lesions."""
    seen = " ".join(("all lesions", profile, space)).strip()
    children = [
        *template_content.tracking(seen, patient_tracking_uid(study, profile, space)),
        code_item(CONTAINS, concepts.FINDING, concepts.PATIENT_HETEROGENEITY),
        *template_content.time_point(study),
        *([] if profile else comparison.earlier_study(result.provenance)),
    ]
    if profile:
        method = template_content.method_code(profile, result)
        children.append(code_item(HAS_CONCEPT_MOD, concepts.MEASUREMENT_METHOD, method))
    children += template_content.algorithm(context, _parameters(context, result, profile, space))
    for measure in result.measures:
        if (measure.profile, measure.space) == (profile, space):
            children.append(_measure(measure, result))
    return container_item(CONTAINS, concepts.MEASUREMENT_GROUP, children, "1501")


def _parameters(context: RenderContext, result: StudyResult, profile: str, space: str) -> list[str]:
    texts = [
        text
        for text in template_content.profile_parameters(context, result)
        if not text.startswith("profile=") or text.split()[0] == f"profile={profile}"
    ]
    if space:
        digest = result.provenance.space_digests.get(space)
        texts.append(f"space={space}" + (f" sha256={digest}" if digest else ""))
    return texts


def _measure(measure: Measure, result: StudyResult) -> bytes:
    """TID 300: a number with the lesions it came from, or the reason there is none."""
    children = [*measure_modifiers(measure, result), *_pair(measure, result)]
    name = measure_code(measure.name)
    if measure.value is None:
        if measure.reason is None:
            raise ValueError(f"{measure.name}: neither value nor reason")
        unit = code_item(HAS_CONCEPT_MOD, concepts.UNIT, measure_unit(measure.unit))
        return template_content.reason_item(name, measure.reason, [unit, *children])
    return num_item(CONTAINS, name, measure.value, measure_unit(measure.unit), children)


def _pair(measure: Measure, result: StudyResult) -> list[bytes]:
    """The two lesions furthest apart, below the measure their distance sets."""
    metric, percentile = metric_of(measure.name)
    if metric is None or percentile or not metric.set_by_a_pair:
        return []
    pair = divergent_pair(result, measure.profile, measure.space, metric.distance)
    if pair is None:
        return []
    names = {lesion.tracking_uid: lesion.tracking_id for lesion in result.lesions}
    items = []
    for concept, tracking_uid in (
        (concepts.PAIR_FIRST, pair.tracking_uid_a),
        (concepts.PAIR_SECOND, pair.tracking_uid_b),
    ):
        items.append(uid_item(INFERRED_FROM, concept, tracking_uid))
        items.append(text_item(INFERRED_FROM, concept, names.get(tracking_uid, tracking_uid)))
    return items
