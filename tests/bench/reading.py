"""Reading and rasterising against plastimatch and dcmqi, in the same run on the same files."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pydicom

from mirv.analysis.model import Mask
from mirv.config.settings.processing import Reading
from mirv.dicom_io.files.folder import headers_of_folder
from mirv.dicom_io.model import StudyInput
from mirv.dicom_io.phantom.patient import Phantom, write_study
from mirv.dicom_io.phantom.writers import SEG_STORAGE, write_seg
from mirv.dicom_io.study.assemble import assemble
from mirv.dicom_io.study.matching import match

SHARED = Path(__file__).parents[3] / "shared" / "data"
ROUNDS = 3


def run() -> list[str]:
    """Rows for ``make bench``: seconds of each and the ratio, the best of three rounds."""
    return [*_versions(), *_against_others()]


def _against_others() -> list[str]:
    if not SHARED.is_dir() or shutil.which("plastimatch") is None:
        return ["reading: not measured (needs the shared data and plastimatch)"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        return [*_lung1(folder), *_ml40(folder)]


def _versions() -> list[str]:
    """Two hundred lesions, three versions, two readers, against the first version alone."""
    rows = []
    for tracked in (True, False):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            phantom = write_one_version(folder, tracked=tracked)
            alone = _best(reading_of(folder))
            wanted = write_versions(folder, phantom, tracked=tracked)
            read = reading_of(folder)
            found = {lesion.label: lesion.mask.n_voxels for lesion in read().lesions}
            ours = _best(read)
        told = "tracked" if tracked else "without tracking UIDs"
        right = "the right set" if found == wanted else "NOT THE RIGHT SET"
        rows.append(
            f"200 lesions, 3 versions, 2 readers, {told}: {ours:.2f} s, one version {alone:.2f} s, "
            f"ratio {ours / alone:.2f} (goal: below 2), {right}"
        )
    return rows


def write_one_version(folder: Path, *, tracked: bool, lesions: int = 200) -> Phantom:
    """A study with the lesion set of one reader."""
    return write_study(
        folder,
        n_lesions=lesions,
        shape=(100, 256, 256),
        spacing=(3.0, 1.5, 1.5),
        tracked=tracked,
    )


def reading_of(folder: Path) -> Callable[[], StudyInput]:
    """Reading of a folder whose headers are known, as the node knows them when a study settles."""
    found = headers_of_folder([folder])
    (selection,) = match(found.headers, Reading()).selections
    return partial(assemble, selection, found.paths.__getitem__, Reading())


def write_versions(folder: Path, phantom: Phantom, *, tracked: bool) -> dict[str, int]:
    """Two more versions of the first reader, three of another; the latest of the first by label.

    Each version lacks one lesion more, and every third lesion is redrawn.
    """
    wanted = {}
    for author, versions in (("Phantom^Mirv", (1, 2)), ("Other^Reader", (0, 1, 2))):
        for version in versions:
            drawn = [
                replace(one, mask=_without_last_slice(one.mask)) if number % 3 == version else one
                for number, one in enumerate(phantom.drawn)
            ][version:]
            if author != "Phantom^Mirv":
                drawn = [
                    replace(one, tracking_uid=f"{one.tracking_uid[:40]}.9.{n}")
                    for n, one in enumerate(drawn)
                ]
            path = write_seg(
                folder / f"{author}-{version}.dcm",
                drawn,
                phantom.geometry,
                phantom.identity,
                name=f"{author} {version}",
                tracked=tracked,
            )
            ds = pydicom.dcmread(path)
            ds.ContentDate, ds.ContentCreatorName = f"2040010{version + 1}", author
            ds.save_as(path)
            if author == "Phantom^Mirv":
                wanted = {one.label: one.mask.n_voxels for one in drawn}
    return wanted


def _without_last_slice(mask: Mask) -> Mask:
    if len(mask.values) < 2:
        return mask
    return Mask.from_box(mask.start, mask.values[:-1], mask.grid_shape)


def _best(work: Callable[[], object]) -> float:
    """Shortest wall time of a few rounds."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def read_folder(folder: Path, reading: Reading) -> StudyInput:
    """The whole of reading: headers and hashes, matching, volume, masks, checks."""
    found = headers_of_folder([folder])
    (selection,) = match(found.headers, reading).selections
    return assemble(selection, found.paths.__getitem__, reading)


def decompressed(source: Path, target: Path) -> Path:
    """A copy plastimatch reads: its Debian build misreads JPEG-LS without a word."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.glob("*.dcm")):
        ds = pydicom.dcmread(path)
        ds.decompress(generate_instance_uid=False)
        ds.save_as(target / path.name)
    return target


def _row(name: str, ours: float, rival: str, theirs: float) -> str:
    return f"{name:<44} {ours:7.2f} s   {rival:<22} {theirs:7.2f} s   ratio {theirs / ours:.1f}"


def _lung1(folder: Path) -> list[str]:
    """LUNG1-001: CT of 134 slices and 17 ROIs."""
    study = folder / "lung1"
    ct = decompressed(SHARED / "lung1_001" / "CT", study / "CT")
    structure = study / "rt.dcm"
    shutil.copy(SHARED / "lung1_001" / "RTSTRUCT_2018_CMS.dcm", structure)
    out = folder / "plastimatch"
    command = [
        "plastimatch", "convert", "--input", str(structure), "--referenced-ct", str(ct),
        "--output-prefix", str(out), "--prefix-format", "nrrd", "--output-img",
        str(folder / "ct.nrrd"),
    ]  # fmt: skip
    theirs = _best(lambda: subprocess.run(command, check=True, capture_output=True))
    ours = _best(lambda: read_folder(study, Reading()))
    return [_row("LUNG1-001, CT and 17 ROIs to masks", ours, "plastimatch convert", theirs)]


def _ml40(folder: Path) -> list[str]:
    """ML40: 40 lesions by SEG against dcmqi, by RTSTRUCT against plastimatch."""
    source = SHARED / "multilesion" / "ML40" / "baseline"
    study = folder / "ml40"
    ct = decompressed(source / "CT", study / "CT")
    for name in ("SEG_lesions.dcm", "RTSTRUCT_lesions.dcm"):
        shutil.copy(source / name, study / name)
    plastimatch = [
        "plastimatch", "convert", "--input", str(study / "RTSTRUCT_lesions.dcm"),
        "--referenced-ct", str(ct), "--output-prefix", str(folder / "ml40-masks"),
        "--prefix-format", "nrrd", "--output-img", str(folder / "ml40.nrrd"),
    ]  # fmt: skip
    theirs = _best(lambda: subprocess.run(plastimatch, check=True, capture_output=True))
    ours = _best(lambda: read_folder(study, Reading(prefer="rtstruct")))
    rows = [_row("ML40, CT and 40 ROIs to masks", ours, "plastimatch convert", theirs)]
    tool = shutil.which("segimage2itkimage", path=f"{Path(sys.executable).parent}:{os.defpath}")
    if tool is None:
        return [*rows, "ML40 by SEG: not measured (needs dcmqi)"]
    dcmqi = [
        tool, "--inputDICOM", str(study / "SEG_lesions.dcm"), "--outputDirectory", str(folder),
        "--prefix", "dcmqi", "--outputType", "nrrd",
    ]  # fmt: skip
    theirs = _best(lambda: subprocess.run(dcmqi, check=True, capture_output=True))
    ours = _best(lambda: read_folder(study, Reading()))
    masks = _best(lambda: _masks_only(study / "SEG_lesions.dcm"))
    return [
        *rows,
        _row("ML40, 40 segments to masks, no CT", masks, "dcmqi (no CT)", theirs),
        _row("ML40, CT and 40 segments to masks", ours, "dcmqi (no CT)", theirs),
    ]


def _masks_only(path: Path) -> None:
    """Header check and masks on the SEG's own grid: what dcmqi does, without writing files."""
    from mirv.dicom_io.files.header import read_header
    from mirv.dicom_io.files.values import read_dataset
    from mirv.dicom_io.masks.seg import own_geometry, read_seg

    assert read_header(path).sop_class_uid == SEG_STORAGE
    dataset = read_dataset(path)
    read_seg(dataset, own_geometry(dataset))
