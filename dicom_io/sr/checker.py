"""Is a report what its templates say? Offline, row by row: expected and found.

Beyond the rows it checks what no public validator does: tracking UIDs present and unique, units
that fit their concept, values that agree with their decimal string, references that resolve in the
evidence and, given the segmentation, to the segment of the same tracking UID.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import Dataset

from mirv.dicom_io.sr import concepts
from mirv.dicom_io.sr.feature_codes import known_unit
from mirv.dicom_io.sr.template_rows import BODIES, GROUPS, REPORT, TITLES, Row, Template
from mirv.dicom_io.sr.tree import ContentNode, read_report, same
from mirv.dicom_io.standard.uids import is_received_uid, is_uid

_STANDARD_SCHEMES = frozenset({"DCM", "SCT", "SRT", "UCUM", "UMLS", "LN", "RFC5646", "NCIt", "FMA"})
_LENGTHS = frozenset({"mm", "cm", "um"})
_VOLUMES = frozenset({"mm3", "cm3", "ml", "mL"})
_EVIDENCE = ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
_REPEATED = (
    concepts.FRAME_OF_REFERENCE,
    concepts.SOURCE_SERIES,
    concepts.SOURCE_SEGMENTATION,
    concepts.EARLIER_STUDY,
)
_UNITS_OF = {
    concepts.VOLUME.value: _VOLUMES,
    concepts.LONG_AXIS.value: _LENGTHS,
    concepts.SHORT_AXIS.value: _LENGTHS,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is not as it should be.

    Attributes
    ----------
    rule : str
        Template and row, or the name of the rule.
    where : str
        The item, as a path of meanings.
    expected, found : str
    """

    rule: str
    where: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.where}: expected {self.expected}; found {self.found}"


def check_report(
    source: Path | bytes, segmentations: Iterable[Path | bytes] = ()
) -> tuple[Fault, ...]:
    """Check an SR document against its templates.

    Parameters
    ----------
    source : Path or bytes
        The report.
    segmentations : paths or bytes of Segmentation objects
        Those it refers to, where at hand: segment numbers are then checked against tracking UIDs.

    Returns
    -------
    tuple of Fault
        Empty when all is well.

    Raises
    ------
    Unsuitable
        The file is no readable report at all.
    """
    header, root = read_report(source)
    faults = [
        *_title(root),
        *_template(root, REPORT, "report"),
        *_bodies(root),
        *_groups(root),
        *_numbers(root, "report"),
        *_evidence(header, root),
        *_schemes(header, root),
        *_targets(root),
        *_segments(root, segmentations),
    ]
    return tuple(faults)


def _meaning(node: ContentNode) -> str:
    if node.name is None:
        return node.value_type or "reference"
    return node.name.meaning or node.name.value


def _describe(row: Row) -> str:
    name = f" ({row.concept.value}, {row.concept.scheme})" if row.concept else ""
    return f"{row.relationship} {'/'.join(row.types)}{name}".strip()


def _template(node: ContentNode, template: Template, where: str) -> Iterator[Fault]:
    yield from _rows(node, template.rows, where)
    for choice in template.choices:
        there = [row for row in choice.rows if any(_fits(child, row) for child in node.children)]
        if len(there) != 1:
            wanted = " or ".join(_describe(row) for row in choice.rows)
            found = ", ".join(_describe(row) for row in there) or "none"
            yield Fault(choice.label, where, f"exactly one of {wanted}", found)


def _fits(child: ContentNode, row: Row) -> bool:
    """Whether a child is meant by a row: by its concept, else by its type and relationship."""
    if row.concept is None:
        return child.value_type in row.types and child.relationship == row.relationship
    if child.name is None or not same(child.name, row.concept):
        return False
    # A region is a row of its own as SCOORD and as SCOORD3D; elsewhere another type is a fault.
    return child.value_type in row.types or not same(row.concept, concepts.IMAGE_REGION)


def _rows(node: ContentNode, rows: Iterable[Row], where: str) -> Iterator[Fault]:
    for row in rows:
        matching = [child for child in node.children if _fits(child, row)]
        if not row.least <= len(matching) <= row.most:
            most = "or more" if row.most > 1000 else f"to {row.most}"
            yield Fault(row.label, where, f"{row.least} {most} {_describe(row)}",
                        f"{len(matching)}")  # fmt: skip
        for child in matching:
            yield from _item(child, row, where)


def _item(child: ContentNode, row: Row, where: str) -> Iterator[Fault]:
    place = f"{where} / {_meaning(child)}"
    if child.value_type not in row.types or (
        row.relationship and child.relationship != row.relationship
    ):
        yield Fault(row.label, place, _describe(row), f"{child.relationship} {child.value_type}")
    if row.values and (
        child.code is None or (child.code.value, child.code.scheme) not in row.values
    ):
        found = child.code.value if child.code else "no code"
        yield Fault(row.label, place, " or ".join(sorted(v for v, _ in row.values)), found)
    yield from _value(child, row.label, place)
    yield from _rows(child, row.inside, place)


def _value(child: ContentNode, rule: str, place: str) -> Iterator[Fault]:
    """What every item of its value type must have."""
    if child.value_type == "TEXT" and not child.text:
        yield Fault(rule, place, "a text", "none")
    if child.value_type == "CODE" and child.code is None:
        yield Fault(rule, place, "a code", "none")
    if child.value_type == "UIDREF" and not _is_uid(child):
        yield Fault(rule, place, "a UID", child.text or "none")
    if child.value_type in {"IMAGE", "COMPOSITE"} and not all(map(is_received_uid, child.sop)):
        yield Fault(rule, place, "SOP class and instance UID", str(child.sop))


def _is_uid(child: ContentNode) -> bool:
    """References repeat the UIDs objects came with, irregular or not; all else is a proper UID."""
    if child.name is not None and any(same(child.name, concept) for concept in _REPEATED):
        return is_received_uid(child.text)
    return is_uid(child.text)


def _title(root: ContentNode) -> Iterator[Fault]:
    if root.name is None or (root.name.value, root.name.scheme) not in TITLES:
        found = root.name.value if root.name else "no title"
        yield Fault("TID 1500 row 1", "report", "a title of CID 7021 (126000, DCM ...)", found)
    if root.template != "1500":
        yield Fault("TID 1500 row 1", "report", "template 1500", root.template or "none")


def _bodies(root: ContentNode) -> Iterator[Fault]:
    if not any(root.first(body) for body in BODIES):
        wanted = " or ".join(body.meaning for body in BODIES)
        yield Fault("TID 1500 rows 6, 10, 12", "report", wanted, "none")


def _group_nodes(root: ContentNode) -> list[ContentNode]:
    measurements = root.first(concepts.IMAGING_MEASUREMENTS)
    return list(measurements.named(concepts.MEASUREMENT_GROUP)) if measurements else []


def _groups(root: ContentNode) -> Iterator[Fault]:
    groups = _group_nodes(root)
    uids: Counter[str] = Counter()
    for position, group in enumerate(groups, start=1):
        where = f"group {position}"
        if identifier := group.first(concepts.TRACKING_IDENTIFIER):
            where += f" ({identifier.text})"
        yield from _template(group, GROUPS[_template_of(group)], where)
        if uid := group.first(concepts.TRACKING_UID):
            # One lesion may have several groups, but of different templates only.
            uids[f"{_template_of(group)} {uid.text}"] += 1
    for key, count in uids.items():
        if count > 1:
            yield Fault(
                "tracking", f"tracking UID {key.split()[1]}", "one group", f"{count} groups"
            )
    kinds = {_template_of(group) for group in groups}
    if {"1411", "1501"} <= kinds:
        yield Fault("separation", "report", "groups of TID 1501 in a report of their own",
                    ", ".join(sorted(kinds)))  # fmt: skip


def _template_of(group: ContentNode) -> str:
    """The template a group follows: as it says, else by what it refers to."""
    if group.template in GROUPS:
        return group.template
    regions = [c for c in group.named(concepts.IMAGE_REGION) if c.value_type == "SCOORD"]
    if group.first(concepts.REFERENCED_SEGMENT) or group.first(concepts.dcm("121231", "")):
        return "1411"
    if len(regions) > 1:
        return "1411"
    return "1410" if regions or group.first(concepts.dcm("121214", "")) else "1501"


def _numbers(node: ContentNode, where: str) -> Iterator[Fault]:
    """Every NUM of the document: unit, decimal string, exact value, unit that fits."""
    for child in node.children:
        place = f"{where} / {_meaning(child)}" if child.name else where
        if child.value_type == "NUM":
            yield from _number(child, place)
        yield from _numbers(child, place)


def _number(node: ContentNode, place: str) -> Iterator[Fault]:
    if not node.decimal:
        yield Fault("number", place, "a Numeric Value", "none")
        return
    try:
        value = float(node.decimal)
    except ValueError:
        yield Fault("number", place, "a decimal string", node.decimal)
        return
    if len(node.decimal) > 16 or not math.isfinite(value):
        yield Fault("number", place, "a finite value in at most 16 characters", node.decimal)
    if node.exact is not None and not math.isclose(value, node.exact, rel_tol=1e-6, abs_tol=1e-300):
        yield Fault("number", place, f"a decimal string of {node.exact!r}", node.decimal)
    if node.unit is None or node.unit.scheme != "UCUM":
        yield Fault("unit", place, "a UCUM unit", str(node.unit))
        return
    allowed = _units_of(node)
    if allowed and node.unit.value not in allowed:
        yield Fault("unit", place, " or ".join(sorted(allowed)), node.unit.value)


def _units_of(node: ContentNode) -> frozenset[str]:
    """Units that fit the concept; empty: not known."""
    if node.name is None:
        return frozenset()
    if node.name.scheme == "SCT" and node.name.value in _UNITS_OF:
        return _UNITS_OF[node.name.value]
    name = node.first(concepts.EQUIVALENT_NAME)
    return known_unit(node.name, name.text if name else "")


def _walk(node: ContentNode) -> Iterator[ContentNode]:
    for child in node.children:
        yield child
        yield from _walk(child)


def _evidence(header: Dataset, root: ContentNode) -> Iterator[Fault]:
    """Every instance the content refers to stands in an evidence sequence (PS3.3 C.17.2)."""
    listed = {
        str(instance.get("ReferencedSOPInstanceUID", ""))
        for keyword in _EVIDENCE
        for study in header.get(keyword) or []
        for series in study.get("ReferencedSeriesSequence") or []
        for instance in series.get("ReferencedSOPSequence") or []
    }  # fmt: skip
    referred = dict.fromkeys(node.sop[1] for node in _walk(root) if node.sop[1])
    for uid in referred:
        if uid not in listed:
            yield Fault(
                "evidence", f"instance {uid}", "listed in an evidence sequence", "not listed"
            )


def _schemes(header: Dataset, root: ContentNode) -> Iterator[Fault]:
    """Private coding schemes are declared (PS3.3 C.12.1.1)."""
    declared = {
        str(scheme.get("CodingSchemeDesignator", ""))
        for scheme in header.get("CodingSchemeIdentificationSequence") or []
    }
    used = {
        code.scheme for node in _walk(root) for code in (node.name, node.code, node.unit) if code
    }
    for scheme in sorted(used - declared - _STANDARD_SCHEMES):
        if scheme.startswith("99"):
            yield Fault("coding scheme", scheme, "declared in the header", "not declared")


def _targets(root: ContentNode) -> Iterator[Fault]:
    """Relationships by reference lead to an item."""
    for node in _walk(root):
        if not node.target:
            continue
        found: ContentNode | None = root if node.target[0] == 1 else None
        for step in node.target[1:]:
            inside = found.children if found else []
            found = inside[step - 1] if 0 < step <= len(inside) else None
        if found is None or found.value_type != "NUM":
            path = ".".join(map(str, node.target))
            yield Fault("reference", f"item {path}", "a NUM", found.value_type if found else "none")


def _segments(root: ContentNode, segmentations: Iterable[Path | bytes]) -> Iterator[Fault]:
    """Referenced segments carry the group's own tracking UID."""
    known: dict[str, dict[int, str]] = {}
    for source in segmentations:
        seg = pydicom.dcmread(
            source if isinstance(source, Path) else pydicom.filebase.DicomBytesIO(source),
            stop_before_pixels=True,
        )
        known[str(seg.SOPInstanceUID)] = {
            int(segment.SegmentNumber): str(segment.get("TrackingUID", ""))
            for segment in seg.SegmentSequence
        }
    for group in _group_nodes(root):
        uid, segment = group.first(concepts.TRACKING_UID), group.first(concepts.REFERENCED_SEGMENT)
        if segment is None:
            continue
        where = f"group {uid.text if uid else 'without tracking UID'}"
        if len(segment.segments) != 1:
            yield Fault("segment", where, "one Referenced Segment Number", str(segment.segments))
        elif segment.sop[1] in known:
            there = known[segment.sop[1]].get(segment.segments[0])
            if uid is None or there != uid.text:
                wanted = f"segment {segment.segments[0]} of the same tracking UID"
                yield Fault("segment", where, wanted, there or "no such segment")
