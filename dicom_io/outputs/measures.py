"""Patient-level measures as coded concepts, wherever a report states them."""

from analysis.model import Measure, StudyResult
from dicom_io.model import Code
from dicom_io.outputs import concepts, templates
from dicom_io.outputs.concepts import own, ucum
from dicom_io.outputs.items import (
    HAS_CONCEPT_MOD,
    INFERRED_FROM,
    code_item,
    num_item,
    text_item,
)

_MEANINGS = {
    "n_lesions": "Number of lesions",
    "n_sites": "Number of metastatic sites",
    "volume_total_ml": "Total volume of lesions",
    "volume_range_ml": "Range of lesion volumes",
    "volume_sd_ml": "Standard deviation of lesion volumes",
    "cv_mean_percent": "Mean coefficient of variation of features",
    "cv_selected_mean_percent": "Mean coefficient of variation of selected features",
    "mtd": "Maximum tumoral dissimilarity",
    "ath_pairs": "Average tumoral heterogeneity over pairs",
    "ath_matrix": "Average tumoral heterogeneity over the matrix",
    "mirv_distance_max": "Inter-lesion Euclidean distance, maximum",
    "mirv_distance_mean": "Inter-lesion Euclidean distance, mean",
    "mirv_distance_median": "Inter-lesion Euclidean distance, median",
    "mirv_distance_sd": "Inter-lesion Euclidean distance, SD",
    "mirv_dissimilarity_max": "Inter-lesion cosine dissimilarity, maximum",
    "mirv_dissimilarity_mean": "Inter-lesion cosine dissimilarity, mean",
    "mirv_dissimilarity_median": "Inter-lesion cosine dissimilarity, median",
    "mirv_dissimilarity_sd": "Inter-lesion cosine dissimilarity, SD",
}
_COUNT = ucum("{count}", "count")


def measure_code(name: str) -> Code:
    """A patient-level measure as concept."""
    return own(name, _MEANINGS.get(name, name.replace("_", " ")))


def measure_unit(unit: str) -> Code:
    """The unit of a measure, which is UCUM already."""
    return ucum(unit, {"1": "no units", "{count}": "count", "%": "percent"}.get(unit))


def measure_modifiers(measure: Measure, result: StudyResult) -> list[bytes]:
    """Name in the tables, feature space, and how many lesions entered."""
    modifiers = [text_item(HAS_CONCEPT_MOD, concepts.EQUIVALENT_NAME, measure.name)]
    if measure.space:
        space = templates.space_code(measure.space, result)
        modifiers.append(code_item(HAS_CONCEPT_MOD, concepts.FEATURE_SPACE, space))
    count = num_item(INFERRED_FROM, concepts.LESION_COUNT, measure.n_lesions, _COUNT)
    return [*modifiers, count]
