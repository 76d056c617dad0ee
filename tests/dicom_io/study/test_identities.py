"""What tells lesions at another time point: whose tracking UID it is, and where they lie."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mirv.analysis.model import LesionIdentity, Mask
from mirv.config.settings.processing import Reading
from mirv.dicom_io.masks.segment import Segment
from mirv.dicom_io.standard import codes
from mirv.dicom_io.study.identities import identities_of
from mirv.dicom_io.study.lesions import Origin, candidates_of, lesion_set
from mirv.dicom_io.study.quality_rows import QualityRows
from tests.dicom_io.outputs.samples import phantom_study, tilted


@pytest.mark.parametrize("turned", [False, True])
def test_a_lesion_lies_in_the_box_of_its_voxels(tmp_path: Path, turned: bool) -> None:
    study = phantom_study(tmp_path, 3)
    if turned:
        volume = replace(study.volume, geometry=tilted(study))
        study = replace(study, volume=volume)
    found = identities_of(study)
    assert list(found) == [lesion.tracking_uid for lesion in study.lesions]
    for lesion in study.lesions:
        inside = np.argwhere(lesion.mask.full()).astype(float)
        places = study.volume.geometry.to_lps(inside)
        identity = found[lesion.tracking_uid]
        low, high = identity.box
        assert (places.min(axis=0) >= np.array(low) - 1e-9).all()
        assert (places.max(axis=0) <= np.array(high) + 1e-9).all()
        if not turned:
            assert np.allclose(places.min(axis=0), low)
            assert np.allclose(places.max(axis=0), high)
        assert identity.frame_of_reference == study.evidence.images[0].FrameOfReferenceUID


def test_a_lesion_without_voxels_lies_nowhere(tmp_path: Path) -> None:
    study = phantom_study(tmp_path, 1)
    shape = study.volume.geometry.shape
    empty = replace(study.lesions[0], mask=Mask((0, 0, 0), np.zeros((0, 0, 0), bool), shape))
    (identity,) = identities_of(replace(study, lesions=(empty,))).values()
    assert identity == LesionIdentity(True, False, identity.frame_of_reference, None)


def _two_parts() -> Mask:
    box = np.zeros((1, 1, 5), bool)
    box[0, 0, [0, 1, 4]] = True
    return Mask.from_box((0, 0, 0), box, (4, 4, 9))


@pytest.mark.parametrize(
    ("uids", "split", "received"),
    [
        (("2.25.7", "2.25.8"), False, [True, True]),
        (("", "2.25.8"), False, [False, True]),
        (("2.25.7", "2.25.7"), False, [True, False]),  # the second is given one of its own
        (("2.25.7", ""), True, [False, False, False, False]),
    ],
)
def test_what_the_node_derived_is_not_received(uids, split, received) -> None:
    segments = [
        Segment(
            number,
            f"s{number}",
            category=codes.ABNORMAL,
            finding=codes.METASTASIS,
            mask=_two_parts(),
            tracking_uid=uid,
        )
        for number, uid in enumerate(uids, start=1)
    ]
    reading, rows = Reading(split_components=split), QualityRows("1", "2", ())
    candidates = candidates_of(segments, Origin("1.2", "2020", "p"), reading, rows)
    lesions, sources = lesion_set(candidates, {}, rows)
    found = [sources[lesion.tracking_uid] for lesion in lesions]
    assert [one.tracking_received for one in found] == received
    assert [one.component > 0 for one in found] == [split] * len(found)
