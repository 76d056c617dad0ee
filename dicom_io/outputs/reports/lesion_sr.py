"""The lesion report: one TID 1411 group a lesion, every profile's features in it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mirv.analysis.errors import Reason
from mirv.analysis.masks.axes import axial_axes
from mirv.analysis.model import Lesion, LesionResult, StudyResult
from mirv.dicom_io.model import Artifact, Code, LesionSource, RenderContext, StudyInput
from mirv.dicom_io.outputs import document
from mirv.dicom_io.outputs.document import Reference, Role
from mirv.dicom_io.outputs.reports import template_content
from mirv.dicom_io.outputs.reports.derived import (
    DERIVED_MEASUREMENTS,
    VOLUME_NAME,
    Places,
    derived_measurements,
)
from mirv.dicom_io.outputs.segmentation.lesion_seg import (
    drawn_lesions,
    region_of,
    seg_role,
    segment_numbers,
)
from mirv.dicom_io.sr import concepts
from mirv.dicom_io.sr.feature_codes import FeatureForm, feature_form
from mirv.dicom_io.sr.items import (
    CONTAINS,
    HAS_CONCEPT_MOD,
    INFERRED_FROM,
    code_item,
    container_item,
    image_item,
    num_item,
    sop_reference,
    text_item,
    uid_item,
)

LESION_SR = Role(
    "lesion_sr", document.COMPREHENSIVE_3D_SR, "SR", 9001, "Lesion radiomics (research use)"
)


def lesion_sr(
    study: StudyInput, result: StudyResult, context: RenderContext
) -> tuple[Artifact, ...]:
    """Render the lesion report; none when no lesion has a voxel on the image grid."""
    if not drawn_lesions(study):
        return ()
    segmentation = document.made_here(study, context, seg_role(study, context))
    ds = document.sr_header(study, context, LESION_SR, [*document.inputs(study), segmentation])
    builder = _Builder(study, result, context, segmentation)
    before = template_content.algorithm(
        context, template_content.profile_parameters(context, result)
    )
    measurements = container_item(
        CONTAINS, concepts.IMAGING_MEASUREMENTS, [*before, *builder.groups()]
    )
    body = [measurements]
    if DERIVED_MEASUREMENTS in context.extras:
        path = (1, len(template_content.preamble(study, context)) + 1, len(before))
        body.append(derived_measurements(result, context, builder.places.under(path)))
    unmeasured = [
        text_item(CONTAINS, concepts.NOT_MEASURED, f"{lesion.tracking_id}: no voxel on the image")
        for lesion in study.lesions
        if lesion.mask.n_voxels == 0
    ]
    body.append(template_content.statements(study, unmeasured))
    content = template_content.measurement_report(study, context, body)
    return (document.artifact(ds, LESION_SR, context, content),)


@dataclass(frozen=True, slots=True)
class _Profile:
    """How the features of one profile are written, each once for all lesions."""

    method: Code
    forms: tuple[tuple[int, FeatureForm], ...]


class _Builder:
    """Measurement groups of one study."""

    def __init__(
        self,
        study: StudyInput,
        result: StudyResult,
        context: RenderContext,
        segmentation: Reference,
    ) -> None:
        self._study = study
        self._segmentation = segmentation
        self._numbers = segment_numbers(study)
        self._time_point = template_content.time_point(study)
        self._by_lesion = _by_lesion(result.lesions)
        self._profiles = _profiles(study, result, context)
        self._selected = context.selected
        self.places = Places()
        self._source_series = str(study.evidence.images[0].SeriesInstanceUID)

    def groups(self) -> list[bytes]:
        """TID 1411 of every lesion that has voxels, in the lesions' order."""
        return [
            self._group(position, lesion)
            for position, lesion in enumerate(drawn_lesions(self._study), start=1)
        ]

    def _group(self, position: int, lesion: Lesion) -> bytes:
        results = self._by_lesion.get(lesion.tracking_uid, ())
        source = self._study.sources[lesion.tracking_uid]
        children = [
            *template_content.tracking(lesion.tracking_id, lesion.tracking_uid),
            *finding_items(lesion, source),
            *self._time_point,
            *self._region(lesion),
            *_identity(lesion, source),
        ]
        self.places.add("", VOLUME_NAME, position, len(children) + 1)
        children += self._size(lesion, results)
        for lesion_result in results:
            children += self._features(lesion_result, position, len(children))
        return container_item(CONTAINS, concepts.MEASUREMENT_GROUP, children, "1411")

    def _region(self, lesion: Lesion) -> list[bytes]:
        """The segment of the output SEG, and the series it was drawn on."""
        reference = sop_reference(
            self._segmentation.sop_class_uid,
            self._segmentation.sop_instance_uid,
            segments=[self._numbers[lesion.tracking_uid]],
        )
        return [
            image_item(CONTAINS, concepts.REFERENCED_SEGMENT, reference),
            uid_item(CONTAINS, concepts.SOURCE_SERIES, self._source_series),
        ]

    def _size(self, lesion: Lesion, results: Sequence[LesionResult]) -> list[bytes]:
        """Volume and axial diameters of the mask as received, before any resampling.

        The tables' millilitres stand behind the volume, exactly.
        """
        volume_ml = results[0].volume_ml if results else _volume_ml(self._study, lesion)
        exact = num_item(INFERRED_FROM, concepts.VOLUME_ML, volume_ml, concepts.ML)
        axes = axial_axes(lesion.mask, self._study.volume.geometry)
        # Viewers look into the children of every NUM and fail on one without any.
        largest = code_item(HAS_CONCEPT_MOD, concepts.DERIVATION, concepts.MAXIMUM)
        return [
            num_item(CONTAINS, concepts.VOLUME, volume_ml * 1000, concepts.MM3, [exact]),
            num_item(CONTAINS, concepts.LONG_AXIS, axes.long_mm, concepts.MM, [largest]),
            num_item(CONTAINS, concepts.SHORT_AXIS, axes.short_mm, concepts.MM, [largest]),
        ]

    def _features(self, result: LesionResult, group: int, before: int) -> list[bytes]:
        """Items of one profile; `before` items stand above them in group number `group`."""
        profile = self._profiles[result.profile]
        of_profile = code_item(HAS_CONCEPT_MOD, concepts.MEASUREMENT_METHOD, profile.method)
        items = [
            text_item(CONTAINS, concepts.WARNING, warning, [of_profile])
            for warning in result.warnings
        ]
        if result.excluded is not None:
            items.append(
                template_content.reason_item(concepts.NO_FEATURES, result.excluded, [of_profile])
            )
            return items
        values = result.values.tolist()
        selected = frozenset(self._selected.get(result.profile, ()))
        for index, form in profile.forms:
            value = values[index]
            if form.name in result.missing or not template_content.is_number(value):
                items.append(_missing(form, result))
                continue
            items.append(num_item(CONTAINS, form.concept, value, form.unit, (form.modifiers,)))
            if form.name in selected:
                self.places.add(result.profile, form.name, group, before + len(items))
        return items


def _missing(form: FeatureForm, result: LesionResult) -> bytes:
    reason = result.missing.get(form.name) or Reason("not_finite", "the value is not a number")
    return template_content.reason_item(form.concept, reason, [form.modifiers])


def _by_lesion(results: Iterable[LesionResult]) -> Mapping[str, list[LesionResult]]:
    grouped: dict[str, list[LesionResult]] = {}
    for result in results:
        grouped.setdefault(result.tracking_uid, []).append(result)
    return grouped


def _profiles(
    study: StudyInput, result: StudyResult, context: RenderContext
) -> dict[str, _Profile]:
    known = {profile.name: profile for profile in context.profiles}
    profiles: dict[str, _Profile] = {}
    names_of: dict[str, tuple[str, ...]] = {}
    for lesion in result.lesions:
        if names_of.setdefault(lesion.profile, lesion.names) != lesion.names:
            raise ValueError(f"profile {lesion.profile}: lesions differ in feature names")
    for name, features in names_of.items():
        method = template_content.method_code(name, result)
        forms = tuple(
            (index, feature_form(feature, method, known.get(name), study.volume.unit))
            for index, feature in enumerate(features)
            if is_written(feature, context.sr_features, context.selected.get(name, ()))
        )
        profiles[name] = _Profile(method, forms)
    return profiles


def is_written(feature: str, setting: str, selected: Sequence[str]) -> bool:
    """Whether a feature goes into the report: ``core``, ``original`` or ``all``."""
    if setting == "core":
        return feature in selected
    return setting == "all" or feature.startswith("original_")


def finding_items(lesion: Lesion, source: LesionSource) -> list[bytes]:
    """Finding category, finding, finding site."""
    items = [
        code_item(CONTAINS, concepts.FINDING_CATEGORY, source.category),
        code_item(CONTAINS, concepts.FINDING, source.finding),
    ]
    if region := region_of(lesion, source):
        items.append(code_item(HAS_CONCEPT_MOD, concepts.FINDING_SITE, region))
    return items


def _identity(lesion: Lesion, source: LesionSource) -> list[bytes]:
    """Number, label as received, site, origin: what a table needs to name the lesion."""
    site = concepts.own(lesion.site.replace(" ", "-"), lesion.site)
    items = [
        text_item(CONTAINS, concepts.LESION_NUMBER, str(lesion.number)),
        code_item(CONTAINS, concepts.SITE, site),
        uid_item(CONTAINS, concepts.SOURCE_SEGMENTATION, source.segmentation_uid),
    ]
    if lesion.label.strip():
        items.append(text_item(CONTAINS, concepts.LESION_LABEL, lesion.label))
    return items


def _volume_ml(study: StudyInput, lesion: Lesion) -> float:
    return lesion.mask.n_voxels * study.volume.geometry.voxel_volume_ml
