"""Typed settings of the node: one YAML file, every fault said at once.

Every field can be set in the file; ``MIRV_`` environment variables override it
(``MIRV_LISTENER__PORT=104``).
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from config.errors import SettingsError, read_given
from config.values import AeTitle, BindAddress, Name, Network, Port, Url


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PeerRule(_Section):
    """A peer that may associate: its AE title and, when given, the address it calls from."""

    ae_title: AeTitle = Field(description="As it calls itself")
    address: Network | None = Field(
        None, description="IP address or CIDR network; none: any address"
    )


class Tls(_Section):
    """TLS both ways (BCP 195): each side shows a certificate the other trusts."""

    certificate: Path = Field(description="Our certificate chain, PEM")
    key: Path = Field(description="Its private key, PEM")
    trusted: Path = Field(description="Authorities whose certificates peers must show, PEM")


class Listener(_Section):
    """The DICOM listener."""

    ae_title: AeTitle = Field("MIRV", description="Of the node: what peers call")
    bind: BindAddress = Field("127.0.0.1", description="IP address or localhost; 0.0.0.0: all")
    port: Port = Field(11112, description="TCP port it listens on")
    allow: tuple[PeerRule, ...] = Field(
        (), description="Peers that may associate; empty: every peer on a loopback bind, else none"
    )
    max_associations: int = Field(50, ge=1, description="At a time, in all processes together")
    processes: int = Field(
        1, ge=1, le=64, description="Listening on the port; 1: the node's own, more: each its own"
    )
    acse_timeout_s: float = Field(10, gt=0, description="Until an association is agreed on")
    network_timeout_s: float = Field(60, gt=0, description="Until a silent association ends")
    low_disk_mb: int = Field(500, ge=0, description="C-STORE is refused (0xA700) below this")
    max_pdu_bytes: int = Field(131072, ge=4096, le=1048576, description="Largest PDU taken")
    max_object_mb: int = Field(4096, ge=1, description="Larger objects end the association")
    tls: Tls | None = Field(None, description="none: plain TCP; then plain peers only")


class WebAccess(_Section):
    """How a peer that is spoken to over HTTP knows us, and we it."""

    user: str | None = Field(None, description="For HTTP basic authentication; none: without")
    password: SecretStr | None = Field(None, description="Of the user; or one of the next two")
    password_env: str | None = Field(None, description="Environment variable that holds it")
    password_file: Path | None = Field(None, description="File that holds it (a mounted secret)")
    trusted: Path | None = Field(
        None,
        description="Authorities an https server's certificate is checked against, PEM; "
        "none: the system's",
    )
    certificate: Path | None = Field(None, description="Our certificate chain, PEM, when asked for")
    key: Path | None = Field(None, description="Its private key, PEM")

    @model_validator(mode="after")
    def _has_its_secrets(self) -> Self:
        ways = (self.password, self.password_env, self.password_file)
        if sum(way is not None for way in ways) > 1:
            raise ValueError("wanted one of password, password_env, password_file")
        if self.user is None and any(way is not None for way in ways):
            raise ValueError("found a password, wanted a user with it")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("wanted certificate and key together")
        if self.password_env is not None and self.password_env not in os.environ:
            raise ValueError(f"password_env: found no variable {self.password_env}")
        if self.password_file is not None and not self.password_file.is_file():
            raise ValueError(f"password_file: found no file {self.password_file}")
        return self

    @property
    def credentials(self) -> tuple[str, str] | None:
        """User and password, read where they are kept; None: without."""
        if self.user is None:
            return None
        if self.password_env is not None:
            return self.user, os.environ[self.password_env]
        if self.password_file is not None:
            return self.user, self.password_file.read_text(encoding="utf-8").rstrip("\r\n")
        return self.user, self.password.get_secret_value() if self.password else ""


Commitment = Literal["off", "wanted", "required"]


class Destination(_Section):
    """Where results go by C-STORE."""

    method: Literal["c-store"] = Field("c-store", description="By C-STORE")
    name: Name = Field(description="What deliveries and messages call it")
    ae_title: AeTitle = Field(description="Of the destination")
    host: str = Field(description="Name or address")
    port: Port = Field(description="TCP port")
    calling_ae_title: AeTitle | None = Field(None, description="none: the listener's")
    outputs: tuple[str, ...] = Field(
        (), description="Roles sent here (lesion_sr, patient_sr, lesion_seg ...); empty: all"
    )
    tls: Tls | None = Field(None, description="none: plain TCP")
    commitment: Commitment = Field(
        "off",
        description="Ask for storage commitment: wanted takes a missing answer as delivered, "
        "required sends again and parks",
    )


class WebDestination(WebAccess):
    """Where results go over HTTP: STOW-RS, or Orthanc's own interface."""

    method: Literal["stow-rs", "orthanc"] = Field(description="DICOMweb, or Orthanc's own")
    name: Name = Field(description="What deliveries and messages call it")
    url: Url = Field(description="DICOMweb root, or Orthanc's address")
    outputs: tuple[str, ...] = Field((), description="Roles sent here; empty: all")
    commitment: Commitment = Field(
        "off",
        description="HTTP knows no storage commitment: the destination is asked by QIDO-RS (or "
        "Orthanc's lookup) whether it has the object. wanted takes a missing answer as delivered, "
        "required sends again and parks",
    )


def _method(given: Any) -> str:
    found = given.get("method") if isinstance(given, dict) else getattr(given, "method", None)
    return "web" if found in ("stow-rs", "orthanc") else "c-store"


AnyDestination = Annotated[
    Annotated[Destination, Tag("c-store")] | Annotated[WebDestination, Tag("web")],
    Discriminator(_method),
]


Range = tuple[float, float]


class Quality(_Section):
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


class Source(WebAccess):
    """A PACS that is asked for the images of a segmentation that arrived alone."""

    name: Name = Field(description="What messages call it")
    method: Literal["dicomweb", "c-get", "c-move"] = Field(description="How it is asked")
    url: Url | None = Field(None, description="DICOMweb root, for method dicomweb")
    ae_title: AeTitle | None = Field(None, description="For c-get and c-move")
    host: str | None = Field(None, description="Name or address, for c-get and c-move")
    port: Port | None = Field(None, description="TCP port, for c-get and c-move")
    tls: Tls | None = Field(None, description="For c-get and c-move; none: plain TCP")

    @model_validator(mode="after")
    def _is_complete(self) -> "Source":
        wanted = ("url",) if self.method == "dicomweb" else ("ae_title", "host", "port")
        if missing := [name for name in wanted if getattr(self, name) is None]:
            raise ValueError(f"method {self.method} wants {', '.join(missing)}")
        return self


class Followed(WebAccess):
    """An Orthanc whose new objects are fetched as they come, by its log of changes."""

    name: Name = Field(description="What messages and the position in its changes call it")
    url: Url = Field(description="Orthanc's address")
    on: Literal["stable_study", "new_instance"] = Field(
        "stable_study", description="Fetch when a study is stable, or each object at once"
    )
    begin: Literal["now", "beginning"] = Field(
        "now", description="At the first contact: what comes from then on, or all it has"
    )
    poll_s: float = Field(5, gt=0, description="Between two looks when nothing is new")


class Priors(_Section):
    """Which earlier study is fetched to measure the response since (R-RET-1)."""

    from_days: int = Field(-92, description="The window begins so long from the study's date")
    to_days: int = Field(7, description="And ends so long from it")
    words: tuple[str, ...] = Field(
        ("portal", "venous"),
        description="One must stand in the description of the study or an image series; "
        "empty: any study",
    )

    @model_validator(mode="after")
    def _is_a_window(self) -> Self:
        if self.from_days > self.to_days:
            raise ValueError(f"found {self.from_days} to {self.to_days} days, wanted a window")
        return self


class PriorityRule(_Section):
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


class Limits(_Section):
    """Above these the node fetches nothing more until it has caught up."""

    backlog: int = Field(200, ge=1, description="Runs queued or at work, and studies not settled")
    fetches: int = Field(2, ge=1, le=32, description="Fetches at a time, each process")
    deliveries: int = Field(
        8, ge=1, le=64, description="Deliveries at a time, each process and destination"
    )


class Reading(_Section):
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
    quality: Quality = Field(Quality(), description="Checks of image series")


class Extraction(_Section):
    """Where and how far extraction may go; no field changes a number."""

    workers: int = Field(0, ge=0, description="Processes; 0: one a core")
    lesion_timeout_s: float = Field(600, gt=0, description="Of one lesion under one profile")
    lesion_memory_mb: int = Field(4096, ge=256, description="Of one lesion under one profile")
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


class Delivery(_Section):
    """How results are sent."""

    max_attempts: int = Field(12, ge=1, description="After these a delivery is parked")
    first_retry_s: float = Field(5, gt=0, description="Pause after the first failure; it doubles")
    longest_retry_s: float = Field(900, gt=0, description="Longest pause between two tries")
    commitment_timeout_s: float = Field(
        300, gt=0, description="Where commitment is required: sent again without an answer by then"
    )


class Webhook(_Section):
    """Told when a run ends or a delivery is parked: states and digests, no patient data."""

    url: str = Field(pattern=r"^https?://", description="Where to POST")
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
    keep_workflow_days: float = Field(
        30, ge=1, description="Records of ended work in the workflow database"
    )


class Http(_Section):
    """Status page, health and metrics."""

    enabled: bool = Field(True, description="false: no page, no health, no metrics")
    bind: str = Field("127.0.0.1", description="Address it listens on; 0.0.0.0: all")
    port: Port = Field(8080, description="TCP port it listens on")
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
    profiles: tuple[str, ...] = Field(
        ("henry2022", "mirv2025"), min_length=1, description="Extraction profiles: names or paths"
    )
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
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="And above")
    listener: Listener = Field(Listener(), description="Where objects come in")
    destinations: tuple[AnyDestination, ...] = Field((), description="Where results go")
    sources: tuple[Source, ...] = Field(
        (), description="Asked in this order for images that a segmentation waits for"
    )
    fetch_again_s: float = Field(900, gt=0, description="Before images not found are asked again")
    follow: tuple[Followed, ...] = Field(
        (), description="Orthancs whose new objects are fetched as they come"
    )
    priors: Priors | None = Field(None, description="none: no earlier study is fetched")
    priorities: tuple[PriorityRule, ...] = Field(
        (), description="Which runs go first; the first rule that fits counts"
    )
    limits: Limits = Field(Limits(), description="When the node fetches no more")
    reading: Reading = Field(Reading(), description="How segmentations become lesions")
    extraction: Extraction = Field(Extraction(), description="Where and how far it may go")
    outputs: Outputs = Field(Outputs(), description="What is written")
    delivery: Delivery = Field(Delivery(), description="How results are sent")
    retention: Retention = Field(Retention(), description="How long objects are kept")
    webhook: Webhook | None = Field(None, description="Whom to tell of runs; none: nobody")
    http: Http = Field(Http(), description="Status page")

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for kind in ("destinations", "sources", "follow"):
            names = [one.name for one in getattr(self, kind)]
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{kind}: found {', '.join(twice)} more than once")
        if self.priors is not None and not self.sources:
            raise ValueError("priors: wanted sources to ask")
        return self

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
        text = read_given(path, f"settings file {path}", SettingsError)
        try:
            loaded = yaml.safe_load(text)
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
            f" (found {_shown(fault['loc'], fault['input'])})"
            for fault in error.errors()
        ]
        where = f" in {path}" if path else ""
        raise SettingsError(f"{len(faults)} fault(s){where}:\n" + "\n".join(faults)) from error


def _shown(where: tuple[int | str, ...], found: Any) -> str:
    """What was found, for a message; never what may be a password."""
    last = where[-1] if where else ""
    if last in ("password", "key") or (last == "url" and "@" in str(found)):
        return "a secret"
    if isinstance(found, dict):
        return f"fields {', '.join(map(str, found))}"
    return f"fields of {type(found).__name__}" if isinstance(found, BaseModel) else repr(found)
