"""Status page, health and metrics: what the node has, does, waits for and could not send.

Read-only. On a loopback bind only local host names are served (so a foreign page cannot reach in
by DNS rebinding); on any other bind a password is required.
"""

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
from config.errors import SettingsError
from config.settings import Settings
from dicom_io.outputs.measures import measure_title
from service import tables
from service.admission import is_loopback
from service.http.metrics import render_metrics
from service.http.pictures import KINDS, draw
from service.pipeline import SOFTWARE_VERSION
from service.records import ResultRecord
from service.results import finished_result
from service.spool import Spool
from service.state import NodeState
from service.store import Catalogue, EventKind, RunState
from service.store.runs import USUAL_PRIORITY

_LOCAL_NAMES = ["localhost", "127.0.0.1", "[::1]", "testserver"]
_BY_DEFINITION = ("not_defined_in_space", "no_reference", "no_short_list")
_MOST_ROWS = 10_000  # in one answer


def create_app(
    catalogue: Catalogue, spool: Spool, settings: Settings, state: NodeState | None = None
) -> FastAPI:
    """Make the web application.

    Parameters
    ----------
    state : NodeState, optional
        What the node knows of itself beside the catalogue.

    Raises
    ------
    SettingsError
        The bind is reachable from outside and no password is set.
    """
    loopback = is_loopback(settings.http.bind)
    if not loopback and settings.http.password is None:
        raise SettingsError(
            f"http: bind {settings.http.bind} is reachable from outside, wanted http.password"
        )
    app = FastAPI(title="mirv node", version=SOFTWARE_VERSION, docs_url=None, redoc_url=None)
    if loopback:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=_LOCAL_NAMES)
    guard = [Depends(_password_check(settings))] if settings.http.password else []
    state = state or NodeState()
    app.include_router(_open_routes(catalogue, spool, state))
    app.include_router(_pages(catalogue, spool, settings, state), dependencies=guard)
    app.include_router(_api(catalogue), prefix="/api", dependencies=guard)
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


def _open_routes(catalogue: Catalogue, spool: Spool, state: NodeState) -> APIRouter:
    routes = APIRouter()

    @routes.get("/health", response_class=PlainTextResponse)
    def health() -> str:
        catalogue.instances.last_seq()
        return "ok\n"

    @routes.get("/metrics")
    def metrics() -> Response:
        content, media_type = render_metrics(catalogue, spool, state)
        return Response(content, media_type=media_type)

    return routes


def _api(catalogue: Catalogue) -> APIRouter:
    routes = APIRouter()

    @routes.get("/studies")
    def studies() -> list[dict[str, Any]]:
        return [asdict(row) for row in catalogue.studies.all(limit=1000)]

    @routes.get("/waiting")
    def waiting() -> list[dict[str, Any]]:
        return [asdict(row) for row in catalogue.studies.waiting()]

    @routes.get("/runs")
    def runs(study_uid: str = "") -> list[dict[str, Any]]:
        found = catalogue.runs.all(study_uid=study_uid, limit=_MOST_ROWS)
        return [{k: v for k, v in asdict(row).items() if k != "selection"} for row in found]

    @routes.get("/runs/{run_id}/artifacts")
    def artifacts(run_id: str) -> list[dict[str, Any]]:
        return [asdict(row) for row in catalogue.runs.artifacts(run_id)]

    @routes.get("/deliveries")
    def deliveries(state: str = "") -> list[dict[str, Any]]:
        return [asdict(row) for row in catalogue.deliveries.all(state=state, limit=_MOST_ROWS)]

    return routes


def _pages(catalogue: Catalogue, spool: Spool, settings: Settings, state: NodeState) -> APIRouter:
    routes = APIRouter(default_response_class=HTMLResponse)
    pages = Environment(loader=PackageLoader("service.http"), autoescape=select_autoescape())
    pages.filters["moment"] = _moment
    pages.filters["number"] = _number
    pages.filters["undefined_there"] = _undefined_there
    pages.filters["titled"] = measure_title
    pages.globals.update(
        version=SOFTWARE_VERSION,
        ae_title=settings.listener.ae_title,
        usual_priority=USUAL_PRIORITY,
        RunState=RunState,
    )

    @routes.get("/")
    def overview(request: Request) -> str:
        runs, counts = catalogue.runs.all(limit=200), catalogue.runs.counts()
        return pages.get_template("overview.html").render(
            counts={state: counts.get(state, 0) for state in RunState},
            paused=state.paused,
            following=sorted(state.following.items()),
            runs=runs,
            waiting=catalogue.studies.waiting(),
            refused=[row for row in catalogue.studies.quality() if row.refused],
            undelivered=catalogue.deliveries.undelivered(limit=200),
            quarantined=catalogue.quarantine.all(limit=50),
            studies=catalogue.studies.all(limit=200),
        )

    @routes.get("/runs/{run_id}")
    def run_page(run_id: str) -> str:
        run = catalogue.runs.get(run_id)
        if run is None:
            raise HTTPException(status.HTTP_404_NOT_FOUND)
        record = finished_result(catalogue, spool, run_id)
        missing = catalogue.events.all(
            kind=EventKind.PRIOR_MISSING, study_uid=run.study_uid, limit=1
        )
        return pages.get_template("run.html").render(
            run=run,
            no_prior=missing[0].detail["why"] if missing else "",
            record=record,
            profiles=sorted({row.profile for row in record.result.lesions}) if record else [],
            maps=dict.fromkeys((p.profile, p.space) for p in record.result.pairs) if record else {},
            artifacts=catalogue.runs.artifacts(run_id),
            deliveries=catalogue.deliveries.all(run_id=run_id),
            quality=record.quality if record else catalogue.studies.quality(run.study_uid),
        )

    @routes.get("/runs/{run_id}/{kind}.png")
    def run_picture(run_id: str, kind: str, profile: str, space: str = "") -> Response:
        record = finished_result(catalogue, spool, run_id)
        picture = draw(record, kind, profile, space) if record and kind in KINDS else None
        if picture is None:
            raise HTTPException(status.HTTP_404_NOT_FOUND)
        return Response(picture, media_type="image/png")

    @routes.get("/runs/{run_id}/{name}.csv")
    def run_table(run_id: str, name: str) -> Response:
        record = finished_result(catalogue, spool, run_id)
        if record is None or name not in _TABLES:
            raise HTTPException(status.HTTP_404_NOT_FOUND)
        columns, rows = _TABLES[name]([record])
        return Response(tables.to_csv(columns, rows), media_type="text/csv")

    return routes


_Rows = tuple[tuple[str, ...], list[tables.Row]]
_TABLES: dict[str, Callable[[list[ResultRecord]], _Rows]] = {
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
