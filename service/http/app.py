"""Status page, health and metrics: what the node has, does, waits for and could not send.

Read-only. On a loopback bind only local host names are served (so a foreign page cannot reach in
by DNS rebinding); on any other bind a password is required.
"""

import ipaddress
import secrets
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, status
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, PackageLoader, select_autoescape
from starlette.middleware.trustedhost import TrustedHostMiddleware

from analysis.model import Measure
from config.settings import Settings
from service import records, tables
from service.http.metrics import render_metrics
from service.http.pictures import KINDS, draw
from service.pipeline import SOFTWARE_VERSION
from service.spool import Spool
from service.state import NodeState
from service.store import Store
from service.store.runs import USUAL_PRIORITY

_LOCAL_NAMES = ["localhost", "127.0.0.1", "[::1]", "testserver"]
_BY_DEFINITION = ("not_defined_in_space", "no_reference", "no_short_list")
_STATES = ("queued", "running", "finished", "refused", "failed", "cancelled")


def is_loopback(bind: str) -> bool:
    """True when only this machine can reach the address."""
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return bind == "localhost"


def create_app(
    store: Store, spool: Spool, settings: Settings, state: NodeState | None = None
) -> FastAPI:
    """Make the web application.

    Parameters
    ----------
    state : NodeState, optional
        What the node knows of itself beside the catalogue.

    Raises
    ------
    ValueError
        The bind is reachable from outside and no password is set.
    """
    loopback = is_loopback(settings.http.bind)
    if not loopback and settings.http.password is None:
        raise ValueError(
            f"http: bind {settings.http.bind} is reachable from outside, wanted http.password"
        )
    app = FastAPI(title="mirv node", version=SOFTWARE_VERSION, docs_url=None, redoc_url=None)
    if loopback:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=_LOCAL_NAMES)
    guard = [Depends(_password_check(settings))] if settings.http.password else []
    state = state or NodeState()
    app.include_router(_open_routes(store, spool, state))
    app.include_router(_pages(store, spool, settings, state), dependencies=guard)
    app.include_router(_api(store), prefix="/api", dependencies=guard)
    app.mount("/static", StaticFiles(packages=[("service.http", "static")]), name="static")
    return app


def _password_check(settings: Settings) -> Callable[..., None]:
    basic = HTTPBasic(realm="mirv node")
    password = settings.http.password
    wanted = password.get_secret_value().encode() if password else b""

    def check(credentials: Annotated[HTTPBasicCredentials, Depends(basic)]) -> None:
        if not secrets.compare_digest(credentials.password.encode(), wanted):
            raise HTTPException(status.HTTP_401_UNAUTHORIZED, headers={"WWW-Authenticate": "Basic"})

    return check


def _open_routes(store: Store, spool: Spool, state: NodeState) -> APIRouter:
    routes = APIRouter()

    @routes.get("/health", response_class=PlainTextResponse)
    def health() -> str:
        store.instances.last_seq()
        return "ok\n"

    @routes.get("/metrics")
    def metrics() -> Response:
        content, media_type = render_metrics(store, spool, state)
        return Response(content, media_type=media_type)

    return routes


def _api(store: Store) -> APIRouter:
    routes = APIRouter()

    @routes.get("/studies")
    def studies() -> list[dict[str, Any]]:
        return [asdict(row) for row in store.instances.studies()]

    @routes.get("/waiting")
    def waiting() -> list[dict[str, Any]]:
        return [asdict(row) for row in store.instances.waiting()]

    @routes.get("/runs")
    def runs(study_uid: str = "") -> list[dict[str, Any]]:
        found = store.runs.all(study_uid=study_uid)
        return [{k: v for k, v in asdict(row).items() if k != "selection"} for row in found]

    @routes.get("/runs/{run_id}/artifacts")
    def artifacts(run_id: str) -> list[dict[str, Any]]:
        return [asdict(row) for row in store.runs.artifacts(run_id)]

    @routes.get("/deliveries")
    def deliveries(state: str = "") -> list[dict[str, Any]]:
        return [asdict(row) for row in store.deliveries.all(state=state)]

    return routes


def _pages(store: Store, spool: Spool, settings: Settings, state: NodeState) -> APIRouter:
    routes = APIRouter(default_response_class=HTMLResponse)
    pages = Environment(loader=PackageLoader("service.http"), autoescape=select_autoescape())
    pages.filters["moment"] = _moment
    pages.filters["number"] = _number
    pages.filters["undefined_there"] = _undefined_there
    pages.globals.update(
        version=SOFTWARE_VERSION,
        ae_title=settings.listener.ae_title,
        usual_priority=USUAL_PRIORITY,
    )

    @routes.get("/")
    def overview(request: Request) -> str:
        runs, counts = store.runs.all(limit=200), store.runs.counts()
        return pages.get_template("overview.html").render(
            counts={name: counts.get(name, 0) for name in _STATES},
            paused=state.paused,
            following=sorted(state.following.items()),
            runs=runs,
            waiting=store.instances.waiting(),
            refused=[row for row in store.instances.quality() if row.outcome == "refused"],
            undelivered=store.deliveries.undelivered(limit=200),
            quarantined=store.instances.quarantined(limit=50),
            studies=store.instances.studies(limit=200),
        )

    @routes.get("/runs/{run_id}")
    def run_page(run_id: str) -> str:
        run = store.runs.get(run_id)
        if run is None:
            raise HTTPException(status.HTTP_404_NOT_FOUND)
        record = _record(store, spool, run_id)
        missing = store.events.all(kind="prior_missing", study_uid=run.study_uid, limit=1)
        return pages.get_template("run.html").render(
            run=run,
            no_prior=missing[0].detail["why"] if missing else "",
            record=record,
            profiles=sorted({row.profile for row in record.result.lesions}) if record else [],
            maps=dict.fromkeys((p.profile, p.space) for p in record.result.pairs) if record else {},
            artifacts=store.runs.artifacts(run_id),
            deliveries=store.deliveries.all(run_id=run_id),
            quality=record.quality if record else store.instances.quality(run.study_uid),
        )

    @routes.get("/runs/{run_id}/{kind}.png")
    def run_picture(run_id: str, kind: str, profile: str, space: str = "") -> Response:
        record = _record(store, spool, run_id)
        picture = draw(record, kind, profile, space) if record and kind in KINDS else None
        if picture is None:
            raise HTTPException(status.HTTP_404_NOT_FOUND)
        return Response(picture, media_type="image/png")

    @routes.get("/runs/{run_id}/{name}.csv")
    def run_table(run_id: str, name: str) -> Response:
        record = _record(store, spool, run_id)
        if record is None or name not in _TABLES:
            raise HTTPException(status.HTTP_404_NOT_FOUND)
        columns, rows = _TABLES[name]([record])
        return Response(tables.to_csv(columns, rows), media_type="text/csv")

    return routes


def _record(store: Store, spool: Spool, run_id: str) -> records.ResultRecord | None:
    run = store.runs.get(run_id)
    if run is None or run.state != "finished" or run.result_sha256 is None:
        return None
    return records.from_bytes(spool.path(run.result_sha256).read_bytes())


_Rows = tuple[tuple[str, ...], list[tables.Row]]
_TABLES: dict[str, Callable[[list[records.ResultRecord]], _Rows]] = {
    "lesions": tables.lesion_rows,
    "patients": tables.patient_rows,
    "pairs": lambda found: (tables.PAIR_COLUMNS, tables.pair_rows(found)),
    "variation": lambda found: (tables.VARIATION_COLUMNS, tables.variation_rows(found)),
}


def _moment(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _undefined_there(measure: Measure) -> bool:
    """True for what is null by definition, not because something is amiss."""
    return measure.reason is not None and measure.reason.code in _BY_DEFINITION


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
