"""Coded concepts of the outputs: the standard's own, and the node's under one declared scheme."""

import hashlib
from functools import lru_cache

from mirv.dicom_io.model import Code

SCHEME = "99MIRV"
SCHEME_NAME = "mirv-node concepts"
SCHEME_ORGANIZATION = "mirv-node"


def dcm(value: str, meaning: str) -> Code:
    """A concept of PS3.16 Annex D."""
    return Code(value, "DCM", meaning)


def sct(value: str, meaning: str) -> Code:
    """A SNOMED CT concept."""
    return Code(value, "SCT", meaning)


def ucum(value: str, meaning: str | None = None) -> Code:
    """A UCUM unit."""
    return Code(value, "UCUM", meaning or value)


@lru_cache(maxsize=4096)
def own(value: str, meaning: str) -> Code:
    """A concept of the node's own scheme.

    Readers differ in whether they know Long Code Value, so what is longer than the 16 characters
    of Code Value is shortened, its digest telling it from others.
    """
    if len(value) > 16:
        value = f"{value[:9]}-{hashlib.sha256(value.encode()).hexdigest()[:6]}"
    return Code(value, SCHEME, meaning)


# Document structure (TID 1500, 1600, 1204, 1002, 1004)
IMAGING_MEASUREMENT_REPORT = dcm("126000", "Imaging Measurement Report")
IMAGING_MEASUREMENTS = dcm("126010", "Imaging Measurements")
DERIVED_IMAGING_MEASUREMENTS = dcm("126011", "Derived Imaging Measurements")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
MEASUREMENT_GROUP = dcm("125007", "Measurement Group")
IMAGE_LIBRARY = dcm("111028", "Image Library")
IMAGE_LIBRARY_GROUP = dcm("126200", "Image Library Group")
LANGUAGE = dcm("121049", "Language of Content Item and Descendants")
ENGLISH = Code("en", "RFC5646", "English")
OBSERVER_TYPE = dcm("121005", "Observer Type")
DEVICE = dcm("121007", "Device")
DEVICE_UID = dcm("121012", "Device Observer UID")
DEVICE_NAME = dcm("121013", "Device Observer Name")
DEVICE_MANUFACTURER = dcm("121014", "Device Observer Manufacturer")
DEVICE_MODEL = dcm("121015", "Device Observer Model Name")
DEVICE_SERIAL = dcm("121016", "Device Observer Serial Number")
PROCEDURE_REPORTED = dcm("121058", "Procedure reported")

# Image library (TID 1602, 1604)
MODALITY = dcm("121139", "Modality")
STUDY_DATE = dcm("111060", "Study Date")
FRAME_OF_REFERENCE = dcm("112227", "Frame of Reference UID")
PIXEL_ROWS = dcm("110910", "Pixel Data Rows")
PIXEL_COLUMNS = dcm("110911", "Pixel Data Columns")
HORIZONTAL_SPACING = dcm("111026", "Horizontal Pixel Spacing")
VERTICAL_SPACING = dcm("111066", "Vertical Pixel Spacing")
SLICE_SPACING = dcm("112226", "Spacing between slices")

# Measurement groups (TID 1410, 1411, 1419, 1420, 1501, 1502, 300, 4019)
TRACKING_IDENTIFIER = dcm("112039", "Tracking Identifier")
TRACKING_UID = dcm("112040", "Tracking Unique Identifier")
FINDING_CATEGORY = sct("276214006", "Finding category")
FINDING = dcm("121071", "Finding")
FINDING_SITE = sct("363698007", "Finding Site")
TIME_POINT = Code("C2348792", "UMLS", "Time Point")
REFERENCED_SEGMENT = dcm("121191", "Referenced Segment")
SOURCE_SERIES = dcm("121232", "Source series for segmentation")
SOURCE_OF_MEASUREMENT = dcm("121112", "Source of Measurement")
IMAGE_REGION = dcm("111030", "Image Region")
MEASUREMENT_METHOD = sct("370129005", "Measurement Method")
DERIVATION = dcm("121401", "Derivation")
EQUIVALENT_NAME = dcm("121050", "Equivalent Meaning of Concept Name")
ALGORITHM_NAME = dcm("111001", "Algorithm Name")
ALGORITHM_VERSION = dcm("111003", "Algorithm Version")
ALGORITHM_PARAMETERS = dcm("111002", "Algorithm Parameters")
COMMENT = dcm("121106", "Comment")

# Measurements
VOLUME = sct("118565006", "Volume")
LONG_AXIS = sct("103339001", "Long Axis")
SHORT_AXIS = sct("103340004", "Short Axis")
MAXIMUM = sct("56851009", "Maximum")

# The node's own
VOLUME_ML = own("volume-ml", "Volume in millilitres, as tabulated")
LESION_NUMBER = own("lesion-number", "Lesion number")
LESION_LABEL = own("lesion-label", "Lesion label as received")
SOURCE_SEGMENTATION = own("segmentation", "Segmentation the lesion was drawn in")
SITE = own("site", "Metastatic site")
WARNING = own("warning", "Extraction warning")
NO_FEATURES = own("no-features", "No features of this lesion")
UNIT = own("unit", "Unit the value would have")
REASON_DETAIL = own("reason-detail", "Detail of the reason")
IMAGE_TYPE = own("image-type", "Image type")
SUBBAND = own("subband", "Wavelet sub-band or filter parameter")
DISCRETISATION = own("discretisation", "Discretisation method")
AGGREGATION = own("aggregation", "Texture matrix aggregation")
FEATURE_SPACE = own("feature-space", "Feature space")
LESION_COUNT = own("n-lesions", "Number of lesions that entered")
PAIR_FIRST = own("pair-lesion-a", "Most divergent pair, first lesion")
PAIR_SECOND = own("pair-lesion-b", "Most divergent pair, second lesion")
QUALITY_FLAG = own("quality-flag", "Quality check")
SUMMARY = own("summary", "Summary of the patient's lesions")
RESEARCH_USE = own("research-use", "Research use statement")
PATIENT_HETEROGENEITY = own("heterogeneity", "Inter-lesion heterogeneity")
EARLIER_STUDY = own("earlier-study", "Study Instance UID of the earlier study compared with")
EARLIER_DATE = own("earlier-date", "Study Date of the earlier study compared with")
EARLIER_TRACKING_UID = own("earlier-lesion", "Tracking Unique Identifier in the earlier study")
LESION_CHANGE = own("lesion-change", "Change of a lesion since an earlier study")
CHANGE_STATE = own("change-state", "What became of the lesion")
MATCHED_BY = own("matched-by", "What the lesions of both studies were matched by")
EARLIER_ML = own("earlier-ml", "Volume in the earlier study")
CURRENT_ML = own("current-ml", "Volume in this study")
VOLUME_CHANGE = own("volume-change", "Change of volume since the earlier study")
REPLACED = own("replaced", "Version that this one replaces")
NOT_MEASURED = own("not-measured", "Lesion not measured")

# Modifiers' values that IBSI names (image filters and features)
WAVELET = Code("25BO", "IBSI", "Separable wavelet filter")
LAPLACIAN_OF_GAUSSIAN = Code("L6PA", "IBSI", "Laplacian-of-Gaussian filter")
FIXED_BIN_SIZE = Code("Q3RU", "IBSI", "Fixed bin size")
FIXED_BIN_NUMBER = Code("K15C", "IBSI", "Fixed bin number")
AVERAGED_3D = Code("ITBB", "IBSI", "3D: averaged over directions")
VOLUME_3D = Code("KOBO", "IBSI", "3D: one matrix of the volume")

# Units
MM = ucum("mm", "millimeter")
MM3 = ucum("mm3", "cubic millimeter")
ML = ucum("ml", "milliliter")

MODALITIES = {
    "CT": dcm("CT", "Computed Tomography"),
    "MR": dcm("MR", "Magnetic Resonance"),
    "PT": dcm("PT", "Positron emission tomography"),
}
PROCEDURES = {
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
    "MR": Code("25056-3", "LN", "MRI unspecified body region"),
    "PT": Code("44136-0", "LN", "PET unspecified body region"),
}
RESEARCH_USE_TEXT = "Research use; not a diagnostic or prognostic statement."
