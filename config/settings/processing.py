"""Settings of what is computed and written."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mirv.config.settings.fields import AeTitle, Name, Range, Section


class Quality(Section):
    """Checks of image series; what is not set is off. Each warns unless `refuse` names it."""

    modalities: tuple[str, ...] = Field((), description="Modality values that are wanted")
    thickness_range_mm: Range | None = Field(None, description="Slice thickness")
    scan_length_range_mm: Range | None = Field(None, description="From first to last slice")
    spacing_range_mm: Range | None = Field(None, description="Pixel spacing, which must be square")
    matrix: tuple[int, int] | None = Field(None, description="Rows and columns that are wanted")
    kernels: tuple[str, ...] = Field((), description="Convolution kernels that are wanted")
    max_slice_distance_mm: float = Field(5.0, gt=0, description="Between neighbouring slices")
    metal_hu: float = Field(2500, description="Voxels of a lesion from this value on are metal")
    saturated_hu: float = Field(3071, description="Voxels from this value on are saturated")
    max_artifact_percent: float = Field(1.0, ge=0, description="Of a lesion's voxels, each kind")
    phases: tuple[str, ...] = Field(
        ("portal", "venous", "arterial", "delayed", "native", "nonenhanced", "unenhanced"),
        description="Words in the series description that tell the contrast phase",
    )
    refuse: tuple[str, ...] = Field((), description="Names of checks that refuse the study")


class Window(Section):
    """Days around a date."""

    from_days: int = Field(-92, description="The window begins so long from the date")
    to_days: int = Field(7, description="And ends so long from it")

    @model_validator(mode="after")
    def _is_a_window(self) -> Self:
        if self.from_days > self.to_days:
            raise ValueError(f"found {self.from_days} to {self.to_days} days, wanted a window")
        return self


class Priors(Window):
    """Which study around a study's own date is fetched to measure the response since."""

    words: tuple[str, ...] = Field(
        ("portal", "venous"),
        description="One must stand in the description of the study or an image series; "
        "empty: any study",
    )


class Retrieval(Window):
    """Which study around a patient's index date is the baseline of a trial (R-RET-1)."""

    modality: Literal["CT", "MR", "PT"] = Field("CT", description="Of the image series")
    body_parts: tuple[str, ...] = Field(
        (
            "chest abdom pelvi",
            "chest abd pelvi",
            "thorax abdom pelvi",
            "thorax abdom becken",
            "chestabdpelvis",
            "cap",
            "tap",
        ),
        description="The words of one must stand in the body part or a description; of three "
        "letters or fewer: a whole word, else its beginning. Empty: any body part",
    )
    other_body_parts: tuple[str, ...] = Field(
        ("head", "brain", "skull", "neck", "spine", "cardiac", "heart"),
        description="A series that names one of these and none of those is of another body part",
    )
    phases: tuple[str, ...] = Field(
        ("portal", "portoven", "venous", "venos", "pv"),
        description="The words of one must stand in the series description or, where that names "
        "no phase, the study's or protocol's. Empty: any phase",
    )
    other_phases: tuple[str, ...] = Field(
        (
            "arter", "art", "delay", "nativ", "nonenhanced", "unenhanced", "non contrast",
            "noncontrast", "without contrast", "precontrast", "excretory",
        ),
        description="Words of other phases: where one of them stands too, the phase is not told",
    )  # fmt: skip
    max_slice_mm: float | None = Field(
        5.0, gt=0, description="Largest slice thickness; none: any, or none told"
    )
    segmented: bool = Field(
        False, description="true: only an image series that a segmentation was drawn on"
    )


class PriorityRule(Section):
    """Runs that go before others, or after them; the first rule that fits counts."""

    priority: int = Field(ge=1, le=1000, description="Lower goes first; without a rule 100")
    ae_title: AeTitle | None = Field(None, description="Who sent the segmentation")
    modality: str | None = Field(None, description="Of the image")
    description: str | None = Field(
        None, description="A word in the image's series description, in any case"
    )

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        if self.ae_title is None and self.modality is None and self.description is None:
            raise ValueError("wanted ae_title, modality or description")
        return self


Several = Literal["auto", "versions", "parts", "readers"]
"""What further segmentations of one image are taken for."""


class Reading(Section):
    """How segmentations become lesions. Part of what a result's identity is derived from."""

    fractional_threshold: float = Field(
        0.5, gt=0, le=1, description="A voxel of a FRACTIONAL SEG belongs to the lesion from here"
    )
    slice_tolerance_mm: float = Field(0.1, gt=0, description="Of a slice, off an even grid")
    split_components: bool = Field(False, description="Split each ROI in 26-connected lesions")
    rois: tuple[str, ...] = Field(
        ("all",), description="'all', '!exact name', or a stem: which ROIs and segments are lesions"
    )
    prefer: Literal["seg", "rtstruct", "both"] = Field(
        "seg", description="Which lesion set counts when one image has SEG and RTSTRUCT"
    )
    several: Several = Field(
        "auto",
        description="What a further segmentation of one image is: auto decides by rules "
        "(docs/reading.md); versions: it replaces the earlier; parts: both count, the latest of "
        "each lesion; readers: one of them counts",
    )
    reader: str = Field(
        "",
        max_length=64,
        description="Whose lesion set counts where several readers drew one: words of the author "
        "or of the description; none: the first made",
    )
    quality: Quality = Field(Quality(), description="Checks of image series")


class Extraction(Section):
    """Where and how far extraction may go; no field changes a number."""

    workers: int = Field(0, ge=0, description="Processes; 0: one a core")
    lesion_timeout_s: float = Field(600, gt=0, description="Of one lesion under one profile")
    lesion_memory_mb: int = Field(4096, ge=256, description="Of one lesion under one profile")
    arithmetic: Literal["fast", "plain"] = Field(
        "fast", description="plain: PyRadiomics' own steps and nothing else; the values are equal"
    )


class Outputs(Section):
    """What is written."""

    sr_features: Literal["core", "original", "all"] = Field(
        "core",
        description="Features in the lesion SR: a profile's short list, those of the "
        "original image, or all (tens of MB for many lesions: slow in most PACS)",
    )
    extras: tuple[Name, ...] = Field(
        ("headline_sr", "report_pdf"),
        description="Made beside the two reports and the SEG; report_sc: the pages as a Secondary "
        "Capture; derived_measurements: TID 1420 in the lesion SR, which highdicom 0.28 then "
        "cannot read",
    )
    segmentation: Literal["BINARY", "LABELMAP"] = Field(
        "BINARY", description="LABELMAP where no two lesions overlap, else BINARY"
    )
    empty_frames: bool = Field(
        False, description="Write SEG frames without a voxel too, for viewers that need them"
    )
    device_uid: str | None = Field(
        None,
        max_length=64,
        pattern=r"^[0-2](\.(0|[1-9][0-9]*))+$",
        description="Of this installation, in every SR and SEG; none: derived from the listener's "
        "AE title, so equal wherever that is",
    )
    quick_check: bool = Field(
        False,
        description="`mirv process` also draws every slice of every lesion, plain and with its "
        "edge, as PNG without patient data",
    )
    quick_check_window: tuple[float, Annotated[float, Field(gt=0)]] | None = Field(
        None, description="Centre and width of their grey values; none: the usual ones of the site"
    )
