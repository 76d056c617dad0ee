"""Functional groups: a frame's own before the shared, as many as there are frames."""

from collections.abc import Sequence

import pytest
from pydicom import Dataset

from mirv.analysis.errors import Unsuitable
from mirv.dicom_io.files.frame_groups import (
    Placing,
    frame_groups,
    placing_of,
    rescaling_of,
    values_anywhere,
)


def part(**tags: object) -> list[Dataset]:
    item = Dataset()
    for keyword, value in tags.items():
        setattr(item, keyword, value)
    return [item]


def image(own: Sequence[float], frames: int = 2) -> Dataset:
    """Frames whose pixel spacing is shared, but for the first when `own` says so."""
    ds = Dataset()
    ds.NumberOfFrames = frames
    ds.SharedFunctionalGroupsSequence = part(PixelMeasuresSequence=part(PixelSpacing=[2, 3]))
    ds.PerFrameFunctionalGroupsSequence = [Dataset(), Dataset()]
    first = ds.PerFrameFunctionalGroupsSequence[0]
    first.PlanePositionSequence = part(ImagePositionPatient=[1, 2, 3])
    first.PixelValueTransformationSequence = part(RescaleSlope=2)
    if own:
        first.PixelMeasuresSequence = part(PixelSpacing=list(own))
    return ds


def test_a_frames_own_groups_come_first() -> None:
    first, second = frame_groups(image(own=(4, 5)))
    assert placing_of(first) == Placing((1, 2, 3), (), (4, 5))
    assert placing_of(second) == Placing((), (), (2, 3))
    assert rescaling_of(first).RescaleSlope == 2
    assert "RescaleSlope" not in rescaling_of(second)


def test_a_single_frame_image_says_it_itself() -> None:
    (ds,) = part(ImagePositionPatient=[1, 2, 3], PixelSpacing=[2, 3])
    assert placing_of(ds) == Placing((1, 2, 3), (), (2, 3))
    assert rescaling_of(ds) is ds


def test_as_many_groups_as_frames() -> None:
    with pytest.raises(Unsuitable, match="found functional groups of 2 frames, wanted 3"):
        frame_groups(image(own=(), frames=3))


def test_values_of_the_object_or_of_any_group() -> None:
    ds = image(own=(4, 5))
    assert values_anywhere(ds, "PixelSpacing") == [(2, 3), (4, 5)]
    ds.PixelSpacing = [6, 7]
    assert values_anywhere(ds, "PixelSpacing") == [(6, 7)]
