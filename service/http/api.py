"""Health, metrics and the JSON other programs read."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response

from mirv.service.catalogue import Catalogue
from mirv.service.http.metrics import render_metrics
from mirv.service.objects.spool import Spool
from mirv.service.runtime.state import NodeState

_MOST_ROWS = 10_000  # in one answer


def open_routes(catalogue: Catalogue, spool: Spool, state: NodeState) -> APIRouter:
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


def api_routes(catalogue: Catalogue) -> APIRouter:
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
