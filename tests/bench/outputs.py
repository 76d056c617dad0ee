"""Speed of SR and SEG, as ratio to plain highdicom calls on the same study in the same run."""

import io
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from mirv.analysis.model import LesionResult, StudyResult
from mirv.dicom_io.model import StudyInput
from mirv.dicom_io.outputs.reports.lesion_sr import lesion_sr
from mirv.dicom_io.outputs.reports.own_report import read
from mirv.dicom_io.outputs.reports.template_content import method_code
from mirv.dicom_io.outputs.segmentation.lesion_seg import lesion_seg
from mirv.dicom_io.sr.feature_codes import feature_form
from mirv.dicom_io.standard.uids import derive_uid
from tests.dicom_io.outputs.samples import PROFILES, context_of, phantom_study, result_of

SHAPE, SPACING = (100, 256, 256), (2.0, 1.2, 1.2)


def run() -> list[str]:
    """Rows of the outputs' bench: what, seconds, ratio."""
    with tempfile.TemporaryDirectory() as folder:
        forty = phantom_study(Path(folder) / "40", 40, shape=SHAPE, spacing=SPACING)
    return [*_against_highdicom(forty), *_growth(_repeated(forty, 100))]


def _repeated(study: StudyInput, n: int) -> StudyInput:
    """As many lesions as wanted: the study's own again, under other tracking UIDs."""
    lesions, sources = [], {}
    for number in range(n):
        like = study.lesions[number % len(study.lesions)]
        uid = derive_uid("bench", str(number))
        lesions.append(replace(like, number=number + 1, tracking_uid=uid))
        sources[uid] = study.sources[like.tracking_uid]
    return replace(study, lesions=tuple(lesions), sources=sources)


def _seconds(action: Callable[[], object], times: int = 1) -> float:
    """Best CPU time of `times` runs: other work on the machine does not count."""
    best = float("inf")
    for _ in range(times):
        start = time.process_time()
        action()
        best = min(best, time.process_time() - start)
    return best


def _against_highdicom(study: StudyInput) -> list[str]:
    result, context = result_of(study, PROFILES[:1], holes=False), context_of("all")
    ours = _seconds(lambda: (lesion_sr(study, result, context), lesion_seg(study, result, context)),
                    3)  # fmt: skip
    theirs = _seconds(
        lambda: (_written(_highdicom_sr(study, result)), _written(_highdicom_seg(study)))
    )
    return [
        f"SR + SEG, 40 lesions x 107 features: {ours:.2f} s; plain highdicom {theirs:.2f} s; "
        f"ratio {theirs / ours:.0f}"
    ]


def _written(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer)
    return buffer.getvalue()


def _growth(study: StudyInput) -> list[str]:
    """The large case, its growth with the number of lesions, and reading it back."""
    context, profile = context_of("all"), PROFILES[1:]
    seconds = {}
    for n in (25, 50, 100):
        part = replace(study, lesions=study.lesions[:n])
        result = result_of(part, profile, holes=False)
        seconds[n] = _seconds(
            lambda part=part, result=result: (  # type: ignore[misc]
                lesion_sr(part, result, context), lesion_seg(part, result, context),
            )
        )  # fmt: skip
    (report,) = lesion_sr(study, result_of(study, profile, holes=False), context)
    reading = _seconds(lambda: read(report.content))
    per_lesion = ", ".join(f"{n}: {1000 * s / n:.1f}" for n, s in seconds.items())
    return [
        f"SR + SEG, 100 lesions x 1218 features: {seconds[100]:.2f} s, "
        f"{len(report.content) / 1e6:.0f} MB",
        f"ms a lesion by number of lesions: {per_lesion}",
        f"reading that SR back: {reading:.2f} s",
    ]


def _highdicom_seg(study: StudyInput) -> Dataset:
    """The same masks by highdicom, which wants them as one array."""
    shape = study.volume.geometry.shape
    masks = np.zeros((*shape, len(study.lesions)), np.uint8)
    for number, lesion in enumerate(study.lesions):
        masks[(*lesion.mask.slices, number)] = lesion.mask.values
    descriptions = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=lesion.label,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Neoplasm,
            algorithm_type="MANUAL",
            tracking_uid=lesion.tracking_uid,
            tracking_id=lesion.tracking_id,
        )
        for number, lesion in enumerate(study.lesions, start=1)
    ]
    return highdicom.seg.Segmentation(
        source_images=list(study.evidence.images), pixel_array=masks,
        segmentation_type="BINARY", segment_descriptions=descriptions,
        series_instance_uid=generate_uid(), series_number=1, sop_instance_uid=generate_uid(),
        instance_number=1, manufacturer="bench", manufacturer_model_name="bench",
        software_versions="1", device_serial_number="1",
    )  # fmt: skip


def _highdicom_sr(study: StudyInput, result: StudyResult) -> Dataset:
    """The same measurements by highdicom's template classes, without our modifiers."""
    image = study.evidence.images[0]
    device = highdicom.sr.DeviceObserverIdentifyingAttributes(uid=generate_uid())
    observer = highdicom.sr.ObserverContext(codes.DCM.Device, device)
    groups = [_highdicom_group(study, lesion, result, n) for n, lesion in
              enumerate(result.lesions, start=1)]  # fmt: skip
    report = highdicom.sr.MeasurementReport(
        observation_context=highdicom.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=groups,
    )
    return highdicom.sr.Comprehensive3DSR(
        evidence=[*study.evidence.images, *study.evidence.segmentations], content=report,
        series_instance_uid=generate_uid(), series_number=1, sop_instance_uid=generate_uid(),
        instance_number=1, manufacturer="bench", is_complete=True,
        institution_name=str(image.get("InstitutionName") or "bench"),
    )  # fmt: skip


def _highdicom_group(
    study: StudyInput, lesion: LesionResult, result: StudyResult, number: int
) -> object:
    image = study.evidence.images[0]
    method = method_code(lesion.profile, result)
    measurements = []
    for name, value in zip(lesion.names, lesion.values.tolist(), strict=True):
        form = feature_form(name, method, None, "HU")
        measurements.append(
            highdicom.sr.Measurement(
                name=CodedConcept(form.concept.value, form.concept.scheme, form.concept.meaning),
                value=value,
                unit=CodedConcept(form.unit.value, "UCUM", form.unit.meaning),
                method=CodedConcept(method.value, method.scheme, method.meaning),
            )
        )
    return highdicom.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=highdicom.sr.TrackingIdentifier(lesion.tracking_uid, lesion.label),
        referenced_segment=highdicom.sr.ReferencedSegment(
            sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
            sop_instance_uid=study.evidence.segmentations[0].SOPInstanceUID,
            segment_number=number,
            source_series=highdicom.sr.SourceSeriesForSegmentation(image.SeriesInstanceUID),
        ),
        finding_type=codes.SCT.Neoplasm,
        measurements=measurements,
    )  # fmt: skip
