"""Headers read without pydicom are the headers pydicom reads, and most objects are read so."""

import random
import struct
import warnings
from collections import Counter
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ImplicitVRLittleEndian

from mirv.analysis.errors import Unsuitable
from mirv.dicom_io.files import header as header_module
from mirv.dicom_io.files.header import InstanceHeader, read_header
from mirv.dicom_io.files.plain_header import plain_values
from mirv.dicom_io.files.structure import LONG_VRS, UNDEFINED, check_structure
from mirv.dicom_io.files.values import parse
from mirv.dicom_io.phantom.patient import write_study
from mirv.dicom_io.standard.identity import MANUFACTURER

Result = InstanceHeader | str


def by_pydicom(content: bytes) -> Result:
    """The header as read with pydicom alone; the reason's code when it is refused."""
    try:
        layout, dataset = check_structure(content), parse(content, pixels=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return header_module._checked_header(dataset, layout, "digest", len(content))
    except Unsuitable as refusal:
        return refusal.reason.code


def read(content: bytes) -> Result:
    """The header as the node reads it."""
    try:
        return read_header(content, "digest")
    except Unsuitable as refusal:
        return refusal.reason.code


def is_plain(content: bytes) -> bool:
    """Whether it was read without pydicom."""
    layout = check_structure(content)
    return plain_values(content, layout.transfer_syntax, layout.elements) is not None


def files_of(folder: Path) -> Iterable[bytes]:
    """Every readable DICOM file below a folder."""
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        if content[128:132] == b"DICM":
            yield content


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    made = write_study(
        tmp_path_factory.mktemp("study"), n_lesions=1, shape=(3, 48, 48),
        spacing=(6.0, 3.0, 3.0), rtstruct=True,
    )  # fmt: skip
    explicit = list(files_of(made.folder))
    return explicit + [implicit(content) for content in explicit]


def implicit(content: bytes) -> bytes:
    """The same object in implicit little endian."""
    ds = pydicom.dcmread(BytesIO(content))
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    buffer = BytesIO()
    ds.save_as(buffer, implicit_vr=True, little_endian=True)
    return buffer.getvalue()


def test_a_phantom_reads_the_same_and_its_images_without_pydicom(images: list[bytes]) -> None:
    for content in images:
        header = by_pydicom(content)
        assert read(content) == header
        assert isinstance(header, InstanceHeader)
        assert is_plain(content) == header.is_image


@pytest.mark.shared
def test_every_shared_file_reads_the_same(shared: Path) -> None:
    ways: Counter[bool] = Counter()
    for content in files_of(shared):
        header = by_pydicom(content)
        assert read(content) == header
        if isinstance(header, InstanceHeader) and header.is_image:
            ways[is_plain(content)] += 1
    assert ways[True] > 10 * ways[False] > 0


def test_damaged_headers_read_the_same(images: list[bytes]) -> None:
    source = random.Random(7)
    plain = 0
    for _ in range(1200):
        content = bytearray(source.choice(images))
        for _ in range(source.choice((1, 1, 1, 3))):
            content[source.randrange(132, source.choice((360, 1600)))] = source.choice(
                (source.randrange(256), *b"\x00 \\0A1.")
            )
        damaged = bytes(content)
        assert read(damaged) == by_pydicom(damaged)
        result = read(damaged)
        plain += isinstance(result, InstanceHeader) and is_plain(damaged)
    assert plain > 150


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientID", "A\\B"),
        ("PatientID", " leading"),
        ("SeriesDescription", "Thorax\tnativ"),
        ("SliceThickness", "5e"),
        ("KVP", "1200000000000000000"),
        ("Exposure", "007"),
        ("StudyInstanceUID", "1.2.a"),
        ("NumberOfFrames", "-0"),
    ],
)
def test_unusual_values_are_left_to_pydicom(images: list[bytes], keyword: str, value: str) -> None:
    ds = pydicom.dcmread(BytesIO(images[0]))
    vr = pydicom.datadict.dictionary_VR(keyword)
    ds[keyword] = pydicom.DataElement(keyword, vr, "", already_converted=True)
    ds[keyword]._value = value
    buffer = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.save_as(buffer)
    assert not is_plain(buffer.getvalue())
    assert read(buffer.getvalue()) == by_pydicom(buffer.getvalue())


def test_a_value_without_a_length_that_hides_another_study_is_refused(images: list[bytes]) -> None:
    """What pydicom takes for bytes up to a delimiter, a walk may take for items, and go on."""
    marks = [(0xE000, UNDEFINED), (0xE00D, 0), (0xE0DD, 0)]
    item, item_end, sequence_end = (struct.pack("<HHI", 0xFFFE, *mark) for mark in marks)
    for sound in images:
        layout = check_structure(sound)
        if not is_plain(sound):
            continue
        short = layout.transfer_syntax == ImplicitVRLittleEndian

        def element(place: tuple[int, int], vr: bytes, value: bytes, *length: int) -> bytes:
            size = struct.pack("<I", *(length or (len(value),)))
            if not short:  # noqa: B023 - called in this round only
                size = vr + (bytes(2) + size if vr in LONG_VRS else size[:2])
            return struct.pack("<HH", *place) + size + value

        other = element((0x0020, 0x000D), b"UI", b"9.9.9\0")
        inside = element((0x0009, 0x1001), b"OB", sequence_end + other)
        hiding = item + inside + item_end + sequence_end
        end = layout.elements[-1][2] - (8 if short else 12)  # where the pixel data begin
        for vr in (b"OB", b"UT"):
            profile = element((0x0028, 0x2000), vr, hiding, UNDEFINED)
            crafted = sound[:end] + profile + sound[end:]
            assert read(crafted) == by_pydicom(crafted) == "malformed"


def test_no_frames_are_one_whichever_way_they_are_read(images: list[bytes]) -> None:
    ds = pydicom.dcmread(BytesIO(images[0]))
    ds.NumberOfFrames = 0
    buffer = BytesIO()
    ds.save_as(buffer)
    header = read(buffer.getvalue())
    assert header == by_pydicom(buffer.getvalue())
    assert isinstance(header, InstanceHeader)
    assert header.frames == 1


def test_what_this_node_has_touched_is_left_to_pydicom(images: list[bytes]) -> None:
    ds = pydicom.dcmread(BytesIO(images[0]))
    ds.ContributingEquipmentSequence = [pydicom.Dataset()]
    ds.ContributingEquipmentSequence[0].Manufacturer = MANUFACTURER
    buffer = BytesIO()
    ds.save_as(buffer)
    header = read(buffer.getvalue())
    assert isinstance(header, InstanceHeader)
    assert header.is_image
    assert header.own


def test_text_in_another_character_set_is_left_to_pydicom(images: list[bytes]) -> None:
    ds = pydicom.dcmread(BytesIO(images[0]))
    ds.SpecificCharacterSet, ds.SeriesDescription = "ISO_IR 192", "Übersicht"
    buffer = BytesIO()
    ds.save_as(buffer)
    assert not is_plain(buffer.getvalue())
    header = read(buffer.getvalue())
    assert isinstance(header, InstanceHeader)
    assert header.series_description == "Übersicht"
