"""What the node writes: one function an output, listed in `OUTPUTS`.

To add an output, write ``render(study, result, context) -> tuple[Artifact, ...]`` and list it here
under its role.
"""

from collections.abc import Callable

from analysis.model import StudyResult
from dicom_io.model import Artifact, RenderContext, StudyInput
from dicom_io.outputs.headline_sr import headline_sr
from dicom_io.outputs.lesion_sr import lesion_sr
from dicom_io.outputs.patient_sr import patient_sr
from dicom_io.outputs.report_pdf import report_pdf
from dicom_io.outputs.report_sc import report_sc
from dicom_io.outputs.segmentation import lesion_seg

Output = Callable[[StudyInput, StudyResult, RenderContext], tuple[Artifact, ...]]

OUTPUTS: tuple[tuple[str, Output], ...] = (
    ("lesion_sr", lesion_sr),
    ("patient_sr", patient_sr),
    ("lesion_seg", lesion_seg),
    ("headline_sr", headline_sr),
    ("report_pdf", report_pdf),
    ("report_sc", report_sc),
)
ALWAYS = frozenset({"lesion_sr", "patient_sr", "lesion_seg"})
"""These refer to each other; the others are made when `RenderContext.extras` names them."""


def render(study: StudyInput, result: StudyResult, context: RenderContext) -> tuple[Artifact, ...]:
    """Make every output of one result.

    The bytes follow from the arguments alone: a repeat after a crash makes identical objects.
    """
    return tuple(
        artifact
        for role, output in OUTPUTS
        if role in ALWAYS or role in context.extras
        for artifact in output(study, result, context)
    )


__all__ = ["ALWAYS", "OUTPUTS", "Output", "render"]
