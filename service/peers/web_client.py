"""HTTP to peers: who we are to them, how they prove themselves, and how much of them we read."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx

from mirv.analysis.errors import Transient
from mirv.config.settings.network import WebAccess
from mirv.service.peers.tls import web_context

SECONDS = 120.0
_ANSWER_BYTES = 8 << 20
_LONGEST_NUMBER = 20
_AGAIN = (408, 425, 429)


class TooLarge(Transient):
    """The answer is longer than is read."""


def access(peer: WebAccess) -> dict[str, object]:
    """What an `httpx.Client` to this peer is made with."""
    return {
        "auth": peer.credentials,
        # Orthanc would otherwise compress every CT, many times slower.
        "headers": {"Accept-Encoding": "identity"},
        "timeout": SECONDS,
        "trust_env": False,
        "verify": web_context(peer),
    }


def client(peer: WebAccess, url: str) -> httpx.Client:
    """A client for addresses below `url`; close it.

    Parameters
    ----------
    peer : WebAccess
    url : str

    Returns
    -------
    httpx.Client

    Raises
    ------
    KeyError
        The variable that should hold the password is not set.
    OSError
        A certificate, key or password file cannot be read.
    """
    return httpx.Client(base_url=url.rstrip("/"), **access(peer))  # type: ignore[arg-type]


def passes(status: int) -> bool:
    """Whether a failure of this HTTP status may pass: the server's trouble, not the request's."""
    return status in _AGAIN or (status >= httpx.codes.INTERNAL_SERVER_ERROR and status != 501)


def chunks(answer: httpx.Response, seconds: float = SECONDS) -> Iterator[bytes]:
    """The body of a streamed answer, for so long at most.

    Raises
    ------
    Transient
        The peer takes too long: a time limit a read never ends with one that drips.
    """
    deadline = time.monotonic() + seconds
    for chunk in answer.iter_raw():
        if time.monotonic() > deadline:
            raise Transient(f"found an answer that takes more than {seconds:.0f} s")
        yield chunk


def body(answer: httpx.Response, limit: int = _ANSWER_BYTES, seconds: float = SECONDS) -> bytes:
    """The whole body of a streamed answer, when it is no longer than the limit.

    Raises
    ------
    TooLarge
        It is longer. Nothing is read when it says so itself.
    Transient
        It comes too slowly.
    """
    content = bytearray()
    if announced_size(answer) > limit:
        raise TooLarge(f"found an answer of more than {limit} bytes")
    for chunk in chunks(answer, seconds):
        content += chunk
        if len(content) > limit:
            raise TooLarge(f"found an answer of more than {limit} bytes")
    return bytes(content)


def announced_size(answer: httpx.Response) -> int:
    """How many bytes an answer says it has, 0 when it does not say."""
    said = answer.headers.get("Content-Length", "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < _LONGEST_NUMBER else 0


def objects(answer: httpx.Response) -> list[Any]:
    """What a streamed answer lists in JSON; nothing, when it has no body.

    Raises
    ------
    Transient
        It is no list, or longer than is read.
    """
    content = body(answer)
    try:
        found = json.loads(content) if content.strip() else []
    except (ValueError, RecursionError) as fault:
        raise Transient("query: found no JSON") from fault
    if not isinstance(found, list):
        raise Transient("query: found JSON that is no list")
    return found


def first_value(found: Any, tag: str) -> Any:
    """First value of an attribute in DICOM JSON (PS3.18 annex F), None when there is none."""
    attribute = found.get(tag) if isinstance(found, dict) else None
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    return values[0] if isinstance(values, list) and values else None
