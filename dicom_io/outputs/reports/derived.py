"""TID 1420: measures over several lesions, in the lesion report, inferred from its own numbers.

This is the standard's place for them, and some readers skip it: it stands beside the patient
report, never instead of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mirv.analysis.model import Measure, StudyResult
from mirv.dicom_io.model import RenderContext
from mirv.dicom_io.outputs.reports import template_content
from mirv.dicom_io.outputs.reports.measure_codes import (
    measure_code,
    measure_modifiers,
    measure_unit,
)
from mirv.dicom_io.sr import concepts
from mirv.dicom_io.sr.items import (
    CONTAINS,
    HAS_CONCEPT_MOD,
    INFERRED_FROM,
    code_item,
    container_item,
    num_item,
    reference_item,
)

DERIVED_MEASUREMENTS = "derived_measurements"
"""Names this part of the lesion report among the extras."""
VOLUME_NAME = "volume_ml"
_OF_VOLUMES = frozenset({"volume_total_ml", "volume_range_ml", "volume_sd_ml"})


@dataclass(slots=True)
class Places:
    """Where in the report's tree the numbers stand that others are inferred from.

    Attributes
    ----------
    found : mapping of (profile, name) to (group, item) positions, counted from 1
    path : tuple of int
        Root, container, and how many items stand before the first group.
    """

    found: dict[tuple[str, str], list[tuple[int, int]]] = field(default_factory=dict)
    path: tuple[int, int, int] = (1, 1, 0)

    def add(self, profile: str, name: str, group: int, item: int) -> None:
        """Remember a number."""
        self.found.setdefault((profile, name), []).append((group, item))

    def under(self, path: tuple[int, int, int]) -> "Places":
        """The same places, `path` known."""
        return Places(self.found, path)

    def references(self, profile: str, name: str) -> list[tuple[int, int, int, int]]:
        """Full positions (PS3.3 C.17.3.2.5) of a number in every group."""
        root, container, before = self.path
        return [
            (root, container, before + group, item)
            for group, item in self.found.get((profile, name), ())
        ]


def derived_measurements(result: StudyResult, context: RenderContext, places: Places) -> bytes:
    """The container of TID 1420; empty bytes when no measure has a value."""
    numbers = [
        _derived(measure, result, places, _inputs(measure, context))
        for measure in result.measures
        if measure.value is not None
    ]
    if not numbers:
        return b""
    return container_item(CONTAINS, concepts.DERIVED_IMAGING_MEASUREMENTS, numbers)


def _inputs(measure: Measure, context: RenderContext) -> Sequence[tuple[str, str]]:
    """(profile, name) of the lesions' numbers a measure is known to come from."""
    if measure.name in _OF_VOLUMES:
        return [("", VOLUME_NAME)]
    if not measure.space:
        return []
    return [(measure.profile, name) for name in context.selected.get(measure.profile, ())]


def _derived(
    measure: Measure, result: StudyResult, places: Places, inputs: Sequence[tuple[str, str]]
) -> bytes:
    """TID 1420, row 1."""
    if measure.value is None:
        raise ValueError(f"{measure.name}: only values are derived measurements")
    children = list(measure_modifiers(measure, result))
    if measure.profile:
        method = template_content.method_code(measure.profile, result)
        children.append(code_item(HAS_CONCEPT_MOD, concepts.MEASUREMENT_METHOD, method))
    children += [
        reference_item(INFERRED_FROM, position)
        for profile, name in inputs
        for position in places.references(profile, name)
    ]
    unit = measure_unit(measure.unit)
    return num_item(CONTAINS, measure_code(measure.name), measure.value, unit, children)
