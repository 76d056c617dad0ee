"""What a SEG or RTSTRUCT yields: one segment or ROI each, with its mask and what was odd."""

from dataclasses import dataclass

from mirv.analysis.errors import Reason
from mirv.analysis.model import Mask
from mirv.dicom_io.model import Code, Note
from mirv.dicom_io.standard import codes


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """One segment or ROI on the grid of the image.

    Attributes
    ----------
    number : int
        Segment or ROI number.
    label : str
    tracking_id, tracking_uid : str
        "" when the object has none.
    algorithm_type, algorithm_name : str
    category, finding : Code
    anatomy : Code or None
    description : str
    mask : Mask or None
        None when `refusal` says why.
    notes : tuple of Note
    refusal : Reason or None
    """

    number: int
    label: str
    mask: Mask | None
    tracking_id: str = ""
    tracking_uid: str = ""
    algorithm_type: str = "MANUAL"
    algorithm_name: str = ""
    category: Code = codes.ABNORMAL
    finding: Code = codes.LESION
    anatomy: Code | None = None
    description: str = ""
    notes: tuple[Note, ...] = ()
    refusal: Reason | None = None
