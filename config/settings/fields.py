"""What single values of the settings look like, and how one that does not is refused."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def _ae_title(text: str) -> str:
    """A DICOM application entity title: 1 to 16 characters, no control characters or backslash."""
    if not re.fullmatch(r"[\x20-\x5b\x5d-\x7e]{1,16}", text) or not text.strip():
        raise ValueError(
            f"found {text!r}, wanted 1 to 16 printable ASCII characters without backslash"
        )
    return text.strip()


def _issuer(text: str) -> str:
    """An Issuer of Patient ID (LO), with ``&`` and a universal entity ID where it has one."""
    if (
        not re.fullmatch(r"[^\x00-\x1f\x7f\\&]{0,64}(&[^\x00-\x1f\x7f\\&]{1,64})?", text)
        or not text.strip()
    ):
        raise ValueError("wanted 1 to 64 characters without backslash, or NAME&UNIVERSAL_ID")
    local, and_universal, universal = text.partition("&")
    return local.strip() + and_universal + universal.strip()


_MAPPED_BITS = 96  # of ::ffff:0:0/96, before the IPv4 address (RFC 4291, 2.5.5.2)


def _network(found: Any) -> IPv4Network | IPv6Network:
    """Addresses a peer may call from: one, or a network; host bits are passed over."""
    if isinstance(found, IPv4Network | IPv6Network):
        return found
    # A number, too, would make an address; a host name may stand for another one tomorrow.
    try:
        return _as_peers_come(ip_network(found if isinstance(found, str) else "", strict=False))
    except ValueError:
        raise ValueError(
            "wanted an IP address or network such as 10.0.0.7 or 10.0.0.0/24, no host name"
        ) from None


def _as_peers_come(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """IPv4 addresses written as IPv6 ones, as a socket for both tells of them: as IPv4."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None or network.prefixlen < _MAPPED_BITS:
        return network
    return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))


def _bind(text: str) -> str:
    """An address of this machine: whether others can reach it must be plain from the settings."""
    if text not in ("", "localhost"):
        try:
            ip_address(text)
        except ValueError:
            raise ValueError(
                "wanted an IP address of this machine, 0.0.0.0 for all of them, or localhost"
            ) from None
    return text


def _database(text: str) -> str:
    """A database there is a driver for."""
    if not re.match(r"sqlite:///.|postgresql\+psycopg://.", text):
        raise ValueError("wanted sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME")
    return text


Issuer = Annotated[str, AfterValidator(_issuer)]
AeTitle = Annotated[str, AfterValidator(_ae_title)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
BindAddress = Annotated[str, AfterValidator(_bind)]
Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
Url = Annotated[str, Field(pattern=r"^https?://[^\s?#@]+$")]
DatabaseUrl = Annotated[str, AfterValidator(_database)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Range = tuple[float, float]
