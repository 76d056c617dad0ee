"""The template checker: silent about good reports, precise about each broken one."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset

from mirv.analysis.errors import Unsuitable
from mirv.dicom_io.model import StudyInput
from mirv.dicom_io.outputs import render
from mirv.dicom_io.sr.checker import check_report
from tests.dicom_io.outputs.samples import context_of, result_of

Break = Callable[[Dataset], object]


@pytest.fixture(scope="module")
def contents(study: StudyInput) -> dict[str, bytes]:
    """Outputs with the original image's features, by role."""
    artifacts = render(study, result_of(study), context_of("original"))
    return {a.role: a.content for a in artifacts}


def _named(parent: Dataset, value: str) -> Iterator[Dataset]:
    for child in parent.get("ContentSequence", []):
        if child.ConceptNameCodeSequence[0].CodeValue == value:
            yield child


def _group(report: Dataset, position: int = 0) -> Dataset:
    return list(_named(next(_named(report, "126010")), "125007"))[position]


def _one(report: Dataset, value: str, position: int = 0) -> Dataset:
    return next(_named(_group(report, position), value))


def _without(report: Dataset, value: str) -> None:
    group = _group(report)
    group.ContentSequence.remove(next(_named(group, value)))


def _number(report: Dataset, value: str) -> Dataset:
    return _one(report, value).MeasuredValueSequence[0]


def _swap_segments(report: Dataset) -> None:
    first, second = (_one(report, "121191", n).ReferencedSOPSequence[0] for n in (0, 1))
    one, two = first.ReferencedSegmentNumber, second.ReferencedSegmentNumber
    first.ReferencedSegmentNumber, second.ReferencedSegmentNumber = two, one


def _set_unit(report: Dataset, concept: str, unit: str) -> None:
    _number(report, concept).MeasurementUnitsCodeSequence[0].CodeValue = unit


def _same_tracking(report: Dataset) -> None:
    _one(report, "112040", 1).UID = _one(report, "112040", 0).UID


def test_own_reports_are_clean(contents: dict[str, bytes]) -> None:
    for role in ("lesion_sr", "patient_sr"):
        faults = check_report(contents[role], [contents["lesion_seg"]])
        assert [str(fault) for fault in faults] == []


BROKEN: dict[str, tuple[Break, str, str]] = {
    "no tracking UID": (lambda r: _without(r, "112040"), "TID 1411 row 3", "112040"),
    "no tracking identifier": (lambda r: _without(r, "112039"), "TID 1411 row 2", "112039"),
    "no segment": (lambda r: _without(r, "121191"), "TID 1411 rows 5, 7 and 10", "121191"),
    "a segment that is not there": (
        lambda r: setattr(_one(r, "121191").ReferencedSOPSequence[0],
                          "ReferencedSegmentNumber", 99), "segment", "same tracking UID",
    ),
    "swapped segments": (_swap_segments, "segment", "same tracking UID"),
    "volume in mm2": (lambda r: _set_unit(r, "118565006", "mm2"), "unit", "mm3"),
    "mean in mm": (lambda r: _set_unit(r, "Q4LE", "mm"), "unit", "[hnsf'U]"),
    "sphericity in HU": (lambda r: _set_unit(r, "QCFX", "[hnsf'U]"), "unit", "1"),
    "twice the same lesion": (_same_tracking, "tracking", "one group"),
    "tracking UID as text": (
        lambda r: setattr(_one(r, "112040"), "ValueType", "TEXT"), "TID 1411 row 3", "UIDREF",
    ),
    "finding site contained": (
        lambda r: setattr(_one(r, "363698007"), "RelationshipType", "CONTAINS"),
        "TID 1411 finding site", "HAS CONCEPT MOD",
    ),
    "two findings": (
        lambda r: _group(r).ContentSequence.append(_one(r, "121071")), "TID 1411 row 3b", "0 to 1",
    ),
    "another decimal string": (
        lambda r: setattr(_number(r, "118565006"), "NumericValue", "1.5"), "number", "decimal",
    ),
    "no number": (
        lambda r: setattr(_one(r, "118565006"), "MeasuredValueSequence", []), "number", "Numeric",
    ),
    "no evidence": (
        lambda r: delattr(r, "CurrentRequestedProcedureEvidenceSequence"), "evidence", "listed",
    ),
    "scheme not declared": (
        lambda r: delattr(r, "CodingSchemeIdentificationSequence"), "coding scheme", "declared",
    ),
    "another title": (
        lambda r: setattr(r.ConceptNameCodeSequence[0], "CodeValue", "113701"),
        "TID 1500 row 1", "126000",
    ),
    "no observer": (
        lambda r: r.ContentSequence.remove(next(_named(r, "121005"))), "TID 1002 row 1", "121005",
    ),
    "mixed with TID 1501": (
        lambda r: setattr(_group(r).ContentTemplateSequence[0], "TemplateIdentifier", "1501"),
        "separation", "of their own",
    ),
    "no measurements": (
        lambda r: [r.ContentSequence.remove(c) for c in list(r.ContentSequence)
                   if c.ConceptNameCodeSequence[0].CodeValue in {"126010", "C0034375"}],
        "TID 1500 rows 6, 10, 12", "Imaging Measurements",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BROKEN))
def test_each_broken_report_is_caught(name: str, contents: dict[str, bytes]) -> None:
    spoil, rule, expected = BROKEN[name]
    report = pydicom.dcmread(io.BytesIO(contents["lesion_sr"]))
    spoil(report)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, report, enforce_file_format=True)
    faults = check_report(buffer.getvalue(), [contents["lesion_seg"]])
    assert any(f.rule == rule and expected in f.expected for f in faults), [str(f) for f in faults]


def test_what_is_no_report_is_said(contents: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(Unsuitable, match="not_a_report"):
        check_report(contents["lesion_seg"])
    with pytest.raises(Unsuitable, match=r"damaged_report|not_dicom"):
        check_report(contents["lesion_sr"][:-301])


@pytest.mark.shared
@pytest.mark.parametrize("name", ["seg_highdicom/sr_document.dcm", "seg_dcmqi/sr-example/sr.dcm"])
def test_good_reports_of_others_are_clean(shared: Path, name: str) -> None:
    """Written by highdicom and by dcmqi: no false alarm."""
    assert check_report(shared / name) == ()
