"""Every fact of ``expected.csv`` (made with several readers, see its columns) holds here too.

Where the reader is right to differ, `EXCEPTIONS` names the fact and says why.
"""

import csv
import functools
import os
from pathlib import Path

import pytest
from pydicom import Dataset

from mirv.analysis.errors import Unsuitable
from mirv.dicom_io.files.folder import headers_of_folder
from mirv.dicom_io.files.references import references
from mirv.dicom_io.files.values import read_dataset
from mirv.dicom_io.images.series import ImageSeries, read_series
from mirv.dicom_io.masks.rtstruct import read_rtstruct
from mirv.dicom_io.masks.seg import own_geometry, read_seg
from mirv.dicom_io.masks.segment import Segment
from mirv.dicom_io.study.candidates import components

pytestmark = pytest.mark.shared

SHARED = Path(__file__).parents[4] / "shared" / "data"

REFUSED_SERIES = {
    # Gantry tilt and two slice distances in one series: refused, never read as regular (README).
    "odd_ct/ge_tilt_variable_spacing": "gantry_tilt",
}
EXCEPTIONS = {
    # A threshold at half the maximum makes a mask; the fact is the sum of the fractions.
    ("seg_highdicom", "seg_image_ct_true_fractional.dcm", "volume"): "weighted",
    # Three functional groups for one frame: which of them places it is a guess (README: or a clear
    # refusal).
    ("seg_pydicom", "liver_1frame.dcm", "volume"): "malformed",
    ("seg_pydicom", "liver_expb_1frame.dcm", "volume"): "malformed",
    # Tiles of a slide have no place in a patient: refused (README).
    ("seg_highdicom", "seg_image_sm_control_labelmap.dcm", "volume"): "no_geometry",
}


def _rows() -> list[dict[str, str]]:
    path = SHARED / "expected.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _identity(row: dict[str, str]) -> str:
    return "|".join(row[key] for key in ("dataset", "file", "item", "fact"))


@functools.cache
def _image_folder(dataset: str, file: str) -> Path:
    """The image series beside a segmentation."""
    folder = (SHARED / dataset / file).parent
    for candidate in (folder / "CT", folder.parent / "image", folder):
        if candidate.is_dir() and any(candidate.glob("*.dcm")):
            return candidate
    raise AssertionError(f"no images beside {dataset}/{file}")


@functools.cache
def _series(folder: Path) -> ImageSeries:
    found = headers_of_folder([folder])
    images = [h for h in found.headers if h.is_image]
    return read_series([found.paths[h.sop_instance_uid] for h in images])


@functools.cache
def _images(folder: Path) -> tuple[Dataset, ...]:
    found = headers_of_folder([folder])
    return tuple(
        read_dataset(found.paths[h.sop_instance_uid], pixels=False)
        for h in found.headers
        if h.is_image
    )


@functools.cache
def _rois(dataset: str, file: str) -> dict[str, Segment]:
    geometry = _series(_image_folder(dataset, file)).volume.geometry
    rois = read_rtstruct(read_dataset(SHARED / dataset / file), geometry)
    return {r.label: r for r in rois} | {f"{r.number}|{r.label}": r for r in rois}


def _close(found: float, row: dict[str, str]) -> None:
    expected = float(row["expected"])
    tolerance = row["tolerance"]
    if tolerance.endswith("%"):
        limit = float(tolerance[:-1]) / 100 * abs(expected) + 5e-5
    else:
        limit = float(tolerance) + 5e-5
    assert found == pytest.approx(expected, abs=limit)


def _check_series(row: dict[str, str]) -> None:
    folder = SHARED / row["dataset"] / row["file"]
    if not folder.is_dir():
        folder = SHARED / row["dataset"].split("/")[0] / row["file"]
    images = _images(folder)
    first = images[0]
    exact = {
        "series_uid": lambda: first.SeriesInstanceUID,
        "modality": lambda: first.Modality,
        "n_slices": lambda: len(images),
        "rows": lambda: first.Rows,
        "columns": lambda: first.Columns,
        "transfer_syntax": lambda: first.file_meta.TransferSyntaxUID,
    }
    if row["fact"] in exact:
        assert str(exact[row["fact"]]()) == row["expected"]
        return
    if row["fact"] == "slice_thickness_tag":
        found = sorted({str(ds.get("SliceThickness", "")) for ds in images})
        wanted = sorted(row["expected"].split(","))
        assert [float(x or "nan") for x in found] == pytest.approx(
            [float(x or "nan") for x in wanted], nan_ok=True
        )
        return
    name = f"{row['dataset']}/{row['file']}"
    if name in REFUSED_SERIES:
        with pytest.raises(Unsuitable, match=REFUSED_SERIES[name]):
            _series(folder)
        return
    geometry = _series(folder).volume.geometry
    spacing = dict(
        zip(("slice", "pixel_spacing_row", "pixel_spacing_col"), geometry.spacing, strict=True)
    )
    _close(spacing.get(row["fact"], geometry.spacing[0]), row)
    assert geometry.shape[0] == len(images)


def _check_rtstruct(row: dict[str, str]) -> None:
    images = _images(_image_folder(row["dataset"], row["file"]))
    dataset = read_dataset(SHARED / row["dataset"] / row["file"])
    named = references(dataset)
    here = {str(ds.SOPInstanceUID) for ds in images}
    frames = {str(ds.FrameOfReferenceUID) for ds in images}
    facts = {
        "n_roi": len(dataset.StructureSetROISequence),
        "series_reference_resolves": str(images[0].SeriesInstanceUID) in named.series,
        "series_level_sop_refs": len(named.instances),
        "series_level_sop_refs_resolved": len(named.instances & here),
        "contour_level_sop_refs": len(named.of_parts),
        "contour_level_sop_refs_resolved": len(named.of_parts & here),
        "frame_of_reference_matches": bool(named.frames & frames),
    }
    assert str(facts[row["fact"]]) == row["expected"]


def _check_roi(row: dict[str, str]) -> None:
    roi = _rois(row["dataset"], row["file"])[row["item"]]
    geometry = _series(_image_folder(row["dataset"], row["file"])).volume.geometry
    if row["fact"] == "components26":
        found = len(components(roi.mask)) if roi.mask is not None else 0
        assert found == int(row["expected"])
        return
    assert row["fact"] == "volume"
    if row["expected"] in {"", "0.0000"}:
        # No volume is said with a reason, never as a silent zero.
        assert roi.mask is None
        assert roi.refusal is not None
        return
    assert roi.mask is not None
    _close(roi.mask.n_voxels * geometry.voxel_volume_ml, row)


def _check_seg(row: dict[str, str]) -> None:
    dataset = read_dataset(SHARED / row["dataset"] / row["file"])
    facts = {
        "type": dataset.SegmentationType,
        "frames": dataset.get("NumberOfFrames", 1),
        "rows": dataset.Rows,
        "cols": dataset.Columns,
        "ts": dataset.file_meta.TransferSyntaxUID,
    }
    assert str(facts[row["fact"]]) == row["expected"]


def _check_segment(row: dict[str, str]) -> None:
    dataset = read_dataset(SHARED / row["dataset"] / row["file"])
    reason = EXCEPTIONS.get((row["dataset"], row["file"], row["fact"]))
    if reason in {"no_geometry", "malformed"}:
        with pytest.raises(Unsuitable, match=reason):
            own_geometry(dataset)
        return
    geometry = own_geometry(dataset)
    number = int(row["item"].split("|")[0])
    (segment,) = [s for s in read_seg(dataset, geometry) if s.number == number]
    assert segment.mask is not None
    assert segment.notes == ()
    found = segment.mask.n_voxels * geometry.voxel_volume_ml
    if reason == "weighted":
        fractions = dataset.pixel_array / dataset.MaximumFractionalValue
        _close(float(fractions.sum()) * geometry.voxel_volume_ml, row)
        assert segment.mask.n_voxels == int((fractions >= 0.5).sum())
        return
    _close(found, row)


@pytest.mark.parametrize("row", _rows(), ids=_identity)
def test_fact(row: dict[str, str]) -> None:
    check = {
        "series": _check_series,
        "rtstruct": _check_rtstruct,
        "roi": _check_roi,
        "seg": _check_seg,
        "segment": _check_segment,
    }[row["kind"]]
    check(row)


def test_the_facts_are_there() -> None:
    """Parametrising over a missing file would pass by testing nothing."""
    assert len(_rows()) > 600 or not os.environ.get("CI")
