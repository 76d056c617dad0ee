"""The node's own reports back into results: exactly the values that were written."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from mirv.analysis.errors import Reason, Unsuitable
from mirv.analysis.model import LesionChange, LesionResult, Measure, Provenance, State
from mirv.dicom_io.model import Code
from mirv.dicom_io.sr import concepts
from mirv.dicom_io.sr.tree import ContentNode, read_report

_DIGEST = re.compile(r"(profile|space)=(.+?) sha256=([0-9a-f]{64})")
_INPUT = re.compile(r"input sha256=([0-9a-f]{64})")
_EARLIER = re.compile(r"earlier study=(\S+) date=(.*) input sha256=([0-9a-f]{64})")
_VERSION = re.compile(r"version (.+?)=(.*)")
_UNKNOWN_DETAIL = "-"
_STATES: dict[str, State] = {state: state for state in get_args(State)}


@dataclass(frozen=True, slots=True, eq=False)
class ReportContent:
    """What one report says.

    Attributes
    ----------
    patient_id, study_uid, study_date : str
        As in the document's header.
    source_series_uid : str
        The image series the lesions were drawn on, "" in a patient report.
    segmentation_uids : mapping of tracking UID to SOP Instance UID
        Where each lesion was drawn.
    object_uid : str
        SOP Instance UID of the report.
    lesions : tuple of LesionResult
        Profile by profile, lesion by lesion; only the features the report carries.
    measures : tuple of Measure
    provenance : Provenance
    changes : tuple of LesionChange
        Since an earlier study; empty where the report compares with none.
    """

    patient_id: str
    study_uid: str
    study_date: str
    source_series_uid: str
    segmentation_uids: dict[str, str]
    object_uid: str
    lesions: tuple[LesionResult, ...]
    measures: tuple[Measure, ...]
    provenance: Provenance
    changes: tuple[LesionChange, ...] = ()


def read(source: Path | bytes) -> ReportContent:
    """Read a lesion or patient report of this node.

    Parameters
    ----------
    source : Path or bytes
        A Part 10 file or its content.

    Returns
    -------
    ReportContent
        Values are the exact doubles where the report has them.

    Raises
    ------
    Unsuitable
        What cannot be read, is no report, or is not one of this node's.
    """
    header, root = read_report(source)
    measurements = root.first(concepts.IMAGING_MEASUREMENTS)
    if measurements is None:
        raise Unsuitable("not_own_report", "found no Imaging Measurements (126010, DCM)")
    groups = list(measurements.named(concepts.MEASUREMENT_GROUP))
    lesion_groups = [g for g in groups if g.first(concepts.LESION_NUMBER) is not None]
    series = ""
    for group in lesion_groups[:1]:
        if (named := group.first(concepts.SOURCE_SERIES)) is not None:
            series = named.text
    return ReportContent(
        str(header.get("PatientID", "")),
        str(header.get("StudyInstanceUID", "")),
        str(header.get("StudyDate", "")),
        series,
        _segmentations(lesion_groups),
        str(header.get("SOPInstanceUID", "")),
        _lesions(lesion_groups),
        tuple(
            measure for g in groups if g.first(concepts.LESION_NUMBER) is None
            for measure in _measures(g)
        ),
        _provenance([measurements, *groups]),
        tuple(_changes(groups)),
    )  # fmt: skip


def _segmentations(groups: list[ContentNode]) -> dict[str, str]:
    return {
        _text(group, concepts.TRACKING_UID): _text(group, concepts.SOURCE_SEGMENTATION)
        for group in groups
    }


def _required(parent: ContentNode, concept_name: str, found: ContentNode | None) -> ContentNode:
    if found is None:
        where = parent.name.meaning if parent.name else parent.value_type
        raise Unsuitable("not_own_report", f"{where}: found no {concept_name}")
    return found


def _text(parent: ContentNode, concept: Code) -> str:
    return _required(parent, concept.meaning, parent.first(concept)).text


def _code_meaning(parent: ContentNode, concept: Code) -> str:
    node = _required(parent, concept.meaning, parent.first(concept))
    return node.code.meaning if node.code else ""


def _exact(node: ContentNode) -> float:
    value = node.value
    if value is None:
        name = node.name.meaning if node.name else "NUM"
        raise Unsuitable("not_own_report", f"{name}: found no number")
    return value


@dataclass(slots=True)
class _Findings:
    """What a group says of one profile, gathered item by item."""

    values: dict[str, float]
    missing: dict[str, Reason]
    warnings: list[str]
    excluded: Reason | None = None


def _lesions(groups: list[ContentNode]) -> tuple[LesionResult, ...]:
    read_groups = [(group, _by_profile(group)) for group in groups]
    profiles = dict.fromkeys(profile for _, found in read_groups for profile in found)
    results = []
    for profile in profiles:
        names = _names(profile, [found for _, found in read_groups])
        results += [
            _lesion(group, profile, names, found[profile])
            for group, found in read_groups
            if profile in found
        ]
    return tuple(results)


def _names(profile: str, groups: list[dict[str, _Findings]]) -> tuple[str, ...]:
    """Feature names of a profile: a lesion without features has those of the others."""
    for found in groups:
        if profile in found and found[profile].excluded is None:
            return tuple(found[profile].values)
    return ()


def _lesion(
    group: ContentNode, profile: str, names: tuple[str, ...], found: _Findings
) -> LesionResult:
    tracking_id = _text(group, concepts.TRACKING_IDENTIFIER)
    volume = _required(group, "Volume", group.first(concepts.VOLUME))
    tabulated = _required(volume, "volume in ml", volume.first(concepts.VOLUME_ML))
    label = group.first(concepts.LESION_LABEL)
    if found.excluded is None and tuple(found.values) != names:
        raise Unsuitable("not_own_report", f"{tracking_id}: features of {profile} differ in names")
    values = [found.values.get(name, np.nan) for name in names]
    return LesionResult(
        int(_text(group, concepts.LESION_NUMBER)),
        label.text if label else "",
        tracking_id,
        _text(group, concepts.TRACKING_UID),
        _code_meaning(group, concepts.SITE),
        _exact(tabulated),
        profile,
        names,
        np.array(values, float),
        found.missing,
        found.excluded,
        tuple(found.warnings),
    )


def _by_profile(group: ContentNode) -> dict[str, _Findings]:
    findings: dict[str, _Findings] = {}
    for child in group.children:
        method = child.first(concepts.MEASUREMENT_METHOD)
        if method is None or method.code is None or child.name is None:
            continue
        found = findings.setdefault(method.code.meaning, _Findings({}, {}, []))
        _gather(child, child.name, found)
    return findings


def _gather(child: ContentNode, concept: Code, found: _Findings) -> None:
    if concept == concepts.WARNING:
        found.warnings.append(child.text)
    elif concept == concepts.NO_FEATURES:
        found.excluded = _reason(child)
    elif (named := child.first(concepts.EQUIVALENT_NAME)) is not None:
        if child.value_type == "NUM":
            found.values[named.text] = _exact(child)
        else:
            found.values[named.text] = np.nan
            found.missing[named.text] = _reason(child)


def _reason(node: ContentNode) -> Reason:
    detail = node.first(concepts.REASON_DETAIL)
    text = detail.text if detail else ""
    return Reason(node.code.meaning if node.code else "", "" if text == _UNKNOWN_DETAIL else text)


def _measures(group: ContentNode) -> Iterator[Measure]:
    method = group.first(concepts.MEASUREMENT_METHOD)
    profile = method.code.meaning if method and method.code else ""
    for child in group.children:
        named = child.first(concepts.EQUIVALENT_NAME)
        count = child.first(concepts.LESION_COUNT)
        if named is None or count is None:
            continue
        space = child.first(concepts.FEATURE_SPACE)
        space_name = space.code.meaning if space and space.code else ""
        n_lesions = int(_exact(count))
        if child.value_type == "NUM":
            unit = child.unit.value if child.unit else ""
            value = _exact(child)
            yield Measure(named.text, value, unit, profile, space_name, n_lesions)
            continue
        unit_node = child.first(concepts.UNIT)
        unit = unit_node.code.value if unit_node and unit_node.code else ""
        yield Measure(named.text, None, unit, profile, space_name, n_lesions, _reason(child))


def _changes(groups: list[ContentNode]) -> Iterator[LesionChange]:
    for group in groups:
        if group.first(concepts.CHANGE_STATE) is not None:
            yield _change(group)


def _change(group: ContentNode) -> LesionChange:
    said = _code_meaning(group, concepts.CHANGE_STATE)
    if said not in _STATES:
        raise Unsuitable("not_own_report", f"found {said!r} as what became of a lesion")
    by, earlier = group.first(concepts.MATCHED_BY), group.first(concepts.EARLIER_TRACKING_UID)
    change = group.first(concepts.VOLUME_CHANGE)
    current = _number(group.first(concepts.CURRENT_ML))
    previous_uid = earlier.text if earlier else ""
    return LesionChange(
        previous_uid if current is None else _text(group, concepts.TRACKING_UID),
        _text(group, concepts.TRACKING_IDENTIFIER),
        _code_meaning(group, concepts.SITE),
        _STATES[said],
        by.code.meaning if by and by.code else "",
        _number(group.first(concepts.EARLIER_ML)),
        current,
        _number(change),
        _reason(change) if change and change.value is None else None,
        previous_uid,
    )


def _number(node: ContentNode | None) -> float | None:
    return node.value if node else None


def _provenance(holders: list[ContentNode]) -> Provenance:
    """Digests and versions from the algorithm parameters, wherever they are stated."""
    digests: dict[str, dict[str, str]] = {"profile": {}, "space": {}}
    versions: dict[str, str] = {}
    input_digest = ""
    earlier = ("", "", "")
    for holder in holders:
        for parameter in holder.named(concepts.ALGORITHM_PARAMETERS):
            if found := _DIGEST.match(parameter.text):
                digests[found[1]][found[2]] = found[3]
            elif found := _INPUT.match(parameter.text):
                input_digest = found[1]
            elif found := _EARLIER.match(parameter.text):
                earlier = (found[3], found[1], found[2])
            elif found := _VERSION.match(parameter.text):
                versions[found[1]] = found[2]
    return Provenance(input_digest, digests["profile"], digests["space"], versions, *earlier)
