"""The pages people read, and the tables and pictures they load."""

from collections.abc import Callable
from datetime import UTC, datetime

from fastapi import APIRouter, HTTPException, Request, status
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, select_autoescape

from mirv.analysis.model import Measure
from mirv.config.settings import Settings
from mirv.dicom_io.outputs.reports.measure_codes import measure_title
from mirv.service.catalogue import Catalogue, EventKind, RunState
from mirv.service.catalogue.runs import USUAL_PRIORITY
from mirv.service.http.pictures import KINDS, draw
from mirv.service.objects.results import finished_result
from mirv.service.objects.spool import Spool
from mirv.service.runtime.state import NodeState
from mirv.service.study import result_tables
from mirv.service.study.plan import SOFTWARE_VERSION
from mirv.service.study.result_record import ResultRecord

_BY_DEFINITION = ("not_defined_in_space", "no_reference", "no_short_list")


def page_routes(
    catalogue: Catalogue, spool: Spool, settings: Settings, state: NodeState
) -> APIRouter:
    routes = APIRouter(default_response_class=HTMLResponse)
    pages = Environment(loader=PackageLoader("mirv.service.http"), autoescape=select_autoescape())
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
        return Response(result_tables.to_csv(columns, rows), media_type="text/csv")

    return routes


_Rows = tuple[tuple[str, ...], list[result_tables.Row]]

_TABLES: dict[str, Callable[[list[ResultRecord]], _Rows]] = {
    "lesions": result_tables.lesion_rows,
    "patients": result_tables.patient_rows,
    "pairs": lambda found: (result_tables.PAIR_COLUMNS, result_tables.pair_rows(found)),
    "variation": lambda found: (
        result_tables.VARIATION_COLUMNS,
        result_tables.variation_rows(found),
    ),
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
