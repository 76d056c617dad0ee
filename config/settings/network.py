"""Settings of all that meets others: listener, destinations, sources, page."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, SecretStr, Tag, model_validator

from mirv.config.errors import SettingsError
from mirv.config.settings.fields import (
    AeTitle,
    BindAddress,
    Issuer,
    Name,
    Network,
    Port,
    Section,
    Url,
)


class PeerRule(Section):
    """A peer that may associate: its AE title and, when given, the address it calls from."""

    ae_title: AeTitle = Field(description="As it calls itself")
    address: Network | None = Field(
        None, description="IP address or CIDR network; none: any address"
    )


class Tls(Section):
    """TLS both ways (BCP 195): each side shows a certificate the other trusts."""

    certificate: Path = Field(description="Our certificate chain, PEM")
    key: Path = Field(description="Its private key, PEM")
    trusted: Path = Field(description="Authorities whose certificates peers must show, PEM")


class Listener(Section):
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


class WebAccess(Section):
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
        """User and password, read where they are kept; None: without.

        Returns
        -------
        (str, str) or None

        Raises
        ------
        KeyError
            The variable is not set.
        OSError
            The file cannot be read.
        SettingsError
            It holds no text.
        """
        if self.user is None:
            return None
        if self.password_env is not None:
            return self.user, os.environ[self.password_env]
        if self.password_file is not None:
            try:
                text = self.password_file.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                where = f"password_file {self.password_file}"
                raise SettingsError(f"{where}: found no UTF-8 text") from error
            return self.user, text.rstrip("\r\n")
        return self.user, self.password.get_secret_value() if self.password else ""


Commitment = Literal["off", "wanted", "required"]


class Destination(Section):
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


class IssuerRule(Section):
    """Who issued the Patient IDs that come from one place without an issuer."""

    issuer: Issuer = Field(description="As objects that carry one write it")
    ae_title: AeTitle | None = Field(None, description="Calling AE title at the listener")
    source: Name | None = Field(None, description="Name in `sources` or `follow`")

    @model_validator(mode="after")
    def _is_of_one_place(self) -> Self:
        if (self.ae_title is None) == (self.source is None):
            raise ValueError("wanted one of ae_title, source")
        return self


class IdentityRules(Section):
    """Who issued a Patient ID that comes without an issuer. Objects are not altered."""

    default_issuer: Issuer | None = Field(None, description="none: it stays unknown")
    issuers: tuple[IssuerRule, ...] = Field(
        (), description="By where it comes from; the first rule that fits, else default_issuer"
    )
    folder_issuer: Issuer | None = Field(
        None, description="Of `mirv process` and `mirv check`; none: default_issuer"
    )

    def issuer_of(self, source: str) -> str:
        """The issuer of what comes from a source; "" for unknown.

        Parameters
        ----------
        source : str
            As it is noted with an object: ``AE@ADDRESS``, ``fetch:NAME``, ``follow:NAME`` or
            ``retrieve:NAME``.

        Returns
        -------
        str
        """
        calling, is_called, _ = source.rpartition("@")
        named = "" if is_called else source.partition(":")[2]
        for rule in self.issuers:
            if (rule.ae_title or "") == calling and (rule.source or "") == named:
                return rule.issuer
        return self.default_issuer or ""

    def issuer_of_folder(self) -> str:
        """The issuer of what lies in a folder; "" for unknown.

        Returns
        -------
        str
        """
        return self.folder_issuer or self.default_issuer or ""


class Webhook(Section):
    """Told when a run ends or a delivery is parked: states and digests, no patient data."""

    url: str = Field(pattern=r"^https?://", description="Where to POST")
    key: SecretStr | None = Field(
        None, description="HMAC-SHA256 of the body goes into the header X-Mirv-Signature"
    )


class Http(Section):
    """Status page, health and metrics."""

    enabled: bool = Field(True, description="false: no page, no health, no metrics")
    bind: str = Field("127.0.0.1", description="Address it listens on; 0.0.0.0: all")
    port: Port = Field(8080, description="TCP port it listens on")
    password: SecretStr | None = Field(
        None, description="Wanted of every reader; needed on any bind that is not loopback"
    )
