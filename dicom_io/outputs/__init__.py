"""What the node writes: one function an output, listed in `OUTPUTS`.

To add an output, write ``render(study, result, context) -> tuple[Artifact, ...]`` and list it here.
"""

from collections.abc import Callable

from analysis.model import StudyResult
from dicom_io.model import Artifact, RenderContext, StudyInput
from dicom_io.outputs.lesion_sr import lesion_sr
from dicom_io.outputs.patient_sr import patient_sr
from dicom_io.outputs.segmentation import lesion_seg

Output = Callable[[StudyInput, StudyResult, RenderContext], tuple[Artifact, ...]]

OUTPUTS: tuple[Output, ...] = (lesion_sr, patient_sr, lesion_seg)


def render(study: StudyInput, result: StudyResult, context: RenderContext) -> tuple[Artifact, ...]:
    """Make every output of one result.

    The bytes follow from the arguments alone: a repeat after a crash makes identical objects.
    """
    return tuple(artifact for output in OUTPUTS for artifact in output(study, result, context))


__all__ = ["OUTPUTS", "Output", "render"]
