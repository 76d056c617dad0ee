"""Rows of the SR templates (PS3.16) that both reports share; encoded content items."""

from collections.abc import Iterable, Mapping

import numpy as np
from pydicom import Dataset

from mirv.analysis.errors import Reason
from mirv.analysis.model import StudyResult
from mirv.config.profiles import ExtractionProfile
from mirv.dicom_io.model import Code, RenderContext, StudyInput
from mirv.dicom_io.outputs import document
from mirv.dicom_io.sr import concepts
from mirv.dicom_io.sr.concepts import own
from mirv.dicom_io.sr.encoding import clean
from mirv.dicom_io.sr.items import (
    CONTAINS,
    HAS_ACQ_CONTEXT,
    HAS_CONCEPT_MOD,
    HAS_OBS_CONTEXT,
    HAS_PROPERTIES,
    code_item,
    code_item_with,
    container_item,
    date_item,
    image_item,
    num_item,
    root_content,
    sop_reference,
    text_item,
    uid_item,
)
from mirv.dicom_io.standard.identity import MANUFACTURER, MODEL_NAME
from mirv.dicom_io.standard.uids import is_received_uid


def measurement_report(study: StudyInput, context: RenderContext, body: Iterable[bytes]) -> bytes:
    """TID 1500: template and content of the root container, which is the document itself."""
    return root_content([*preamble(study, context), *body], "1500")


def preamble(study: StudyInput, context: RenderContext) -> list[bytes]:
    """TID 1500, rows 2 to 5: what stands before the measurements."""
    modality = str(study.evidence.images[0].get("Modality") or "")
    procedure = concepts.PROCEDURES.get(modality, concepts.sct("363679005", "Imaging procedure"))
    return [
        *language(),
        *device_observer(context),
        code_item(HAS_CONCEPT_MOD, concepts.PROCEDURE_REPORTED, procedure),
        image_library(study),
    ]


def language() -> list[bytes]:
    """TID 1204."""
    return [code_item(HAS_CONCEPT_MOD, concepts.LANGUAGE, concepts.ENGLISH)]


def device_observer(context: RenderContext) -> list[bytes]:
    """TID 1002 and 1004: the node observed, no person did."""
    ae_title = clean(context.ae_title, 16) or "-"
    return [
        code_item(HAS_OBS_CONTEXT, concepts.OBSERVER_TYPE, concepts.DEVICE),
        uid_item(HAS_OBS_CONTEXT, concepts.DEVICE_UID, document.device_uid(context)),
        text_item(HAS_OBS_CONTEXT, concepts.DEVICE_NAME, ae_title),
        text_item(HAS_OBS_CONTEXT, concepts.DEVICE_MANUFACTURER, MANUFACTURER),
        text_item(HAS_OBS_CONTEXT, concepts.DEVICE_MODEL, MODEL_NAME),
        text_item(HAS_OBS_CONTEXT, concepts.DEVICE_SERIAL, ae_title),
    ]


def image_library(study: StudyInput) -> bytes:
    """TID 1600: every image analysed, with what they have in common."""
    references = [
        image_item(CONTAINS, None, sop_reference(str(im.SOPClassUID), str(im.SOPInstanceUID)))
        for im in study.evidence.images
    ]
    group = [*_library_descriptors(study), *references]
    return container_item(
        CONTAINS,
        concepts.IMAGE_LIBRARY,
        [container_item(CONTAINS, concepts.IMAGE_LIBRARY_GROUP, group)],
    )


def _library_descriptors(study: StudyInput) -> list[bytes]:
    """TID 1602 and 1604."""
    image = study.evidence.images[0]
    between_slices, vertical, horizontal = study.volume.geometry.spacing
    descriptors = []
    modality = str(image.get("Modality") or "")
    if modality in concepts.MODALITIES:
        kind = concepts.MODALITIES[modality]
        descriptors.append(code_item(HAS_ACQ_CONTEXT, concepts.MODALITY, kind))
    if date := study_date(image):
        descriptors.append(date_item(HAS_ACQ_CONTEXT, concepts.STUDY_DATE, date))
    frame_of_reference = str(image.get("FrameOfReferenceUID") or "")
    if is_received_uid(frame_of_reference):
        descriptors.append(
            uid_item(HAS_ACQ_CONTEXT, concepts.FRAME_OF_REFERENCE, frame_of_reference)
        )
    _, rows, columns = study.volume.geometry.shape
    pixels = concepts.ucum("{pixels}", "pixels")
    for name, value, unit in (
        (concepts.PIXEL_ROWS, rows, pixels),
        (concepts.PIXEL_COLUMNS, columns, pixels),
        (concepts.HORIZONTAL_SPACING, horizontal, concepts.MM),
        (concepts.VERTICAL_SPACING, vertical, concepts.MM),
        (concepts.SLICE_SPACING, between_slices, concepts.MM),
    ):
        descriptors.append(num_item(HAS_ACQ_CONTEXT, name, value, unit))
    return descriptors


def study_date(image: Dataset) -> str:
    """The study date when it is one, else "": a DATE item holds nothing else."""
    text = str(image.get("StudyDate") or "")
    return text if is_date(text) else ""


def is_date(text: str) -> bool:
    """Whether a text can stand in a DATE item."""
    return len(text) == 8 and text.isascii() and text.isdigit()


def tracking(identifier: str, uid: str) -> list[bytes]:
    """Tracking identifier and unique identifier, as every measurement group has them."""
    return [
        text_item(HAS_OBS_CONTEXT, concepts.TRACKING_IDENTIFIER, identifier),
        uid_item(HAS_OBS_CONTEXT, concepts.TRACKING_UID, uid),
    ]


def time_point(study: StudyInput) -> list[bytes]:
    """TID 1502: the node knows a time point by its study date."""
    date = study_date(study.evidence.images[0])
    return [text_item(HAS_OBS_CONTEXT, concepts.TIME_POINT, date)] if date else []


def method_code(profile: str, result: StudyResult) -> Code:
    """A profile as Measurement Method: its digest is the code, its name the meaning.

    Another digest is another method: values of both must not be taken for the same.
    """
    digest = result.provenance.profile_digests.get(profile, "")
    return own(digest[:16] or clean(profile, 64), profile)


def space_code(space: str, result: StudyResult) -> Code:
    """A feature space as coded modifier: its digest is the code where there is one."""
    digest = result.provenance.space_digests.get(space, "")
    return own(digest[:16] or clean(space, 64), space)


def algorithm(context: RenderContext, parameters: Iterable[str]) -> list[bytes]:
    """TID 4019: name, version, parameters."""
    return [
        text_item(HAS_CONCEPT_MOD, concepts.ALGORITHM_NAME, MODEL_NAME),
        text_item(HAS_CONCEPT_MOD, concepts.ALGORITHM_VERSION, context.software_version),
        *(text_item(HAS_CONCEPT_MOD, concepts.ALGORITHM_PARAMETERS, text) for text in parameters),
    ]


def profile_parameters(context: RenderContext, result: StudyResult) -> list[str]:
    """One text a profile: name, digest, and what an expert asks for first."""
    known = {profile.name: profile for profile in context.profiles}
    texts = []
    for name, digest in sorted(result.provenance.profile_digests.items()):
        text = f"profile={name} sha256={digest}"
        if name in known:
            text += f" {_settings(known[name])}"
        texts.append(text)
    origin = result.provenance
    texts.append(f"input sha256={origin.input_digest}")
    if origin.prior_study_uid:
        texts.append(
            f"earlier study={origin.prior_study_uid} date={origin.prior_study_date} "
            f"input sha256={origin.prior_input_digest}"
        )
    texts += [
        f"version {name}={version}" for name, version in sorted(result.provenance.versions.items())
    ]
    return texts


def _settings(profile: ExtractionProfile) -> str:
    parts: Mapping[str, object] = {
        **profile.settings,
        "imageTypes": ",".join(profile.image_types),
        "pixelType": profile.pixel_type,
    }
    return " ".join(f"{key}={_plain(value)}" for key, value in sorted(parts.items()))


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return "x".join(str(part) for part in value)
    return str(value)


def reason_item(
    name: Code, reason: Reason, modifiers: Iterable[bytes] = (), relationship: str = CONTAINS
) -> bytes:
    """A value there is none of: the concept with a coded reason instead of a number."""
    children = (
        *modifiers,
        text_item(HAS_PROPERTIES, concepts.REASON_DETAIL, reason.detail),
    )
    return code_item_with(relationship, name, own(reason.code, reason.code), children)


def statements(study: StudyInput, extra: Iterable[bytes] = ()) -> bytes:
    """Qualitative evaluations of the report: research use, quality checks, what was left out."""
    flags = [
        text_item(CONTAINS, concepts.QUALITY_FLAG, _quality_text(row)) for row in study.quality
    ]
    notice = text_item(CONTAINS, concepts.RESEARCH_USE, concepts.RESEARCH_USE_TEXT)
    return container_item(CONTAINS, concepts.QUALITATIVE_EVALUATIONS, [notice, *flags, *extra])


def _quality_text(row: object) -> str:
    fields = ("check", "outcome", "found", "wanted", "detail", "lesion")
    return "; ".join(f"{name}: {value}" for name in fields if (value := getattr(row, name)))


def is_number(value: float | None) -> bool:
    """True for what a NUM can hold."""
    return value is not None and bool(np.isfinite(value))
