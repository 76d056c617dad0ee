"""Unique identifiers that follow from what they name, so that a repeat makes the same object."""

import hashlib
import re

_PROPER = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+")
_RECEIVED = re.compile(r"[0-9.]{1,64}")
_LONGEST = 64


def is_uid(value: str) -> bool:
    """Whether a value is a UID by PS3.5 9.1: what may stand as an identifier of our own making."""
    return len(value) <= _LONGEST and _PROPER.fullmatch(value) is not None


def is_received_uid(value: str) -> bool:
    """Whether a value is let in as the UID of an object, series, study or frame of reference.

    Zeros that lead, and dots that end or follow each other, are in real archives. Such a value is
    the only name its object has: it is kept, and references repeat it.
    """
    return _RECEIVED.fullmatch(value) is not None


def derive_uid(*parts: str) -> str:
    """Derive a ``2.25.`` UID (PS3.5 B.2) from text.

    The same parts give the same UID on every machine; ``("ab", "c")`` and ``("a", "bc")`` differ.

    Parameters
    ----------
    *parts : str
        What the UID stands for, e.g. a digest and a role.

    Returns
    -------
    str
        ``2.25.`` and the decimal form of a version 8 UUID (RFC 9562) made of the SHA-256.
    """
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    number = int.from_bytes(digest.digest()[:16], "big")
    number &= ~(0xF << 76) & ~(0x3 << 62)
    number |= (0x8 << 76) | (0x2 << 62)
    return f"2.25.{number}"
