"""What tells lesions at another time point: whose tracking UID it is, and where they lie."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mirv.analysis.model import LesionIdentity, Mask
from mirv.dicom_io.masks.identities import identities_of
from mirv.dicom_io.masks.segment import Segment
from mirv.dicom_io.study.candidates import Candidate
from mirv.dicom_io.study.lesions import lesion_set
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


@pytest.mark.parametrize(
    ("came", "given", "component", "received"),
    [
        ("2.25.7", "2.25.7", 0, True),
        ("", "2.25.7", 0, False),
        ("2.25.8", "2.25.7", 0, False),  # it stood twice: this one was given one of its own
        ("2.25.8", "2.25.7", 2, False),  # a part has none of its own
        ("1", "2.25.7", 0, False),  # no UID at all: any lesion of any study may bear it
    ],
)
def test_what_the_node_derived_is_not_received(came, given, component, received) -> None:
    mask = Mask.from_full(np.ones((1, 1, 1), bool))
    segment = Segment(1, "s", mask, tracking_uid=came)
    candidate = Candidate("1.2", segment, mask, "s", given, component)
    _, sources = lesion_set([candidate], {}, QualityRows("1", "2", ()))
    assert sources[given].tracking_received == received
    assert sources[given].component == component
