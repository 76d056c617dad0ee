"""Image series: geometry from positions, values in HU, and every refusal with its numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirv.analysis.errors import Unsuitable
from mirv.analysis.model import Geometry
from mirv.dicom_io.files import isolated_decoder
from mirv.dicom_io.files.pixels import codestream_size, stored_frames
from mirv.dicom_io.files.values import read_dataset
from mirv.dicom_io.images.series import read_series
from mirv.dicom_io.phantom.writers import Identity, write_ct
from tests.dicom_io.same_grid import same_grid

SYNTAXES = {
    "implicit": "1.2.840.10008.1.2",
    "explicit": "1.2.840.10008.1.2.1",
    "big endian": "1.2.840.10008.1.2.2",
    "deflate": "1.2.840.10008.1.2.1.99",
    "RLE": "1.2.840.10008.1.2.5",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
}
IDENTITY = Identity()


def grid(
    shape: tuple[int, int, int] = (6, 36, 40),
    spacing: tuple[float, float, float] = (3.0, 1.0, 0.8),
    turn: np.ndarray | None = None,
) -> Geometry:
    """An axial grid, turned by a rotation matrix."""
    axes = np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]]) * np.array(spacing)
    affine = np.eye(4)
    affine[:3, :3] = axes if turn is None else turn @ axes
    affine[:3, 3] = [-50.25, 31.5, -100]
    return Geometry(shape, affine)


def rotation(x: float, y: float, z: float) -> np.ndarray:
    """Rotation by angles in degrees about x, then y, then z."""
    result = np.eye(3)
    for axis, angle in enumerate(np.radians([x, y, z])):
        one = np.eye(3)
        a, b = [i for i in range(3) if i != axis]
        one[a, a] = one[b, b] = np.cos(angle)
        one[a, b], one[b, a] = -np.sin(angle), np.sin(angle)
        result = one @ result
    return result


def noise(shape: tuple[int, int, int] = (6, 36, 40)) -> np.ndarray:
    """HU values that differ everywhere."""
    return np.random.default_rng(7).integers(-1000, 2000, shape).astype(np.int16)


def edit(path: Path, **tags: Any) -> None:
    """Change attributes of a file; None takes one out."""
    ds = pydicom.dcmread(path)
    for keyword, value in tags.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    ds.save_as(path)


@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=SYNTAXES.keys())
def test_every_syntax_gives_the_same_values(tmp_path: Path, syntax: str) -> None:
    paths = write_ct(tmp_path, noise(), grid(), IDENTITY, syntax=syntax)
    series = read_series(paths)
    assert series.volume.values.dtype == np.int16
    assert np.array_equal(series.volume.values, noise())
    assert same_grid(series.volume.geometry, grid(), 1e-4)
    assert series.volume.unit == "HU"


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "likeness"),
    [("RLE", 1), ("JPLL", 1), ("JLSL", 1), ("JLSN", 0.99999), ("J2KR", 1), ("J2KI", 0.998)],
)
def test_public_compressed_ct(shared: Path, name: str, likeness: float) -> None:
    """NEMA WG04 CT1 in six syntaxes: the lossless ones agree, the lossy ones nearly (README)."""
    reference = next(stored_frames(read_dataset(shared / "odd_ct" / "CT1_RLE")))
    found = next(stored_frames(read_dataset(shared / "odd_ct" / f"CT1_{name}")))
    if likeness == 1:
        assert np.array_equal(found, reference)
    else:
        assert likeness < np.corrcoef(found.ravel(), reference.ravel())[0, 1] < 1


@pytest.mark.parametrize(
    "turn",
    [None, rotation(0, 0, 25), rotation(20, -10, 5), rotation(90, 0, 0), rotation(0, 90, 0)],
    ids=["axial", "in plane", "oblique", "coronal", "sagittal"],
)
def test_any_orientation_and_order(tmp_path: Path, turn: np.ndarray | None) -> None:
    geometry = grid(turn=turn)
    paths = write_ct(tmp_path, noise(), geometry, IDENTITY)
    order = np.random.default_rng(1).permutation(len(paths))
    series = read_series([paths[i] for i in order])
    found = series.volume.geometry
    # The slice axis runs along row x column: reversed against the array that was written.
    flipped = np.linalg.det(geometry.affine[:3, [2, 1, 0]]) < 0
    values = series.volume.values[::-1] if flipped else series.volume.values
    assert np.array_equal(values, noise())
    first = np.array([[len(paths) - 1 if flipped else 0, 0.0, 0.0]])
    assert found.to_lps(first)[0] == pytest.approx(geometry.affine[:3, 3], abs=1e-3)
    assert found.spacing == pytest.approx(geometry.spacing, abs=1e-4)


@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 8)] * 3),
    index=st.tuples(*[st.floats(-600, 600)] * 3),
)
def test_affine_round_trip(
    angles: tuple[float, float, float],
    spacing: tuple[float, float, float],
    index: tuple[float, float, float],
) -> None:
    geometry = grid(spacing=spacing, turn=rotation(*angles))
    assert geometry.spacing == pytest.approx(spacing)
    back = geometry.to_index(geometry.to_lps(np.array([index])))[0]
    assert back == pytest.approx(index, abs=1e-6)


def test_the_order_of_the_input_never_matters(tmp_path: Path) -> None:
    paths = write_ct(tmp_path, noise(), grid(), IDENTITY)
    forward, backward = read_series(paths), read_series(paths[::-1])
    assert np.array_equal(forward.volume.values, backward.volume.values)
    assert [str(ds.SOPInstanceUID) for ds in forward.images] == [
        str(ds.SOPInstanceUID) for ds in backward.images
    ]
    assert forward.frame_of == backward.frame_of


def test_evidence_names_the_slices_and_holds_no_pixels(tmp_path: Path) -> None:
    paths = write_ct(tmp_path, noise(), grid(), IDENTITY)
    series = read_series(paths[::-1])
    numbers = [int(series.images[image].InstanceNumber) for image, _ in series.frame_of]
    assert numbers == [1, 2, 3, 4, 5, 6]
    assert all("PixelData" not in ds for ds in series.images)


def test_rescale_is_read_per_slice(tmp_path: Path) -> None:
    paths = write_ct(tmp_path, noise(), grid(), IDENTITY)
    stored = pydicom.dcmread(paths[2]).pixel_array
    edit(paths[2], RescaleSlope="2", RescaleIntercept="-500")
    series = read_series(paths)
    assert np.array_equal(series.volume.values[2], stored.astype(int) * 2 - 500)
    assert np.array_equal(series.volume.values[3], noise()[3])


def test_fractional_slope_and_wide_values_become_float(tmp_path: Path) -> None:
    paths = write_ct(tmp_path, noise(), grid(), IDENTITY)
    edit(paths[0], RescaleSlope="0.5")
    assert read_series(paths).volume.values.dtype == np.float32
    edit(paths[0], RescaleSlope="40")
    assert read_series(paths).volume.values.dtype == np.float32


def test_lossy_compression_is_said(tmp_path: Path) -> None:
    paths = write_ct(tmp_path, noise(), grid(), IDENTITY)
    assert read_series(paths).notes == ()
    edit(paths[1], LossyImageCompression="01", LossyImageCompressionRatio="10")
    (note,) = read_series(paths).notes
    assert (note.check, note.outcome, note.found) == ("lossy_compression", "warn", "1 of 6 images")


def test_localizers_are_left_out(tmp_path: Path) -> None:
    paths = write_ct(tmp_path, noise(), grid(), IDENTITY)
    edit(
        paths[5],
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
        ImageOrientationPatient=[0, 1, 0, 0, 0, -1],
    )
    series = read_series(paths)
    assert series.volume.geometry.shape[0] == 5
    assert series.notes[0].check == "localizers"


def _refused(paths: list[Path], code: str, *said: str) -> None:
    with pytest.raises(Unsuitable) as caught:
        read_series(paths)
    assert caught.value.reason.code == code
    for part in said:
        assert part in caught.value.reason.detail


def test_missing_slice(tmp_path: Path) -> None:
    paths = write_ct(tmp_path, noise(), grid(), IDENTITY)
    del paths[3]
    _refused(paths, "missing_slices", "1 slice", "step 6.000 mm", "3.000 mm")


def test_duplicate_slice(tmp_path: Path) -> None:
    paths = write_ct(tmp_path / "a", noise(), grid(), IDENTITY)
    edit(paths[3], ImagePositionPatient=list(pydicom.dcmread(paths[2]).ImagePositionPatient))
    _refused(paths, "duplicate_slices", "1 slice")


def test_uneven_slices(tmp_path: Path) -> None:
    paths = write_ct(tmp_path, noise(), grid(), IDENTITY)
    edit(paths[5], ImagePositionPatient=[-50.25, 31.5, -100 + 15.4])
    _refused(paths, "uneven_slices", "3.400 mm", "within 0.1 mm")


def test_slices_within_a_tenth_of_a_millimetre_are_even(tmp_path: Path) -> None:
    paths = write_ct(tmp_path, noise(), grid(), IDENTITY)
    edit(paths[2], ImagePositionPatient=[-50.25, 31.5, -100 + 6.05])
    assert read_series(paths).volume.geometry.spacing[0] == pytest.approx(3.0)


def test_gantry_tilt(tmp_path: Path) -> None:
    paths = write_ct(tmp_path, noise(), grid(), IDENTITY)
    for index, path in enumerate(paths):
        edit(path, ImagePositionPatient=[-50.25, 31.5 + index, -100 + 3.0 * index])
    _refused(paths, "gantry_tilt", "18.4 degrees", "5.00 mm")


def test_mixed_slice_distances(tmp_path: Path) -> None:
    paths = write_ct(tmp_path, noise(), grid(), IDENTITY)
    for path, z in zip(paths, (0, 4, 8, 12, 19, 26), strict=True):
        edit(path, ImagePositionPatient=[-50.25, 31.5, float(z)])
    _refused(paths, "uneven_slices", "from 4.000 to 7.000 mm")


@pytest.mark.parametrize(
    ("code", "tags"),
    [
        ("mixed_orientation", {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}),
        ("mixed_spacing", {"PixelSpacing": [1.1, 0.8]}),
        ("no_geometry", {"ImagePositionPatient": None}),
        ("no_geometry", {"PixelSpacing": [0, 0]}),
        ("not_hu", {"RescaleSlope": None}),
        ("not_hu", {"RescaleType": "MGML"}),
    ],
)
def test_one_odd_slice(tmp_path: Path, code: str, tags: dict[str, Any]) -> None:
    paths = write_ct(tmp_path, noise(), grid(), IDENTITY)
    edit(paths[3], **tags)
    _refused(paths, code)


def test_one_slice_alone(tmp_path: Path) -> None:
    paths = write_ct(tmp_path, noise(), grid(), IDENTITY)
    _refused(paths[:1], "single_slice")


@pytest.mark.shared
def test_tilted_head_with_two_distances(shared: Path) -> None:
    """GE head CT, tilt 18.5 degrees, steps 4.22, 1.14, 7.38 mm (README of odd_ct)."""
    paths = sorted((shared / "odd_ct" / "ge_tilt_variable_spacing").glob("*.dcm"))
    _refused(paths, "gantry_tilt", "18.5 degrees")


@pytest.mark.shared
def test_enhanced_ct(shared: Path) -> None:
    """pydicom's enhanced CT of two frames against pydicom's own decoding."""
    path = shared / "odd_ct" / "enhanced_ct_2frame.dcm"
    ds = pydicom.dcmread(path)
    series = read_series([path])
    shared_groups = ds.SharedFunctionalGroupsSequence[0]
    per_frame = ds.PerFrameFunctionalGroupsSequence
    normal = np.linalg.det(series.volume.geometry.affine[:3, [2, 1, 0]])
    assert normal > 0
    along = series.volume.geometry.directions[:, 0]
    places = [np.dot(along, g.PlanePositionSequence[0].ImagePositionPatient) for g in per_frame]
    order = np.argsort(places)
    assert [frame for _, frame in series.frame_of] == [int(i) + 1 for i in order]
    transform = (per_frame[0].get("PixelValueTransformationSequence")
                 or shared_groups.PixelValueTransformationSequence)[0]  # fmt: skip
    wanted = ds.pixel_array[order] * float(transform.RescaleSlope) + float(
        transform.RescaleIntercept
    )
    assert np.array_equal(series.volume.values, wanted)


@pytest.mark.shared
def test_a_decoder_that_dies_takes_one_frame_with_it(shared: Path) -> None:
    """GDCM ends its process on some damaged JPEG; what it says, it says to a process apart."""
    ds = read_dataset(shared / "odd_ct" / "CT1_JPLL")
    content = bytearray(ds.PixelData)
    wanted = next(stored_frames(ds))
    died = 0
    for seed in range(60):
        rng = np.random.default_rng([99, seed])
        damaged = bytearray(content)
        for place in rng.integers(20, 620, 6):
            damaged[int(place)] = int(rng.integers(256))
        ds.PixelData = bytes(damaged)
        try:
            next(stored_frames(ds))
        except Unsuitable as error:
            died += "died of this frame" in error.reason.detail
    ds.PixelData = bytes(content)
    assert np.array_equal(next(stored_frames(ds)), wanted)
    isolated_decoder.close()
    assert died > 0


def test_codestreams_that_lie_about_their_size(tmp_path: Path) -> None:
    for syntax in (SYNTAXES["JPEG-LS"], SYNTAXES["JPEG 2000"]):
        paths = write_ct(tmp_path / syntax, noise(), grid(), IDENTITY, syntax=syntax)
        edit(paths[1], Rows=50)
        _refused(paths[:3], "mixed_matrix")
        for path in paths:
            edit(path, Rows=50)
        _refused(paths[:3], "undecodable_pixels", "36 x 40", "50 x 40")
    assert codestream_size(b"\xff\xd8\xff") == (0, 0)
    assert codestream_size(b"RLE") is None
