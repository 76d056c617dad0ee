"""Damaged DICOM files, and a reader in a cage: each is read or refused, in time and memory.

Run as a module for the long form: ``python -m tests.dicom_io.files.mutants --count 20000``.
"""

import argparse
import os
import resource
import signal
import struct
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mirv.analysis.errors import Unsuitable
from mirv.analysis.model import Geometry
from mirv.config.settings.processing import Reading
from mirv.dicom_io.files.folder import headers_of_folder
from mirv.dicom_io.files.header import read_header
from mirv.dicom_io.files.pixels import stored_frames
from mirv.dicom_io.files.values import parse
from mirv.dicom_io.masks.rtstruct import read_rtstruct
from mirv.dicom_io.masks.seg import read_seg
from mirv.dicom_io.phantom.patient import write_study
from mirv.dicom_io.standard.classes import RTSTRUCT_CLASS, SEG_CLASSES
from mirv.dicom_io.study.assemble import assemble
from mirv.dicom_io.study.matching import match

SECONDS = 5
MEMORY = 1 << 30
STUDY_EVERY = 5
READ, REFUSED, HALF = 0, 10, 11
GRID = Geometry((12, 48, 48), np.diag([6.0, 3, 3, 1])[[2, 1, 0, 3]])
SYNTAXES = {
    "implicit": "1.2.840.10008.1.2",
    "explicit": "1.2.840.10008.1.2.1",
    "big": "1.2.840.10008.1.2.2",
    "deflate": "1.2.840.10008.1.2.1.99",
    "rle": "1.2.840.10008.1.2.5",
    "jpegls": "1.2.840.10008.1.2.4.80",
    "j2k": "1.2.840.10008.1.2.4.90",
}


@dataclass(slots=True)
class Tally:
    """What became of the mutants."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0
    largest: int = 0


def mutate(content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """One damaged copy and the name of the damage."""
    damages = (_flip, _truncate, _enlarge, _huge, _deep, _shuffle)
    damage = damages[int(rng.integers(len(damages)))]
    return damage.__name__.strip("_"), damage(content, rng)


def _flip(content: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(content)
    # Half of the time in the header, where it hurts more.
    limit = len(out) if rng.random() < 0.5 else min(len(out), 2500)
    for place in rng.integers(0, limit, int(rng.integers(1, 24))):
        out[int(place)] ^= 1 << int(rng.integers(8))
    return bytes(out)


def _truncate(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(1, len(content)))]


def _enlarge(content: bytes, rng: np.random.Generator) -> bytes:
    """A length somewhere says far more than is there."""
    out = bytearray(content)
    place = int(rng.integers(140, len(out) - 8))
    big = (0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF, 0x00FFFFFF, 0xFFFF)[int(rng.integers(5))]
    out[place : place + 4] = struct.pack("<L", big)
    return bytes(out)


def _huge(content: bytes, rng: np.random.Generator) -> bytes:
    """Rows, Columns, Number of Frames, Bits Allocated or Samples say something absurd."""
    tags = {
        b"\x28\x00\x10\x00": b"US",
        b"\x28\x00\x11\x00": b"US",
        b"\x28\x00\x00\x01": b"US",
        b"\x28\x00\x02\x00": b"US",
        b"\x28\x00\x08\x00": b"IS",
    }
    out = bytearray(content)
    present = [(tag, vr) for tag, vr in tags.items() if tag + vr in content]
    if not present:
        return _flip(content, rng)
    tag, vr = present[int(rng.integers(len(present)))]
    place = content.index(tag + vr) + 6
    length = struct.unpack_from("<H", content, place)[0]
    if vr == b"IS":
        out[place + 2 : place + 2 + length] = b"9" * length
    else:
        out[place + 2 : place + 4] = struct.pack("<H", int(rng.choice([0, 1, 65535, 60000])))
    return bytes(out)


def _deep(content: bytes, rng: np.random.Generator) -> bytes:
    """Sequences in sequences, put before the first element of the data set."""
    depth = int(rng.integers(5, 4000))
    opening = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * depth
    closing = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" * depth
    group_length = struct.unpack_from("<L", content, 140)[0]
    start = 144 + group_length
    return content[:start] + opening + (closing if rng.random() < 0.5 else b"") + content[start:]


def _shuffle(content: bytes, rng: np.random.Generator) -> bytes:
    """A block of bytes moved elsewhere."""
    size = int(rng.integers(1, 400))
    a, b = (int(x) for x in rng.integers(132, max(len(content) - size, 133), 2))
    out = bytearray(content)
    out[a : a + size] = content[b : b + size]
    return bytes(out)


@dataclass(frozen=True, slots=True)
class Specimen:
    """A whole file and, when it belongs to a study, the folder it is to be damaged in."""

    name: str
    path: Path
    study: Path | None


def specimens(folder: Path, extra: tuple[Path, ...] = ()) -> list[Specimen]:
    """Small studies in every syntax with SEG and RTSTRUCT; `extra` files stand alone."""
    found = []
    for name, syntax in SYNTAXES.items():
        study = folder / name
        phantom = write_study(
            study, n_lesions=2, shape=(12, 48, 48), spacing=(6.0, 3.0, 3.0), rtstruct=True,
            syntax=syntax, fractional=name == "rle",
        )  # fmt: skip
        paths = (phantom.ct[5], phantom.seg, phantom.rtstruct)
        found.extend(Specimen(f"{name}/{p.name}", p, study) for p in paths if p is not None)
    found.extend(Specimen(path.name, path, None) for path in extra)
    return found


def _consume(specimen: Specimen, content: bytes, whole: bool) -> int:
    """Read a mutant the way the node does: alone, or (`whole`) as one file of its study."""
    if whole and specimen.study is not None:
        return _consume_study(specimen.study, specimen.path, content)
    try:
        header = read_header(content)
        dataset = parse(content)
        if header.sop_class_uid == RTSTRUCT_CLASS:
            read_rtstruct(dataset, GRID)
        elif header.sop_class_uid in SEG_CLASSES:
            read_seg(dataset, GRID)
        elif "PixelData" in dataset:
            for _ in stored_frames(dataset):
                pass
    except Unsuitable:
        return REFUSED
    return READ


def _consume_study(study: Path, target: Path, content: bytes) -> int:
    """Read a whole study in which one file is damaged."""
    with tempfile.TemporaryDirectory() as temporary:
        damaged = Path(temporary) / "mutant.dcm"
        damaged.write_bytes(content)
        others = [path for path in sorted(study.rglob("*.dcm")) if path != target]
        found = headers_of_folder([*others, damaged])
        outcome = match(found.headers, Reading())
        if not outcome.selections:
            return REFUSED
        for selection in outcome.selections:
            try:
                result = assemble(selection, found.paths.__getitem__, Reading())
            except Unsuitable:
                return REFUSED
            if result.volume.geometry.shape[0] != 12 or not result.lesions:
                return HALF
    return READ


def _caged(specimen: Specimen, content: bytes, whole: bool) -> int:
    """Read in a process of its own; returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        # Processor time: a busy machine is no fault of the file.
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(20 * SECONDS)
        with Path("/proc/self/statm").open() as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        # The address space also holds thread stacks (8 MB each) that are never touched.
        limit = used + MEMORY + (256 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        warnings.simplefilter("ignore")
        os._exit(_consume(specimen, content, whole))
    except BaseException as error:  # noqa: BLE001 - whatever escapes is the finding
        os.write(2, f"{specimen.name}: {type(error).__name__}: {error}\n".encode()[:500])
        os._exit(99)


def run(
    folder: Path, count: int, seed: int, extra: tuple[Path, ...] = (), keep: Path | None = None
) -> Tally:
    """Read `count` mutants; `keep` receives those that were neither read nor refused."""
    tally = Tally()
    warnings.simplefilter("ignore")
    for number, (specimen, kind, content) in enumerate(_mutants(folder, count, seed, extra)):
        pid = _caged(specimen, content, whole=number % STUDY_EVERY == 0)
        _, status, usage = os.wait4(pid, 0)
        tally.slowest = max(tally.slowest, usage.ru_utime + usage.ru_stime)
        tally.largest = max(tally.largest, usage.ru_maxrss * 1024)
        code = os.waitstatus_to_exitcode(status)
        name = {READ: "read", REFUSED: "refused"}.get(code, f"fault {code}")
        tally.outcomes[name] += 1
        if code not in {READ, REFUSED}:
            tally.faults.append(f"#{number} {specimen.name} {kind}: exit {code}")
            if keep is not None:
                (keep / f"{number:06d}-{kind}-{specimen.path.name}").write_bytes(content)
    return tally


def _mutants(
    folder: Path, count: int, seed: int, extra: tuple[Path, ...]
) -> Iterator[tuple[Specimen, str, bytes]]:
    sources = specimens(folder, extra)
    contents = [specimen.path.read_bytes() for specimen in sources]
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        index = int(rng.integers(len(sources)))
        kind, content = mutate(contents[index], rng)
        yield sources[index], kind, content


def main() -> int:
    """The long run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for mutants that did harm")
    parser.add_argument("--extra", type=Path, nargs="*", default=[], help="further whole files")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        tally = run(Path(temporary), given.count, given.seed, tuple(given.extra), given.keep)
    print(dict(tally.outcomes), f"slowest {tally.slowest:.2f} s, largest {tally.largest >> 20} MB")
    for line in tally.faults[:50]:
        print(line)
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
