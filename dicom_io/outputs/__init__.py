"""What the node writes: one function an output, listed in `OUTPUTS`.

To add an output, write ``render(study, result, context) -> tuple[Artifact, ...]`` and list it here
with its role. It is made when the setting ``outputs.extras`` names it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mirv.analysis.model import StudyResult
from mirv.config.errors import SettingsError
from mirv.dicom_io.model import Artifact, RenderContext, StudyInput
from mirv.dicom_io.outputs.document import Role
from mirv.dicom_io.outputs.pages.pdf import REPORT_PDF, report_pdf
from mirv.dicom_io.outputs.pages.secondary_capture import REPORT_SC, report_sc
from mirv.dicom_io.outputs.reports.derived import DERIVED_MEASUREMENTS
from mirv.dicom_io.outputs.reports.headline_sr import HEADLINE_SR, headline_sr
from mirv.dicom_io.outputs.reports.lesion_sr import LESION_SR, lesion_sr
from mirv.dicom_io.outputs.reports.patient_sr import PATIENT_SR, patient_sr
from mirv.dicom_io.outputs.segmentation.lesion_seg import LABELMAP_SEG, LESION_SEG, lesion_seg

Render = Callable[[StudyInput, StudyResult, RenderContext], tuple[Artifact, ...]]


@dataclass(frozen=True, slots=True)
class Output:
    """One kind of object the node writes.

    Attributes
    ----------
    role : Role
    render : callable
        Its bytes follow from its arguments alone.
    what, readers : str
        For the documentation: which object it is, and whom it is for.
    templates : str
        Numbers of the SR templates it is made of.
    always : bool
        Made of every result; others when `RenderContext.extras` names them.
    variants : tuple of Role
        The same role as an object of another class, by setting.
    """

    role: Role
    render: Render
    what: str
    readers: str
    templates: str = ""
    always: bool = False
    variants: tuple[Role, ...] = ()


OUTPUTS: tuple[Output, ...] = (
    # The first three refer to each other.
    Output(
        LESION_SR,
        lesion_sr,
        "Comprehensive 3D SR, TID 1500, one TID 1411 group a lesion",
        "programs: all features",
        "1500, 1204, 1002, 1004, 1600, 1411, 1419, 1502, 4019; 1420 by setting",
        always=True,
    ),
    Output(
        PATIENT_SR,
        patient_sr,
        "Comprehensive 3D SR, TID 1500, one TID 1501 group a profile and space",
        "programs: indices",
        "1500, 1204, 1002, 1004, 1600, 1501, 300, 1502, 4019",
        always=True,
    ),
    Output(
        LESION_SEG,
        lesion_seg,
        "Segmentation, one segment a lesion",
        "viewers, programs",
        always=True,
        variants=(LABELMAP_SEG,),
    ),
    Output(
        HEADLINE_SR,
        headline_sr,
        "Comprehensive 3D SR, TID 1500, one TID 1410 group a lesion",
        "viewers: diameters drawn",
        "1500, 1204, 1002, 1004, 1600, 1410, 1419, 1502, 4019",
    ),
    Output(REPORT_PDF, report_pdf, "Encapsulated PDF, two pages up to 40 lesions", "people"),
    Output(
        REPORT_SC,
        report_sc,
        "Multi-frame Grayscale Byte Secondary Capture: the same pages at 150 dpi, 2.2 MB each",
        "people whose archive shows no PDF",
    ),
)


def extra_names() -> tuple[str, ...]:
    """What ``outputs.extras`` may name."""
    return (
        *(output.role.name for output in OUTPUTS if not output.always),
        DERIVED_MEASUREMENTS,
    )


def check_extras(extras: Iterable[str]) -> None:
    """Check the names of what is made beside the outputs that always are.

    Raises
    ------
    SettingsError
        A name that no output has.
    """
    known = extra_names()
    if unknown := [name for name in extras if name not in known]:
        raise SettingsError(
            f"outputs.extras: found {', '.join(unknown)}, wanted some of {', '.join(known)}"
        )


def render(study: StudyInput, result: StudyResult, context: RenderContext) -> tuple[Artifact, ...]:
    """Make every output of one result.

    The bytes follow from the arguments alone: a repeat after a crash makes identical objects.
    """
    return tuple(
        artifact
        for output in OUTPUTS
        if output.always or output.role.name in context.extras
        for artifact in output.render(study, result, context)
    )
