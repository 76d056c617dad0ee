"""The listener: "stored" means on disk and indexed; everything else is refused for a reason."""

import errno
import os
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from mirv.analysis.errors import Transient
from mirv.dicom_io.phantom import patient
from mirv.service.objects.spool import content_digest
from mirv.service.peers.statuses import DUPLICATE_INSTANCE
from tests.peers import storescu
from tests.service.wire import (
    CT,
    Serving,
    associate,
    ct_slice,
    encoded,
    serving,
    store_bytes,
    store_status,
)

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path) as running:
        yield running


def only_content(node: Serving) -> list[str]:
    """Hashes of everything in the objects area, checked against names and index."""
    stored = list(node.spool.stored())
    for one in stored:
        assert content_digest(one.path) == one.sha256
    assert sorted(one.sha256 for one in stored) == sorted(
        row.sha256 for row in node.store.instances.all()
    )
    return [one.sha256 for one in stored]


@pytest.mark.peers
def test_dcmtk_echoes_and_stores_a_study(node: Serving, tmp_path: Path) -> None:
    echo = ["echoscu", "-aec", "MIRV", "127.0.0.1", str(node.port)]
    assert subprocess.run(echo, check=False).returncode == 0
    made = patient.write_study(tmp_path / "study", n_lesions=2, rtstruct=True)
    sent = storescu(node.port, [made.folder], "MIRV", "DCMTK", "-R")
    assert sent.returncode == 0, sent.stderr
    rows = node.store.instances.all(made.identity.study_uid)
    originals = {str(dcmread(path).SOPInstanceUID): path for path in made.folder.rglob("*.dcm")}
    assert {row.sop_instance_uid for row in rows} == set(originals)
    assert {row.source for row in rows} == {"DCMTK@127.0.0.1"}
    for row in rows:
        assert dcmread(node.spool.path(row.sha256)) == dcmread(originals[row.sop_instance_uid])
    only_content(node)
    assert storescu(node.port, [made.folder], "MIRV", "OTHER", "-R").returncode == 0
    assert len(node.store.instances.all()) == len(rows)


@pytest.mark.peers
@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "proposed"),
    [
        ("odd_ct/CT1_JLSL", "-xt"),
        ("odd_ct/CT1_JPLL", "-xs"),
        ("odd_ct/CT1_RLE", "-xr"),
        ("odd_ct/CT1_J2KR", "-xv"),
    ],
)
def test_compressed_objects_are_kept_as_they_came(
    node: Serving, shared: Path, name: str, proposed: str
) -> None:
    path = shared / name
    sent = storescu(node.port, [path], "MIRV", "DCMTK", "-R", proposed)
    assert sent.returncode == 0, sent.stderr
    (row,) = node.store.instances.all()
    kept, original = dcmread(node.spool.path(row.sha256)), dcmread(path)
    assert kept.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID
    assert kept.PixelData == original.PixelData


def test_a_deflated_data_set_is_kept_deflated(node: Serving) -> None:
    plain = encoded(ct_slice())
    squeezer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    content = squeezer.compress(plain) + squeezer.flush()
    with associate(node.port, syntax=DeflatedExplicitVRLittleEndian) as association:
        assert store_bytes(association, content, "1.2.3.1").Status == 0
    (row,) = node.store.instances.all()
    assert node.spool.path(row.sha256).read_bytes().endswith(content)
    assert dcmread(node.spool.path(row.sha256)).PixelData == ct_slice().PixelData


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_uncompressed_syntaxes_are_kept_to_the_byte(node: Serving, syntax: str) -> None:
    content = encoded(ct_slice(), syntax)
    with associate(node.port, syntax=syntax) as association:
        assert store_bytes(association, content, "1.2.3.1").Status == 0
    (row,) = node.store.instances.all()
    kept = node.spool.path(row.sha256).read_bytes()
    assert kept.endswith(content)
    meta = dcmread(node.spool.path(row.sha256)).file_meta
    assert len(kept) - len(content) == 132 + 12 + meta.FileMetaInformationGroupLength
    assert meta.TransferSyntaxUID == syntax


def test_an_unknown_class_is_refused_and_the_association_goes_on(node: Serving) -> None:
    with associate(node.port, [SECONDARY_CAPTURE, CT]) as association:
        (rejected,) = association.rejected_contexts
        assert rejected.abstract_syntax == SECONDARY_CAPTURE
        abstract_syntax_not_supported = 3
        assert rejected.result == abstract_syntax_not_supported
        assert store_status(association, ct_slice()) == 0


def test_the_same_object_again_is_success_and_kept_once(node: Serving) -> None:
    with associate(node.port) as association:
        assert store_status(association, ct_slice()) == 0
    with associate(node.port, calling="ANOTHER") as association:
        assert store_status(association, ct_slice()) == 0
    assert len(only_content(node)) == 1
    assert node.store.quarantine.all() == []


def test_other_content_under_a_known_uid_is_put_aside_and_the_first_kept(node: Serving) -> None:
    with associate(node.port) as association:
        assert store_status(association, ct_slice()) == 0
        (first,) = only_content(node)
        other = ct_slice(PixelData=bytes(range(256)) * 2)
        assert store_status(association, other) == DUPLICATE_INSTANCE
        assert store_status(association, other) == DUPLICATE_INSTANCE
        assert store_status(association, ct_slice(2)) == 0
    (aside,) = node.store.quarantine.all()
    assert node.store.quarantine.count() == 1
    assert (aside.code, aside.sop_instance_uid) == ("other_content", "1.2.3.1")
    assert aside.sha256 != first
    kept = node.spool.path(aside.sha256, "quarantine")
    assert dcmread(kept).PixelData == other.PixelData
    assert first in only_content(node)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (encoded(ct_slice())[:-100], 0xC000),
        (encoded(ct_slice())[:300], 0xC000),
        (encoded(ct_slice(StudyInstanceUID=None)), 0xC000),
        (encoded(ct_slice(SOPInstanceUID=None)), 0xC000),
        (b"this is not DICOM at all, though it came by C-STORE", 0xC000),
        (encoded(ct_slice(2)), 0xA900),
        (encoded(ct_slice(SOPClassUID="1.2.840.10008.5.1.4.1.1.4")), 0xA900),
    ],
    ids=[
        "cut",
        "cut early",
        "no study",
        "no instance",
        "text",
        "other uid",
        "other class",
    ],
)
def test_what_cannot_be_indexed_is_kept_apart_and_refused(
    node: Serving, content: bytes, status: int
) -> None:
    with associate(node.port) as association:
        answer = store_bytes(association, content, "1.2.3.1")
        assert answer.Status == status
        assert store_status(association, ct_slice(5)) == 0
    (aside,) = node.store.quarantine.all()
    assert answer.ErrorComment == aside.code
    assert aside.detail
    assert node.spool.path(aside.sha256, "quarantine").read_bytes().endswith(content)
    assert len(only_content(node)) == 1


@pytest.mark.parametrize("uid", ["../../../etc/passwd", "1.2/3", "1.2\\3", "a" * 64, "1.2.3.1;--"])
def test_path_characters_in_uids_reach_no_path(node: Serving, uid: str, tmp_path: Path) -> None:
    before = {path for path in tmp_path.rglob("*") if "spool" not in path.parts}
    for tags in ({"SOPInstanceUID": uid}, {"StudyInstanceUID": uid}, {"SeriesInstanceUID": uid}):
        ds = ct_slice()
        for name, value in tags.items():
            ds[name]._value = value  # past pydicom's own checks
        with associate(node.port) as association:
            assert store_bytes(association, encoded(ds), "1.2.3.1").Status == 0xC000
    assert {path for path in tmp_path.rglob("*") if "spool" not in path.parts} == before
    assert {row.code for row in node.store.quarantine.all()} <= {"malformed_uid"}


def test_full_disk_is_out_of_resources_and_leaves_nothing(
    node: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with associate(node.port) as association:
        assert store_status(association, ct_slice()) == 0xA700
        assert node.files == []
        monkeypatch.setattr(os, "fsync", real)
        assert store_status(association, ct_slice()) == 0
    assert len(only_content(node)) == 1


def test_refused_early_below_the_watermark(tmp_path: Path) -> None:
    with (
        serving(tmp_path, low_disk_mb=10**12) as node,
        associate(node.port) as association,
    ):
        assert store_status(association, ct_slice()) == 0xA700
        assert node.files == []


def test_a_locked_catalogue_is_out_of_resources(
    node: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: Any, **_named: Any) -> bool:
        raise Transient("catalogue: database is locked")

    with associate(node.port) as association:
        with monkeypatch.context() as patch:
            patch.setattr(node.store.arrivals, "add", locked)
            assert store_status(association, ct_slice()) == 0xA700
        assert store_status(association, ct_slice()) == 0
    assert len(only_content(node)) == 1


def test_called_title_and_allow_list_decide_who_may(tmp_path: Path) -> None:
    allow = (
        {"ae_title": "FRIEND"},
        {"ae_title": "NEAR", "address": "127.0.0.0/8"},
        {"ae_title": "FAR", "address": "192.0.2.7"},
    )
    with serving(tmp_path, allow=allow) as node:
        may = {}
        for calling in ("FRIEND", "NEAR", "FAR", "STRANGER"):
            with associate(node.port, calling=calling) as association:
                may[calling] = association.is_established
        assert may == {"FRIEND": True, "NEAR": True, "FAR": False, "STRANGER": False}
        with associate(node.port, calling="FRIEND", called="OTHER") as association:
            assert association.is_rejected


def test_an_address_no_rule_names_cannot_even_connect(tmp_path: Path) -> None:
    with (
        serving(tmp_path, allow=({"ae_title": "FAR", "address": "192.0.2.0/24"},)) as node,
        associate(node.port, calling="FAR") as association,
    ):
        assert not association.is_established
        assert not association.is_rejected


def test_patient_data_is_not_logged(node: Serving, capfd: pytest.CaptureFixture[str]) -> None:
    bad = ct_slice(2, StudyInstanceUID=None)
    with associate(node.port) as association:
        assert store_status(association, ct_slice()) == 0
        assert store_bytes(association, encoded(bad), "1.2.3.2").Status == 0xC000
    said = capfd.readouterr()
    assert "put aside" in said.out + said.err
    assert "SENTINEL" not in said.out + said.err


def test_status_carries_its_reason(node: Serving) -> None:
    with associate(node.port) as association:
        answer: Dataset = store_bytes(association, b"x", "1.2.3.1")
    assert 0 < len(answer.ErrorComment) <= 64
