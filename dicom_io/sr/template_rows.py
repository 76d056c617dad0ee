"""Rows of the SR templates 1500, 1600, 1410, 1411, 1419, 1420, 1501, 1502, 4019 as data.

After PS3.16 Annex A; where the node asks for more than the standard (tracking identifiers in every
group, a device observer), the row says so.
"""

from dataclasses import dataclass

from mirv.dicom_io.model import Code
from mirv.dicom_io.sr import concepts
from mirv.dicom_io.sr.concepts import dcm

MANY = 10**9


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a template: an item, how often, with what inside.

    Attributes
    ----------
    label : str
        Template and row, as a fault names it.
    relationship : str
        To the parent; "" where the template leaves it to its caller.
    types : tuple of str
        Value types allowed.
    concept : Code or None
        Concept name; None: any (the row then counts items by type alone).
    least, most : int
    values : frozenset of (value, scheme)
        Allowed values of a CODE; empty: any.
    inside : tuple of Row
        Rows of its children.
    """

    label: str
    relationship: str
    types: tuple[str, ...]
    concept: Code | None
    least: int = 0
    most: int = 1
    values: frozenset[tuple[str, str]] = frozenset()
    inside: tuple["Row", ...] = ()


@dataclass(frozen=True, slots=True)
class OneOf:
    """Rows of which exactly one must be there."""

    label: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A template's rows and choices, beneath its container."""

    identifier: str
    rows: tuple[Row, ...]
    choices: tuple[OneOf, ...] = ()


def _codes(*values: str) -> frozenset[tuple[str, str]]:
    return frozenset((value, "DCM") for value in values)


_TRACKING = (
    Row("{} row 2", "HAS OBS CONTEXT", ("TEXT",), concepts.TRACKING_IDENTIFIER, 1),
    Row("{} row 3", "HAS OBS CONTEXT", ("UIDREF",), concepts.TRACKING_UID, 1),
)
_FINDING = (
    Row("{} row 3a", "CONTAINS", ("CODE",), concepts.FINDING_CATEGORY),
    Row("{} row 3b", "CONTAINS", ("CODE",), concepts.FINDING),
)
_TIME_POINT = (
    Row("TID 1502 row 1", "HAS OBS CONTEXT", ("TEXT",), dcm("126070", "")),
    Row("TID 1502 row 2", "HAS OBS CONTEXT", ("TEXT",), dcm("126071", "")),
    Row("TID 1502 row 3", "HAS OBS CONTEXT", ("TEXT",), concepts.TIME_POINT),
    Row("TID 1502 row 5", "HAS OBS CONTEXT", ("NUM",), dcm("126073", "")),
)
_ALGORITHM = (
    Row("TID 4019 row 1", "HAS CONCEPT MOD", ("TEXT",), concepts.ALGORITHM_NAME),
    Row("TID 4019 row 2", "HAS CONCEPT MOD", ("TEXT",), concepts.ALGORITHM_VERSION),
    Row("TID 4019 row 3", "HAS CONCEPT MOD", ("TEXT",), concepts.ALGORITHM_PARAMETERS, 0, MANY),
)
_METHOD = Row("{} method", "HAS CONCEPT MOD", ("CODE",), concepts.MEASUREMENT_METHOD)
_SITE = Row("{} finding site", "HAS CONCEPT MOD", ("CODE",), concepts.FINDING_SITE, 0, MANY)
_OF_A_NUMBER = (
    _METHOD,
    Row("{} derivation", "HAS CONCEPT MOD", ("CODE",), concepts.DERIVATION),
    _SITE,
    Row("{} equivalent meaning", "HAS CONCEPT MOD", ("TEXT",), concepts.EQUIVALENT_NAME),
    *_ALGORITHM,
)


def _named(identifier: str, rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Rows labelled with the template that includes them."""
    return tuple(
        Row(
            row.label.format(f"TID {identifier}"), row.relationship, row.types, row.concept,
            row.least, row.most, row.values, _named(identifier, row.inside),
        )
        for row in rows
    )  # fmt: skip


_NUMBER_1419 = Row(
    "TID 1419 row 5", "CONTAINS", ("NUM",), None, 1, MANY, inside=_named("1419", _OF_A_NUMBER)
)
_NUMBER_300 = Row(
    "TID 300 row 1", "CONTAINS", ("NUM",), None, 0, MANY, inside=_named("300", _OF_A_NUMBER)
)
_REGION = Row(
    "TID {} row 5", "CONTAINS", ("SCOORD",), concepts.IMAGE_REGION, 0, MANY,
    inside=(Row("TID {} row 6", "SELECTED FROM", ("IMAGE",), None, 1, 1),),
)  # fmt: skip
_ROI_SOURCE = (
    Row("TID {} row 11", "CONTAINS", ("IMAGE",), dcm("121233", ""), 0, MANY),
    Row("TID {} row 12", "CONTAINS", ("UIDREF",), concepts.SOURCE_SERIES),
)


def _with(identifier: str, row: Row, most: int | None = None) -> Row:
    return Row(
        row.label.format(identifier), row.relationship, row.types, row.concept, row.least,
        row.most if most is None else most, row.values,
        tuple(_with(identifier, child) for child in row.inside),
    )  # fmt: skip


_COMMON = (*_TRACKING, *_FINDING, _METHOD, _SITE, *_TIME_POINT)

PLANAR = Template(
    "1410",
    (
        *_named("1410", _COMMON),
        _with("1410", _REGION, 1),
        Row("TID 1410 row 7", "CONTAINS", ("IMAGE",), dcm("121214", "")),
        _NUMBER_1419,
    ),
    (
        OneOf(
            "TID 1410 rows 5 and 7",
            (
                _with("1410", _REGION, 1),
                Row("TID 1410 row 7", "CONTAINS", ("IMAGE",), dcm("121214", "")),
                Row("TID 1410 row 7b", "CONTAINS", ("SCOORD3D",), concepts.IMAGE_REGION),
            ),
        ),
    ),
)
VOLUMETRIC = Template(
    "1411",
    (
        *_named("1411", _COMMON),
        _with("1411", _REGION),
        Row("TID 1411 row 7", "CONTAINS", ("IMAGE",), concepts.REFERENCED_SEGMENT),
        *(_with("1411", row) for row in _ROI_SOURCE),
        _NUMBER_1419,
    ),
    (
        OneOf(
            "TID 1411 rows 5, 7 and 10",
            (
                _with("1411", _REGION),
                Row("TID 1411 row 7", "CONTAINS", ("IMAGE",), concepts.REFERENCED_SEGMENT),
                Row("TID 1411 row 10", "CONTAINS", ("SCOORD3D",), dcm("121231", "")),
            ),
        ),
    ),
)
GROUP = Template("1501", (*_named("1501", _COMMON), *_ALGORITHM, _NUMBER_300))
GROUPS = {template.identifier: template for template in (PLANAR, VOLUMETRIC, GROUP)}

_LIBRARY = Row(
    "TID 1500 row 5", "CONTAINS", ("CONTAINER",), concepts.IMAGE_LIBRARY,
    inside=(
        Row(
            "TID 1600 row 2", "CONTAINS", ("CONTAINER",), concepts.IMAGE_LIBRARY_GROUP, 0, MANY,
            inside=(
                Row("TID 1602 row 1", "HAS ACQ CONTEXT", ("CODE",), concepts.MODALITY),
                Row("TID 1602 row 10", "HAS ACQ CONTEXT", ("UIDREF",), concepts.FRAME_OF_REFERENCE),
            ),
        ),
    ),
)  # fmt: skip
_DERIVED = Row(
    "TID 1420 row 1", "CONTAINS", ("NUM",), None, 1, MANY,
    inside=(*_named("1420", _OF_A_NUMBER),
            Row("TID 1420 row 5", "INFERRED FROM", ("NUM",), None, 0, MANY)),
)  # fmt: skip
TITLES = _codes("126000", "126001", "126002", "126003")

REPORT = Template(
    "1500",
    (
        Row("TID 1204 row 1", "HAS CONCEPT MOD", ("CODE",), concepts.LANGUAGE),
        # The standard leaves the observer open; a report nobody made cannot be traced.
        Row(
            "TID 1002 row 1", "HAS OBS CONTEXT", ("CODE",), concepts.OBSERVER_TYPE, 1, MANY,
            _codes("121006", "121007"),
        ),
        Row("TID 1004 row 1", "HAS OBS CONTEXT", ("UIDREF",), concepts.DEVICE_UID),
        Row("TID 1500 row 4", "HAS CONCEPT MOD", ("CODE",), concepts.PROCEDURE_REPORTED, 0, MANY),
        _LIBRARY,
        Row(
            "TID 1500 row 6", "CONTAINS", ("CONTAINER",), concepts.IMAGING_MEASUREMENTS,
            inside=_ALGORITHM,
        ),
        Row(
            "TID 1500 row 10", "CONTAINS", ("CONTAINER",), concepts.DERIVED_IMAGING_MEASUREMENTS,
            inside=(_DERIVED,),
        ),
        Row("TID 1500 row 12", "CONTAINS", ("CONTAINER",), concepts.QUALITATIVE_EVALUATIONS),
    ),
)  # fmt: skip
BODIES = (
    concepts.IMAGING_MEASUREMENTS,
    concepts.DERIVED_IMAGING_MEASUREMENTS,
    concepts.QUALITATIVE_EVALUATIONS,
)
