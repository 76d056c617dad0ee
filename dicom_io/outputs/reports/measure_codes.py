"""Patient-level measures as coded concepts, wherever a report states them."""

from mirv.analysis.heterogeneity import metric_of
from mirv.analysis.model import Measure, StudyResult
from mirv.dicom_io.model import Code
from mirv.dicom_io.outputs.reports import template_content
from mirv.dicom_io.sr import concepts
from mirv.dicom_io.sr.concepts import own, ucum
from mirv.dicom_io.sr.items import HAS_CONCEPT_MOD, INFERRED_FROM, code_item, num_item, text_item

TITLES = {
    "n_lesions": "Number of lesions",
    "n_sites": "Number of metastatic sites",
    "volume_total_ml": "Total volume of lesions",
    "volume_range_ml": "Range of lesion volumes",
    "volume_sd_ml": "Standard deviation of lesion volumes",
    "n_matched": "Lesions found again",
    "n_vanished": "Lesions vanished",
    "n_new": "New lesions",
    "n_unmatched": "Lesions of either study not matched",
    "volume_change_range_percent": "Range of volume changes",
    "volume_change_range_matched_percent": "Range of volume changes of lesions found again",
    "volume_total_change_percent": "Change of total volume",
    "tsrc_methods": "TSRC, by the Methods section",
    "tsrc_reduction": "TSRC, reduction",
    "tsrc_absolute": "TSRC, absolute change",
    "tsrc_table2": "TSRC, by Table 2",
    "cv_mean_percent": "Mean coefficient of variation",
    "cv_selected_mean_percent": "Mean coefficient of variation of selected features",
    "n_clipped": "Feature values clipped to the reference",
    "n_outside_reference": "Feature values outside the reference",
}
"""Of what is no index of heterogeneity: those have theirs in `METRICS`."""
_COUNT = ucum("{count}", "count")


def measure_title(name: str, *, narrow: bool = False) -> str:
    """What people call a measure; `narrow` where there is little room."""
    metric, percentile = metric_of(name)
    if metric is None:
        return TITLES.get(name, name.replace("_", " "))
    title = metric.narrow_title if narrow and metric.narrow_title else metric.title
    return f"{title}, percentile" if percentile else title


def measure_code(name: str) -> Code:
    """A patient-level measure as concept: the node's own unless its index has a public one."""
    metric, percentile = metric_of(name)
    if metric is not None and metric.code is not None and not percentile:
        return Code(metric.code.value, metric.code.scheme, metric.code.meaning)
    return own(name, measure_title(name))


def measure_unit(unit: str) -> Code:
    """The unit of a measure, which is UCUM already."""
    return ucum(unit, {"1": "no units", "{count}": "count", "%": "percent"}.get(unit))


def measure_modifiers(measure: Measure, result: StudyResult) -> list[bytes]:
    """Name in the tables, feature space, and how many lesions entered."""
    modifiers = [text_item(HAS_CONCEPT_MOD, concepts.EQUIVALENT_NAME, measure.name)]
    if measure.space:
        space = template_content.space_code(measure.space, result)
        modifiers.append(code_item(HAS_CONCEPT_MOD, concepts.FEATURE_SPACE, space))
    count = num_item(INFERRED_FROM, concepts.LESION_COUNT, measure.n_lesions, _COUNT)
    return [*modifiers, count]
