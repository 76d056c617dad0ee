"""Multipart answers (RFC 2046 section 5.1), taken apart as they come: one body in memory."""

from collections.abc import Iterable, Iterator

from mirv.analysis.errors import Transient


def boundary_of(content_type: str) -> bytes:
    """The boundary a Content-Type names.

    Raises
    ------
    Transient
        It names none.
    """
    found = content_type.partition("boundary=")[2].partition(";")[0].strip().strip('"')
    if not found:
        raise Transient(f"found content type {content_type[:80]!r}, wanted multipart/related")
    return found.encode("ascii", "replace")


def bodies(chunks: Iterable[bytes], boundary: bytes, limit: int) -> Iterator[bytes]:
    """The bodies of the parts.

    Parameters
    ----------
    chunks : iterable of bytes
        The answer as it comes.
    limit : int
        Bytes a part may have.

    Raises
    ------
    Transient
        A part is larger, or the answer ends before its closing boundary.
    """
    delimiter = b"\r\n--" + boundary
    held = bytearray(b"\r\n")  # so that the first boundary is like the others
    looked = 0
    in_part = False
    for chunk in chunks:
        held += chunk
        while (at := held.find(delimiter, looked)) >= 0:
            if len(held) < at + len(delimiter) + 2:
                break  # whether it is the closing one comes with the next chunk
            if in_part:
                yield bytes(held[:at]).partition(b"\r\n\r\n")[2]
            if held[at + len(delimiter) : at + len(delimiter) + 2] == b"--":
                return
            del held[: at + len(delimiter)]
            looked, in_part = 0, True
        else:
            looked = max(0, len(held) - len(delimiter))
        if len(held) > limit:
            raise Transient(f"found a part of more than {limit} bytes")
    raise Transient("the answer broke off")
