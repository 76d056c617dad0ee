"""The pages' templates: outside strings are escaped everywhere."""

from datetime import UTC, datetime

from jinja2 import Environment, PackageLoader, select_autoescape

from mirv.analysis.model import Measure
from mirv.analysis.patient.matching import match_in_words
from mirv.config.settings import Settings
from mirv.dicom_io.outputs.reports.measure_codes import measure_title
from mirv.service.catalogue import RunState
from mirv.service.catalogue.run_rows import USUAL_PRIORITY
from mirv.service.catalogue.states import CORRECTED
from mirv.service.study.plan import SOFTWARE_VERSION

_BY_DEFINITION = ("not_defined_in_space", "no_reference", "no_short_list")


def templates(settings: Settings) -> Environment:
    """The templates, with what all of them may show."""
    pages = Environment(loader=PackageLoader("mirv.service.http"), autoescape=select_autoescape())
    pages.filters["moment"] = _moment
    pages.filters["number"] = _number
    pages.filters["undefined_there"] = _undefined_there
    pages.filters["titled"] = measure_title
    pages.filters["matched"] = match_in_words
    pages.globals.update(
        version=SOFTWARE_VERSION,
        ae_title=settings.listener.ae_title,
        usual_priority=USUAL_PRIORITY,
        corrected=CORRECTED,
        RunState=RunState,
    )
    return pages


def _moment(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _undefined_there(measure: Measure) -> bool:
    """True for what is null by definition, not because something is amiss."""
    return measure.reason is not None and measure.reason.code in _BY_DEFINITION


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
