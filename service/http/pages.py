"""The pages people read, and the tables and pictures they load."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, HTTPException, status
from fastapi.responses import HTMLResponse, Response

from mirv.config.settings import Settings
from mirv.service.catalogue import Catalogue, EventKind, RunRow, RunState
from mirv.service.http.environment import templates
from mirv.service.http.pictures import KINDS, draw
from mirv.service.objects.results import finished_result
from mirv.service.objects.spool import Spool
from mirv.service.runtime.state import NodeState
from mirv.service.study import result_tables
from mirv.service.study.result_record import ResultRecord


def page_routes(
    catalogue: Catalogue, spool: Spool, settings: Settings, state: NodeState
) -> APIRouter:
    """The routes of the status page, of a run's page, and of the latter's pictures and tables."""
    routes = APIRouter(default_response_class=HTMLResponse)
    pages = templates(settings)

    @routes.get("/")
    def overview() -> str:
        return pages.get_template("overview.html").render(_overview(catalogue, state))

    @routes.get("/runs/{run_id}")
    def run_page(run_id: str) -> str:
        run = catalogue.runs.get(run_id)
        if run is None:
            raise HTTPException(status.HTTP_404_NOT_FOUND)
        return pages.get_template("run.html").render(_run_facts(catalogue, spool, run))

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
        return Response(result_tables.to_csv(columns, rows), media_type="text/csv")

    return routes


def _overview(catalogue: Catalogue, state: NodeState) -> dict[str, Any]:
    """What the status page shows."""
    counts = catalogue.runs.counts()
    return {
        "counts": {one: counts.get(one, 0) for one in RunState},
        "paused": state.paused,
        "following": sorted(state.following.items()),
        "runs": catalogue.runs.all(limit=200),
        "waiting": catalogue.studies.waiting(),
        "refused": [row for row in catalogue.studies.quality() if row.refused],
        "undelivered": catalogue.deliveries.undelivered(limit=200),
        "corrections": len(catalogue.corrections.studies()),
        "quarantined": catalogue.quarantine.all(limit=50),
        "studies": catalogue.studies.all(limit=200),
    }


def _run_facts(catalogue: Catalogue, spool: Spool, run: RunRow) -> dict[str, Any]:
    """What the page of a run shows."""
    record = finished_result(catalogue, spool, run.run_id)
    missing = catalogue.events.all(kind=EventKind.PRIOR_MISSING, study_uid=run.study_uid, limit=1)
    result = record.result if record else None
    return {
        "run": run,
        "no_prior": missing[0].detail["why"] if missing else "",
        "record": record,
        "profiles": sorted({row.profile for row in result.lesions}) if result else [],
        "maps": dict.fromkeys((pair.profile, pair.space) for pair in result.pairs)
        if result
        else {},
        "artifacts": catalogue.runs.artifacts(run.run_id),
        "deliveries": catalogue.deliveries.all(run_id=run.run_id),
        "quality": record.quality if record else catalogue.studies.quality(run.study_uid),
    }


_Rows = tuple[tuple[str, ...], list[result_tables.Row]]

_TABLES: dict[str, Callable[[list[ResultRecord]], _Rows]] = {
    "lesions": result_tables.lesion_rows,
    "patients": result_tables.patient_rows,
    "changes": lambda found: (result_tables.CHANGE_COLUMNS, result_tables.change_rows(found)),
    "pairs": lambda found: (result_tables.PAIR_COLUMNS, result_tables.pair_rows(found)),
    "variation": lambda found: (
        result_tables.VARIATION_COLUMNS,
        result_tables.variation_rows(found),
    ),
}
