"""Typed settings of the node: one YAML file, every fault said at once.

Every field can be set in the file; ``MIRV_`` environment variables override it
(``MIRV_LISTENER__PORT=104``).
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict


class SettingsError(Exception):
    """The settings are wrong: the message lists every fault."""


def _ae_title(text: str) -> str:
    """A DICOM application entity title: 1 to 16 characters, no control characters or backslash."""
    if not re.fullmatch(r"[\x20-\x5b\x5d-\x7e]{1,16}", text) or not text.strip():
        raise ValueError(
            f"found {text!r}, wanted 1 to 16 printable ASCII characters without backslash"
        )
    return text.strip()


AeTitle = Annotated[str, AfterValidator(_ae_title)]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PeerRule(_Section):
    """A peer that may associate: its AE title and, when given, the address it calls from."""

    ae_title: AeTitle
    address: str | None = Field(None, description="IP address or CIDR network; none: any address")


class Tls(_Section):
    """TLS both ways (BCP 195): each side shows a certificate the other trusts."""

    certificate: Path = Field(description="Our certificate chain, PEM")
    key: Path = Field(description="Its private key, PEM")
    trusted: Path = Field(description="Authorities whose certificates peers must show, PEM")


class Listener(_Section):
    """The DICOM listener."""

    ae_title: AeTitle = "MIRV"
    bind: str = "127.0.0.1"
    port: Port = 11112
    allow: tuple[PeerRule, ...] = Field(
        (), description="Peers that may associate; empty: every peer on a loopback bind, else none"
    )
    max_associations: int = Field(50, ge=1)
    acse_timeout_s: float = Field(10, gt=0)
    network_timeout_s: float = Field(60, gt=0)
    low_disk_mb: int = Field(500, ge=0, description="C-STORE is refused (0xA700) below this")
    max_pdu_bytes: int = Field(131072, ge=4096, le=1048576)
    max_object_mb: int = Field(4096, ge=1, description="Larger objects end the association")
    tls: Tls | None = Field(None, description="none: plain TCP; then plain peers only")


class Destination(_Section):
    """Where results go."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")
    ae_title: AeTitle
    host: str
    port: Port
    calling_ae_title: AeTitle | None = Field(None, description="none: the listener's")
    outputs: tuple[str, ...] = Field(
        (), description="Roles sent here (lesion_sr, patient_sr, lesion_seg ...); empty: all"
    )
    tls: Tls | None = Field(None, description="none: plain TCP")
    commitment: Literal["off", "wanted", "required"] = Field(
        "off",
        description="Ask for storage commitment: wanted takes a missing answer as delivered, "
        "required sends again and parks",
    )


Range = tuple[float, float]


class Quality(_Section):
    """Checks of image series; what is not set is off. Each warns unless `refuse` names it."""

    modalities: tuple[str, ...] = Field((), description="Modality values that are wanted")
    thickness_range_mm: Range | None = None
    scan_length_range_mm: Range | None = None
    spacing_range_mm: Range | None = Field(None, description="Pixel spacing, which must be square")
    matrix: tuple[int, int] | None = Field(None, description="Rows and columns that are wanted")
    kernels: tuple[str, ...] = Field((), description="Convolution kernels that are wanted")
    max_slice_distance_mm: float = Field(5.0, gt=0)
    metal_hu: float = Field(2500, description="Voxels of a lesion from this value on are metal")
    saturated_hu: float = Field(3071, description="Voxels from this value on are saturated")
    max_artifact_percent: float = Field(1.0, ge=0, description="Of a lesion's voxels, each kind")
    phases: tuple[str, ...] = Field(
        ("portal", "venous", "arterial", "delayed", "native", "nonenhanced", "unenhanced"),
        description="Words in the series description that tell the contrast phase",
    )
    refuse: tuple[str, ...] = Field((), description="Names of checks that refuse the study")


class Source(_Section):
    """A PACS that is asked for the images of a segmentation that arrived alone."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")
    method: Literal["dicomweb", "c-get", "c-move"]
    url: str | None = Field(None, description="DICOMweb root, for method dicomweb")
    user: str | None = None
    password: SecretStr | None = None
    ae_title: AeTitle | None = Field(None, description="For c-get and c-move")
    host: str | None = None
    port: Port | None = None
    tls: Tls | None = Field(None, description="For c-get and c-move; none: plain TCP")

    @model_validator(mode="after")
    def _is_complete(self) -> "Source":
        wanted = ("url",) if self.method == "dicomweb" else ("ae_title", "host", "port")
        if missing := [name for name in wanted if getattr(self, name) is None]:
            raise ValueError(f"method {self.method} wants {', '.join(missing)}")
        return self


class Reading(_Section):
    """How segmentations become lesions. Part of what a result's identity is derived from."""

    fractional_threshold: float = Field(0.5, gt=0, le=1)
    slice_tolerance_mm: float = Field(0.1, gt=0)
    split_components: bool = Field(False, description="Split each ROI in 26-connected lesions")
    rois: tuple[str, ...] = Field(
        ("all",), description="'all', '!exact name', or a stem: which ROIs and segments are lesions"
    )
    prefer: Literal["seg", "rtstruct", "both"] = Field(
        "seg", description="Which lesion set counts when one image has SEG and RTSTRUCT"
    )
    quality: Quality = Quality()


class Extraction(_Section):
    """Where and how far extraction may go; no field changes a number."""

    workers: int = Field(0, ge=0, description="Processes; 0: one a core")
    lesion_timeout_s: float = Field(600, gt=0)
    lesion_memory_mb: int = Field(4096, ge=256)
    arithmetic: Literal["fast", "plain"] = Field(
        "fast", description="plain: PyRadiomics' own steps and nothing else; the values are equal"
    )


class Outputs(_Section):
    """What is written."""

    sr_features: Literal["core", "original", "all"] = Field(
        "core",
        description="Features in the lesion SR: a profile's short list, those of the "
        "original image, or all (tens of MB for many lesions: slow in most PACS)",
    )
    extras: tuple[Literal["headline_sr", "report_pdf", "derived_measurements"], ...] = Field(
        ("headline_sr", "report_pdf"),
        description="Made beside the two reports and the SEG; derived_measurements: TID 1420 in "
        "the lesion SR, which highdicom 0.28 then cannot read",
    )
    segmentation: Literal["BINARY", "LABELMAP"] = Field(
        "BINARY", description="LABELMAP where no two lesions overlap, else BINARY"
    )
    empty_frames: bool = Field(
        False, description="Write SEG frames without a voxel too, for viewers that need them"
    )


class Delivery(_Section):
    """How results are sent."""

    max_attempts: int = Field(12, ge=1)
    first_retry_s: float = Field(5, gt=0)
    longest_retry_s: float = Field(900, gt=0)
    commitment_timeout_s: float = Field(
        300, gt=0, description="Where commitment is required: sent again without an answer by then"
    )


class Webhook(_Section):
    """Told when a run ends or a delivery is parked: states and digests, no patient data."""

    url: str = Field(pattern=r"^https?://")
    key: SecretStr | None = Field(
        None, description="HMAC-SHA256 of the body goes into the header X-Mirv-Signature"
    )


class Retention(_Section):
    """How long received objects are kept; results, artifacts and the audit trail stay."""

    keep_days: float | None = Field(
        None, ge=0, description="After the last object, once all is delivered; none: for ever"
    )
    keep_unused_days: float | None = Field(
        None, ge=0, description="Studies that never gave a run; none: for ever"
    )


class Http(_Section):
    """Status page, health and metrics."""

    enabled: bool = True
    bind: str = "127.0.0.1"
    port: Port = 8080
    password: SecretStr | None = Field(
        None, description="Wanted of every reader; needed on any bind that is not loopback"
    )


class Settings(BaseSettings):
    """Everything that can be configured."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="MIRV_", env_nested_delimiter="__"
    )

    folder: Path = Field(Path("mirv-data"), description="Spool, database and exports live here")
    database_url: str | None = Field(
        None, description="Catalogue; none: SQLite in the folder, else postgresql+psycopg://..."
    )
    workflow_database_url: str | None = Field(
        None, description="DBOS system database; none: SQLite in the folder"
    )
    quiet_s: float = Field(30, ge=0, description="A study is settled after this long without news")
    profiles: tuple[str, ...] = Field(("henry2022", "mirv2025"), min_length=1)
    compare_with_prior: bool = Field(
        True, description="Measure the response since the patient's latest earlier study"
    )
    spaces: tuple[str, ...] = Field(
        ("sarc021-lung-paper", "sarc021-lung-published-compat"),
        description="Frozen feature spaces; each says which profile it belongs to",
    )
    worker_silent_s: float = Field(
        60, gt=0, description="A worker without a heartbeat for so long is dead: others go on"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    listener: Listener = Listener()
    destinations: tuple[Destination, ...] = ()
    sources: tuple[Source, ...] = Field(
        (), description="Asked in this order for images that a segmentation waits for"
    )
    fetch_again_s: float = Field(900, gt=0, description="Before images not found are asked again")
    reading: Reading = Reading()
    extraction: Extraction = Extraction()
    outputs: Outputs = Outputs()
    delivery: Delivery = Delivery()
    retention: Retention = Retention()
    webhook: Webhook | None = None
    http: Http = Http()

    def reading_digest(self) -> str:
        """SHA-256 of the reading rules: other rules, other masks, another result."""
        content = json.dumps(self.reading.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def load_settings(path: Path | None = None, **overrides: Any) -> Settings:
    """Read settings from a YAML file (none: defaults and environment).

    Raises
    ------
    SettingsError
        Lists every fault: field, what was found, what was wanted.
    """
    content: dict[str, Any] = {}
    if path is not None:
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"settings file {path}: {error.strerror}") from error
        except yaml.YAMLError as error:
            raise SettingsError(f"settings file {path}: not YAML: {error}") from error
        if loaded is not None and not isinstance(loaded, dict):
            raise SettingsError(f"settings file {path}: wanted a mapping at the top")
        content = loaded or {}
    try:
        return Settings(**{**content, **overrides})
    except ValidationError as error:
        faults = [
            f"  {'.'.join(str(part) for part in fault['loc']) or 'settings'}: {fault['msg']}"
            f" (found {fault['input']!r})"
            for fault in error.errors()
        ]
        where = f" in {path}" if path else ""
        raise SettingsError(f"{len(faults)} fault(s){where}:\n" + "\n".join(faults)) from error
