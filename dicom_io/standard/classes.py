"""SOP classes the node takes and reads, and transfer syntaxes it knows by name (PS3.4, PS3.6)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InputClass:
    """A storage SOP class that is taken from peers and read.

    Attributes
    ----------
    uid : str
    name : str
        As PS3.6 has it.
    modality : str
        Which its objects have, by their IOD: ``CT``, ``MR``, ``PT``, ``SEG`` or ``RTSTRUCT``.
    """

    uid: str
    name: str
    modality: str


SEG_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
LABELMAP_CLASS = "1.2.840.10008.5.1.4.1.1.66.7"
RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"

INPUT_CLASSES = (
    InputClass("1.2.840.10008.5.1.4.1.1.2", "CT Image Storage", "CT"),
    InputClass("1.2.840.10008.5.1.4.1.1.2.1", "Enhanced CT Image Storage", "CT"),
    InputClass("1.2.840.10008.5.1.4.1.1.2.2", "Legacy Converted Enhanced CT Image Storage", "CT"),
    InputClass("1.2.840.10008.5.1.4.1.1.4", "MR Image Storage", "MR"),
    InputClass("1.2.840.10008.5.1.4.1.1.4.1", "Enhanced MR Image Storage", "MR"),
    InputClass("1.2.840.10008.5.1.4.1.1.4.4", "Legacy Converted Enhanced MR Image Storage", "MR"),
    InputClass("1.2.840.10008.5.1.4.1.1.128", "Positron Emission Tomography Image Storage", "PT"),
    InputClass(
        "1.2.840.10008.5.1.4.1.1.128.1", "Legacy Converted Enhanced PET Image Storage", "PT"
    ),
    InputClass("1.2.840.10008.5.1.4.1.1.130", "Enhanced PET Image Storage", "PT"),
    InputClass(SEG_CLASS, "Segmentation Storage", "SEG"),
    InputClass(LABELMAP_CLASS, "Label Map Segmentation Storage", "SEG"),
    InputClass(RTSTRUCT_CLASS, "RT Structure Set Storage", "RTSTRUCT"),
)
"""All of them, in the order they are offered in. What is not here is neither taken nor read."""


def _of(*modalities: str) -> frozenset[str]:
    return frozenset(one.uid for one in INPUT_CLASSES if one.modality in modalities)


CT_CLASSES, MR_CLASSES, PET_CLASSES = _of("CT"), _of("MR"), _of("PT")
IMAGE_CLASSES = CT_CLASSES | MR_CLASSES | PET_CLASSES
SEG_CLASSES = _of("SEG")
SEGMENTATION_MODALITIES = ("SEG", "RTSTRUCT")
SEGMENTATION_CLASSES = _of(*SEGMENTATION_MODALITIES)

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
NATIVE = frozenset({IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN})
