"""The same object in other bytes is known; another object under its UID is not."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from mirv.dicom_io.files.part10 import file_meta
from mirv.service.objects.same_object import same_object
from tests.service.wire import (
    CT,
    Serving,
    associate,
    ct_slice,
    encoded,
    part10,
    serving,
    store_bytes,
    store_status,
)

PIXELS = np.random.default_rng(0).integers(-1000, 1000, 256, np.int16).tobytes()


def ct(**tags: Any) -> Dataset:
    ds = ct_slice(PixelData=PIXELS)
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.3.4"
    ds.ReferencedImageSequence = [item]
    for name, value in tags.items():
        setattr(ds, name, value)
    return ds


def implicit(ds: Dataset) -> bytes:
    return file_meta(CT, "1.2.3.1", ImplicitVRLittleEndian) + encoded(ds, ImplicitVRLittleEndian)


def deflated(ds: Dataset) -> bytes:
    squeezer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    content = squeezer.compress(encoded(ds)) + squeezer.flush()
    return file_meta(CT, "1.2.3.1", DeflatedExplicitVRLittleEndian) + content


def run_length(ds: Dataset, folder: Path) -> bytes:
    path = folder / "rle.dcm"
    path.write_bytes(part10(ds))
    read = dcmread(path)
    read.compress(RLELossless, generate_instance_uid=False)
    read.save_as(path)
    return path.read_bytes()


def test_the_same_object_in_other_syntaxes(tmp_path: Path) -> None:
    for other in (implicit(ct()), deflated(ct()), run_length(ct(), tmp_path)):
        assert other != part10(ct())
        assert same_object(part10(ct()), other)
        assert same_object(other, part10(ct()))


@pytest.mark.parametrize(
    "change",
    [
        {"PixelData": PIXELS[:-2] + b"\0\7"},
        {"RescaleIntercept": -1024},
        {"PatientID": "SOMEONE-ELSE"},
        {"SeriesDescription": "new"},
        {"ReferencedImageSequence": []},
    ],
    ids=["pixel", "value", "patient", "more", "sequence"],
)
def test_another_object_under_its_uid(tmp_path: Path, change: dict[str, Any]) -> None:
    for other in (part10, implicit, deflated):
        assert not same_object(part10(ct()), other(ct(**change)))
        assert not same_object(other(ct(**change)), part10(ct()))
    assert not same_object(part10(ct()), b"not DICOM")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path) as running:
        yield running


def test_sent_again_in_another_syntax_is_success_and_kept_as_it_first_came(node: Serving) -> None:
    with associate(node.port) as association:
        assert store_status(association, ct()) == 0
    first = node.files
    with associate(node.port, syntax=ImplicitVRLittleEndian) as association:
        content = encoded(ct(), ImplicitVRLittleEndian)
        assert store_bytes(association, content, "1.2.3.1").Status == 0
        changed = encoded(ct(RescaleSlope=2), ImplicitVRLittleEndian)
        assert store_bytes(association, changed, "1.2.3.1").Status == 0x0111
    (aside,) = node.store.quarantine.all()
    assert node.files == sorted([*first, node.spool.path(aside.sha256, "quarantine")])
