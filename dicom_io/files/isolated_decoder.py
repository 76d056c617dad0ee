"""Decoding in a process of its own: GDCM, which alone decodes JPEG lossless, dies of some damage.

The process starts when first needed, takes requests on its standard input, and ends with that
input; when it dies, the frame is refused and the next request starts another.

A request is the length of a JSON text (4 bytes), the text, and the fragment; an answer is a status
byte, a length (8 bytes) and the stored values, or the words of the fault.
"""

import atexit
import json
import resource
import struct
import subprocess
import sys
import threading
import warnings
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder

from mirv.analysis.errors import Unsuitable
from mirv.config.fresh_interpreter import command
from mirv.dicom_io.files.values import PARSE_FAULTS, said

SECONDS = 30
MEMORY = 2 << 30
FORMAT = (
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SamplesPerPixel",
    "PhotometricInterpretation",
)
_lock = threading.Lock()
_process: subprocess.Popen[bytes] | None = None


def decode(dataset: Dataset, fragment: bytes, syntax: str) -> NDArray[Any]:
    """Decode one frame in the other process.

    Parameters
    ----------
    dataset : Dataset
        Tells the format of the pixels.
    fragment : bytes
        The encoded frame.
    syntax : str
        Transfer syntax UID.

    Returns
    -------
    array (rows, columns)
        Stored integers, before any rescaling.

    Raises
    ------
    Unsuitable
        ``undecodable_pixels``: the decoder refused the frame, died of it, or took too long.
    """
    question = {keyword: dataset.get(keyword) for keyword in FORMAT}
    head = json.dumps({"syntax": syntax, "size": len(fragment), "format": question}).encode()
    with _lock:
        answer = _ask(struct.pack("<L", len(head)) + head + fragment)
    signed = int(dataset.get("PixelRepresentation") or 0) == 1
    kind = np.dtype(f"<{'i' if signed else 'u'}{int(dataset.BitsAllocated) // 8}")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if len(answer) != rows * columns * kind.itemsize:
        raise Unsuitable(
            "undecodable_pixels", f"found {len(answer)} bytes in a frame of {rows} x {columns}"
        )
    return np.frombuffer(answer, kind).reshape(rows, columns)


def close() -> None:
    """End the other process, if there is one."""
    global _process
    with _lock:
        process, _process = _process, None
    if process is not None:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:  # what it died of was still on its way
                continue
    process.wait()


atexit.register(close)


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - this interpreter, fixed code
        command(main),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _ask(request: bytes) -> bytes:
    global _process
    if _process is None or _process.poll() is not None:
        if _process is not None:
            _end(_process)
        _process = _start()
    process = _process
    clock = threading.Timer(SECONDS, process.kill)
    clock.start()
    try:
        good, answer = _exchange(process, request)
    except (OSError, EOFError) as error:
        _process = None
        _end(process)
        raise Unsuitable(
            "undecodable_pixels", "the decoder died of this frame or took too long"
        ) from error
    finally:
        clock.cancel()
    if not good:
        raise Unsuitable("undecodable_pixels", answer.decode("utf-8", "replace"))
    return answer


def _exchange(process: subprocess.Popen[bytes], request: bytes) -> tuple[bool, bytes]:
    if process.stdin is None or process.stdout is None:
        raise EOFError
    process.stdin.write(request)
    process.stdin.flush()
    good, length = struct.unpack("<?Q", _exactly(process.stdout, 9))
    return good, _exactly(process.stdout, length)


def _exactly(stream: Any, count: int) -> bytes:
    content: bytes = stream.read(count)
    if len(content) < count:
        raise EOFError
    return content


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    while head := requests.read(4):
        question = json.loads(_exactly(requests, struct.unpack("<L", head)[0]))
        fragment = _exactly(requests, question["size"])
        try:
            answer, good = _decoded(question, fragment), True
        except PARSE_FAULTS as error:
            answer, good = said(error).encode(), False
        answers.write(struct.pack("<?Q", good, len(answer)) + answer)
        answers.flush()


def _decoded(question: dict[str, Any], fragment: bytes) -> bytes:
    ds = Dataset()
    for keyword, value in question["format"].items():
        if value is not None:
            setattr(ds, keyword, value)
    ds.NumberOfFrames = 1
    ds.PixelData = encapsulate([fragment])
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = question["syntax"]
    values, _ = get_decoder(question["syntax"]).as_array(
        ds, index=0, raw=True, decoding_plugin="gdcm"
    )
    content: bytes = values.astype(values.dtype.newbyteorder("<")).tobytes()
    return content


def main() -> None:
    """Serve on the standard streams, with limits of its own."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    warnings.simplefilter("ignore")
    _serve(sys.stdin.buffer, sys.stdout.buffer)
