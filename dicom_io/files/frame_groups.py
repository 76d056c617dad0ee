"""Functional groups of multi-frame objects (PS3.3 C.7.6.16): a frame's own, else the shared."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydicom import Dataset

from mirv.analysis.errors import Unsuitable
from mirv.dicom_io.files.pixels import frame_count
from mirv.dicom_io.files.values import Parsed, Values, first_item, numbers

_SHARED = "SharedFunctionalGroupsSequence"
_PER_FRAME = "PerFrameFunctionalGroupsSequence"


@dataclass(frozen=True, slots=True, eq=False)
class FrameGroup:
    """The functional groups that hold for one frame.

    Attributes
    ----------
    own : Dataset
        Of this frame alone; they come first.
    shared : Dataset
        Of all frames; empty when the object has none.
    parsed : Parsed
        Groups of the object that were met before.
    """

    own: Dataset
    shared: Dataset
    parsed: Parsed = field(default_factory=dict)

    def part(self, keyword: str) -> Dataset:
        """The first item of one functional group, empty when neither has it.

        Parameters
        ----------
        keyword : str
            Of the group's sequence: ``PlanePositionSequence`` ...

        Returns
        -------
        Dataset
        """
        for group in (self.own, self.shared):
            if (item := first_item(group, keyword, self.parsed)) is not None:
                return item
        return Dataset()


@dataclass(frozen=True, slots=True)
class Placing:
    """Where a slice or frame lies, as the file says it: empty where it does not.

    Attributes
    ----------
    position : tuple of float
        Image Position (Patient), LPS mm.
    orientation : tuple of float
        Image Orientation (Patient): direction cosines of row, then column.
    spacing : tuple of float
        Pixel Spacing: between rows, between columns, mm.
    """

    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]


def has_frame_groups(ds: Dataset) -> bool:
    """True for an object whose frames have functional groups."""
    return bool(ds.get(_PER_FRAME))


def frame_groups(ds: Dataset) -> list[FrameGroup]:
    """The functional groups of every frame, in frame order.

    Parameters
    ----------
    ds : Dataset
        A multi-frame object.

    Returns
    -------
    list of FrameGroup
        One a frame.

    Raises
    ------
    Unsuitable
        ``malformed``: there are not as many groups as frames.
    """
    groups = ds.get(_PER_FRAME) or ()
    count = frame_count(ds)
    if len(groups) != count:
        raise Unsuitable(
            "malformed", f"found functional groups of {len(groups)} frames, wanted {count}"
        )
    shared = (ds.get(_SHARED) or [Dataset()])[0]
    parsed: Parsed = {}
    return [FrameGroup(own, shared, parsed) for own in groups]


def all_groups(ds: Values) -> Sequence[Dataset]:
    """The shared functional groups, then those of every frame; empty for other objects."""
    return [*(ds.get(_SHARED) or ()), *(ds.get(_PER_FRAME) or ())]


def placing_of(source: Dataset | FrameGroup) -> Placing:
    """Where a single-frame image or a frame lies.

    Parameters
    ----------
    source : Dataset or FrameGroup
        An image that says it itself, or the functional groups of one frame.

    Returns
    -------
    Placing

    Raises
    ------
    ValueError, TypeError
        A value is no number.
    """
    if isinstance(source, FrameGroup):
        position = source.part("PlanePositionSequence")
        orientation = source.part("PlaneOrientationSequence")
        measures = source.part("PixelMeasuresSequence")
    else:
        position = orientation = measures = source
    return Placing(
        numbers(position, "ImagePositionPatient"),
        numbers(orientation, "ImageOrientationPatient"),
        numbers(measures, "PixelSpacing"),
    )


def rescaling_of(source: Dataset | FrameGroup) -> Dataset:
    """What holds Rescale Slope, Intercept and Type of a single-frame image or of a frame.

    Parameters
    ----------
    source : Dataset or FrameGroup
        An image that says it itself, or the functional groups of one frame.

    Returns
    -------
    Dataset
        Stored values times Rescale Slope plus Rescale Intercept are in the unit of the image.
    """
    if isinstance(source, FrameGroup):
        return source.part("PixelValueTransformationSequence")
    return source


def values_anywhere(ds: Dataset, keyword: str) -> list[tuple[float, ...]]:
    """A numeric attribute of the object itself, else of all its functional groups.

    Parameters
    ----------
    ds : Dataset
    keyword : str

    Returns
    -------
    list of tuple of float
        One value an occurrence, shared ones first; empty when there is none.

    Raises
    ------
    ValueError, TypeError
        A value is no number.
    """
    if value := numbers(ds, keyword):
        return [value]
    return [
        value
        for group in all_groups(ds)
        for element in group
        if element.VR == "SQ"
        for part in element.value
        if (value := numbers(part, keyword))
    ]
