"""What comes before a data set in a file: preamble and File Meta Information (PS3.10 7.1)."""

import struct

from mirv.dicom_io.standard.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


def file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str) -> bytes:
    """Preamble and File Meta Information of a received data set.

    Written by hand: it depends on nothing but these UIDs, so the same data set gives the same
    file whoever sends it.
    """
    body = b"".join(
        _element(0x0002, number, b"UI", value.encode("ascii", "replace"), b"\0")
        for number, value in (
            (0x0002, sop_class_uid),
            (0x0003, sop_instance_uid),
            (0x0010, transfer_syntax),
            (0x0012, IMPLEMENTATION_CLASS_UID),
        )
    ) + _element(0x0002, 0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode(), b" ")
    version = struct.pack("<HH2sHI", 0x0002, 0x0001, b"OB", 0, 2) + b"\x00\x01"
    length = struct.pack("<HH2sHI", 0x0002, 0x0000, b"UL", 4, len(version) + len(body))
    return bytes(128) + b"DICM" + length + version + body


def _element(group: int, number: int, kind: bytes, value: bytes, padding: bytes) -> bytes:
    if len(value) % 2:
        value += padding
    return struct.pack("<HH2sH", group, number, kind, len(value)) + value
