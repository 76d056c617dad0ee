"""Coded concepts used in reading and writing segmentations (SNOMED CT, PS3.16)."""

from pydicom import Dataset

from mirv.dicom_io.model import Code

ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
LESION = Code("52988006", "SCT", "Lesion")
METASTASIS = Code("14799000", "SCT", "Neoplasm, Secondary")
SEGMENTATION = Code("113076", "DCM", "Segmentation")
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")

LIVER = Code("10200004", "SCT", "Liver")
LUNG = Code("39607008", "SCT", "Lung")
BONE = Code("272673000", "SCT", "Bone")
LYMPH_NODE = Code("59441001", "SCT", "Lymph node")


def code_sequence(code: Code) -> list[Dataset]:
    """The one-element sequence that carries `code` (PS3.3 table 8.8-1, basic part)."""
    element = Dataset()
    element.CodeValue = code.value
    element.CodingSchemeDesignator = code.scheme
    element.CodeMeaning = code.meaning
    return [element]


def first_code(dataset: Dataset, keyword: str) -> Code | None:
    """The first complete code of a code sequence, None where there is none.

    Long and URN code values (PS3.3 8.1) count as values too.

    Parameters
    ----------
    dataset : Dataset
    keyword : str
        Of the code sequence.

    Returns
    -------
    Code or None
    """
    sequence = dataset.get(keyword)
    return code_of(sequence[0]) if sequence else None


def code_of(element: Dataset) -> Code | None:
    """The code that an item of a code sequence holds, None where it is not complete."""
    value = element.get("CodeValue") or element.get("LongCodeValue") or element.get("URNCodeValue")
    scheme = element.get("CodingSchemeDesignator")
    if not value or not (scheme or element.get("URNCodeValue")):
        return None
    return Code(str(value), str(scheme or ""), str(element.get("CodeMeaning") or ""))
