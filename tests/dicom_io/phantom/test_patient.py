"""The synthetic patient is what it says: deterministic, lesions apart, no flat texture."""

from pathlib import Path

import numpy as np

from mirv.dicom_io.phantom.patient import write_study
from mirv.dicom_io.phantom.writers import outlines
from mirv.dicom_io.standard.uids import derive_uid


def test_derived_uids_are_stable_and_keep_their_parts_apart() -> None:
    assert derive_uid("a", "b") == derive_uid("a", "b")
    assert derive_uid("ab", "c") != derive_uid("a", "bc")
    uid = derive_uid("a", "b")
    assert uid.startswith("2.25.")
    number = int(uid.removeprefix("2.25."))
    assert number >> 76 & 0xF == 8  # UUID version 8, RFC 9562
    assert number >> 62 & 0x3 == 2
    assert len(uid) <= 64


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    first = write_study(tmp_path / "a", n_lesions=3, rtstruct=True)
    again = write_study(tmp_path / "b", n_lesions=3, rtstruct=True)
    assert [p.read_bytes() for p in first.files] == [p.read_bytes() for p in again.files]


def test_lesions_lie_apart_and_have_texture(tmp_path: Path) -> None:
    phantom = write_study(tmp_path)
    covered = sum(lesion.mask.full().astype(int) for lesion in phantom.drawn)
    assert len(phantom.lesions) == 12
    assert covered.max() == 1
    assert {lesion.site for lesion in phantom.lesions} == {"liver", "lung", "bone", "lymph node"}
    for lesion in phantom.drawn:
        values = phantom.values[lesion.mask.slices][lesion.mask.values]
        assert values.size >= 30
        assert values.std() > 8
        assert len(np.unique(values // 10)) >= 4


def test_follow_up_keeps_tracking_but_changes_lesions(tmp_path: Path) -> None:
    before = write_study(tmp_path / "a", n_lesions=6)
    after = write_study(tmp_path / "b", n_lesions=6, time_point=1)
    old = {x.tracking_uid: x.volume_ml for x in before.lesions}
    new = {x.tracking_uid: x.volume_ml for x in after.lesions}
    assert len(old.keys() & new.keys()) == 5
    assert len(new) == 6
    assert all(old[uid] != new[uid] for uid in old.keys() & new.keys())
    assert before.identity.study_uid != after.identity.study_uid


def test_outlines_fill_back_to_the_plane() -> None:
    """Even-odd count of crossings left of each pixel centre, straight from the definition."""
    rng = np.random.default_rng(5)
    plane = rng.random((9, 11)) < 0.55
    crossings = np.zeros((9, 11), int)
    for loop in outlines(plane):
        for (r0, c0), (r1, _) in zip(loop, np.roll(loop, -1, axis=0), strict=True):
            for r in range(9):
                if min(r0, r1) <= r < max(r0, r1):
                    crossings[r, np.arange(11) > c0] += 1
    assert (crossings % 2 == 1).tolist() == plane.tolist()
