"""What a revision changed: the indices of both versions, side by side (R-VER-1)."""

from mirv.analysis.heterogeneity import METRICS
from mirv.analysis.model import Measure
from mirv.dicom_io.model import QualityOutcome, QualityRow
from mirv.service.study.result_record import ResultRecord

_COMPARED = frozenset(metric.name for metric in METRICS if metric.published)


def index_changes(before: ResultRecord, after: ResultRecord) -> tuple[QualityRow, ...]:
    """One row an index of a profile and space that both versions have.

    Parameters
    ----------
    before, after : ResultRecord
        Of the replaced and the replacing run of one image.
    """
    old = {
        (one.name, one.profile, one.space): one
        for one in before.result.measures
        if one.name in _COMPARED
    }
    rows = []
    for new in after.result.measures:
        was = old.get((new.name, new.profile, new.space))
        if was is None or (was.value is None and new.value is None):
            continue
        rows.append(
            QualityRow(
                study_uid=after.study_uid,
                series_uid=after.series_uid,
                check="revision",
                outcome=QualityOutcome.OK,
                found=f"{new.name} {_shown(new)}",
                detail=f"{_shown(was)} before this revision ({new.profile}, {new.space})"
                + _difference(was, new),
            )
        )
    return tuple(rows)


def _shown(measure: Measure) -> str:
    return "null" if measure.value is None else f"{measure.value:.6g}"


def _difference(was: Measure, new: Measure) -> str:
    if was.value is None or new.value is None:
        return ""
    return f", change {new.value - was.value:+.6g}"
