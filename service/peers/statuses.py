"""DIMSE statuses and failure reasons the node gives and meets (PS3.7 annex C, PS3.4 B.2, C.4)."""

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
DUPLICATE_INSTANCE = 0x0111
NO_SUCH_INSTANCE = 0x0112
INVALID_ARGUMENT = 0x0115
CLASS_INSTANCE_CONFLICT = 0x0119
CLASS_NOT_SUPPORTED = 0x0122
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
# Of a retrieval: some sub-operations failed. Of a C-STORE, with its neighbours: kept, with a word.
WARNING = 0xB000
CANNOT_UNDERSTAND = 0xC000
PENDING = (0xFF00, 0xFF01)


def is_warning(status: int) -> bool:
    """Whether a C-STORE status says that the object is kept, with a word on it."""
    return status & 0xF000 == WARNING
