"""Telling another system that a run ended or a delivery was parked."""

import hashlib
import hmac
import json
from datetime import UTC, datetime

import httpx

from mirv.analysis.errors import Transient, Unsuitable
from mirv.config.settings.network import Webhook

_SECONDS = 10.0


def notify(settings: Webhook, kind: str, run_id: str, at: float, **detail: str) -> None:
    """POST one event as JSON; the receiver can check by the signature who sent it.

    Raises
    ------
    Transient
        Not reached, or it answered with a server fault: worth repeating.
    Unsuitable
        It refused the event: it would again.
    """
    when = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    body = json.dumps({"kind": kind, "run": run_id, "at": when, **detail}, sort_keys=True).encode()
    headers = {"Content-Type": "application/json"}
    if settings.key is not None:
        key = settings.key.get_secret_value().encode()
        headers["X-Mirv-Signature"] = hmac.new(key, body, hashlib.sha256).hexdigest()
    try:
        answer = httpx.post(
            settings.url, content=body, headers=headers, timeout=_SECONDS, trust_env=False
        )
    except httpx.HTTPError as fault:
        raise Transient(f"webhook: {type(fault).__name__}") from fault
    if answer.is_server_error:
        raise Transient(f"webhook: status {answer.status_code}")
    if not answer.is_success:
        raise Unsuitable("webhook_refused", f"found status {answer.status_code}, wanted success")
