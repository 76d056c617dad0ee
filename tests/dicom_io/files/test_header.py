"""Headers: whole objects are read, anything else is refused with what was found and where."""

import json
import struct
from pathlib import Path

import pydicom
import pytest

from mirv.analysis.errors import Unsuitable
from mirv.config.errors import Unavailable
from mirv.dicom_io.files.folder import headers_of_folder
from mirv.dicom_io.files.header import InstanceHeader, creation_time, read_header
from mirv.dicom_io.phantom.patient import Phantom, write_study
from mirv.dicom_io.standard.person import Identity


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    return write_study(
        tmp_path_factory.mktemp("study"), n_lesions=2, shape=(12, 48, 48),
        spacing=(6.0, 3.0, 3.0), rtstruct=True,
    )  # fmt: skip


def test_header_of_an_image(phantom: Phantom) -> None:
    header = read_header(phantom.ct[4])
    ds = pydicom.dcmread(phantom.ct[4])
    assert header.is_image
    assert not header.is_segmentation
    assert header.sop_instance_uid == ds.SOPInstanceUID
    assert header.study_uid == phantom.identity.study_uid
    assert header.position == tuple(ds.ImagePositionPatient)
    assert header.size == phantom.ct[4].stat().st_size
    assert dict(header.description)["ConvolutionKernel"] == "B30f"
    assert header.identity == Identity(
        str(ds.PatientID), "", "", str(ds.PatientSex), str(ds.PatientName)
    )


def test_a_header_indexed_before_identities_were_read_says_nothing_of_them(
    phantom: Phantom,
) -> None:
    header = read_header(phantom.ct[4])
    later = {
        "issuer",
        "birth_date",
        "sex",
        "patient_name",
        "acquisition",
        "author",
        "labels",
        "drawn_on",
    }
    older = {key: value for key, value in json.loads(header.to_json()).items() if key not in later}
    found = InstanceHeader.from_json(json.dumps(older))
    assert found.identity == Identity(header.patient_id)
    assert (found.acquisition, found.author, found.labels, found.drawn_on) == ("", "", (), ())


def test_header_of_segmentations(phantom: Phantom) -> None:
    assert phantom.seg is not None
    assert phantom.rtstruct is not None
    images = sorted(read_header(path).sop_instance_uid for path in phantom.ct)
    for path in (phantom.seg, phantom.rtstruct):
        header = read_header(path)
        assert header.is_segmentation
        assert list(header.referenced_instances) == images
        assert header.referenced_series == (read_header(phantom.ct[0]).series_uid,)
        assert header.referenced_frames == (phantom.identity.frame_of_reference_uid,)
    assert set(read_header(phantom.seg).tracking_uids) == {
        lesion.tracking_uid for lesion in phantom.lesions
    }


def test_path_and_bytes_and_json_agree(phantom: Phantom) -> None:
    for path in phantom.files:
        header = read_header(path)
        assert read_header(path.read_bytes()) == header
        assert InstanceHeader.from_json(header.to_json()) == header


def _refused(content: bytes) -> str:
    with pytest.raises(Unsuitable) as caught:
        read_header(content)
    assert caught.value.reason.detail
    return caught.value.reason.code


def test_what_is_not_dicom() -> None:
    assert _refused(b"") == "not_dicom"
    assert _refused(b"patient notes\n" * 100) == "not_dicom"


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9, 0.999])
def test_truncated_anywhere(phantom: Phantom, part: float) -> None:
    for path in (phantom.ct[0], phantom.seg, phantom.rtstruct):
        assert path is not None
        content = path.read_bytes()
        assert _refused(content[: int(len(content) * part)]) in {"truncated", "missing_uid"}


def test_one_byte_short_says_where(phantom: Phantom) -> None:
    content = phantom.ct[0].read_bytes()
    with pytest.raises(Unsuitable, match=r"inside element \(7FE0,0010\), wanted 4608 bytes"):
        read_header(content[:-1])


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize(("value", "code"), [("", "missing_uid"), ("../etc", "malformed_uid")])
def test_uids_are_required(
    phantom: Phantom, tmp_path: Path, keyword: str, value: str, code: str
) -> None:
    ds = pydicom.dcmread(phantom.ct[0])
    with pytest.warns() if value else _nothing():
        setattr(ds, keyword, value)
    ds.save_as(tmp_path / "x.dcm")
    assert _refused((tmp_path / "x.dcm").read_bytes()) == code


class _nothing:  # noqa: N801 - stands in for pytest.warns
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


def test_pixels_fewer_than_the_header_says(phantom: Phantom, tmp_path: Path) -> None:
    ds = pydicom.dcmread(phantom.ct[0])
    ds.Rows = 4000
    ds.save_as(tmp_path / "x.dcm")
    assert _refused((tmp_path / "x.dcm").read_bytes()) == "truncated"


def test_an_unknown_value_representation_is_malformed(phantom: Phantom) -> None:
    """One flipped bit in a VR: pydicom knows no such representation and says so late."""
    assert phantom.seg is not None
    content = phantom.seg.read_bytes()
    samples = struct.pack("<HH", 0x0028, 0x0002)
    assert content.count(samples + b"US") == 1
    with pytest.raises(Unsuitable, match="malformed"):
        read_header(content.replace(samples + b"US", samples + b"TS"))


def test_a_uid_that_says_it_is_a_number_is_malformed(phantom: Phantom) -> None:
    """pydicom's fault about its length is of a kind of its own."""
    path = next(path for path in sorted(phantom.folder.rglob("*")) if path.is_file())
    content = path.read_bytes()
    before = b"\x08\x00\x16\x00"
    assert content.count(before + b"UI") == 1
    with pytest.raises(Unsuitable) as caught:
        read_header(content.replace(before + b"UI", before + b"UL"))
    assert caught.value.reason.code == "malformed"


def test_absurd_number_of_frames(phantom: Phantom, tmp_path: Path) -> None:
    assert phantom.seg is not None
    ds = pydicom.dcmread(phantom.seg)
    ds.NumberOfFrames = 2_000_000_000
    ds.save_as(tmp_path / "x.dcm")
    assert _refused((tmp_path / "x.dcm").read_bytes()) == "truncated"


def test_sequences_without_end(phantom: Phantom) -> None:
    content = phantom.ct[0].read_bytes()
    start = 144 + struct.unpack_from("<L", content, 140)[0]
    nested = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 5000
    assert _refused(content[:start] + nested + content[start:]) == "too_deep"


def test_own_output_is_known(phantom: Phantom, tmp_path: Path) -> None:
    assert phantom.seg is not None
    ds = pydicom.dcmread(phantom.seg)
    assert not read_header(phantom.seg).own
    equipment = pydicom.Dataset()
    equipment.Manufacturer = "mirv-node"
    ds.ContributingEquipmentSequence = [equipment]
    ds.save_as(tmp_path / "x.dcm")
    assert read_header(tmp_path / "x.dcm").own


def test_folder_with_everything_in_it(phantom: Phantom, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    content = phantom.ct[0].read_bytes()
    (tmp_path / "deep" / "ct.dcm").write_bytes(content)
    (tmp_path / "same.dcm").write_bytes(content)
    (tmp_path / "z-other.dcm").write_bytes(content[:-2] + b"zz")
    (tmp_path / "half.dcm").write_bytes(content[:3000])
    (tmp_path / "notes.txt").write_text("CT of the chest")
    found = headers_of_folder([tmp_path])
    assert len(found.headers) == 1
    assert found.paths[found.headers[0].sop_instance_uid].name == "ct.dcm"
    assert {(row.file, row.check) for row in found.quality} == {
        ("half.dcm", "truncated"),
        ("notes.txt", "not_dicom"),
        ("z-other.dcm", "other_content"),
    }
    assert all(row.outcome == "refused" and row.detail for row in found.quality)


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        headers_of_folder([tmp_path / "nothing"])


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("20200103", "20200103 101500"),
        ("2020.01.03", "20200103 101500"),
        ("ZZZZZZZZ", "20200101 120000"),
        ("2020010", "20200101 120000"),
        ("", "20200101 120000"),
    ],
)
def test_what_is_no_date_is_not_the_latest(said: str, wanted: str) -> None:
    header = {
        "ContentDate": said,
        "ContentTime": "101500",
        "SeriesDate": "20200101",
        "SeriesTime": "120000",
    }
    assert creation_time(header) == wanted
