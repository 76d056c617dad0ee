"""TID 1420: measures over several lesions lead back to the very numbers they come from."""

import numpy as np
import pytest

from mirv.analysis.model import StudyResult
from mirv.dicom_io.model import StudyInput
from mirv.dicom_io.outputs import render
from mirv.dicom_io.sr import concepts
from mirv.dicom_io.sr.checker import check_report
from mirv.dicom_io.sr.tree import ContentNode, read_report
from tests.dicom_io.outputs.samples import PROFILES, context_of, result_of


def _at(root: ContentNode, position: tuple[int, ...]) -> ContentNode:
    """The item at a position counted from 1, the root being the first number."""
    assert position[0] == 1
    for step in position[1:]:
        root = root.children[step - 1]
    return root


def _report(study: StudyInput, result: StudyResult, **options: object) -> bytes:
    context = context_of("core", **{"extras": ("derived_measurements",), **options})
    return render(study, result, context)[0].content


def test_total_volume_leads_to_every_volume(study: StudyInput, result: StudyResult) -> None:
    _, root = read_report(_report(study, result))
    derived = root.first(concepts.DERIVED_IMAGING_MEASUREMENTS)
    names = {n.first(concepts.EQUIVALENT_NAME).text: n for n in derived.children}
    total = names["volume_total_ml"]
    inputs = [_at(root, child.target) for child in total.children if child.target]
    assert len(inputs) == len(study.lesions)
    assert {node.name.value for node in inputs} == {"118565006"}
    wanted = [lesion.mask.n_voxels * 2.5 * 1.3 * 1.3 for lesion in study.lesions]
    np.testing.assert_allclose([node.value for node in inputs], wanted)


def test_an_index_leads_to_its_features(study: StudyInput) -> None:
    result = result_of(study, PROFILES[:1])  # measures in a space of henry2022
    _, root = read_report(_report(study, result))
    derived = root.first(concepts.DERIVED_IMAGING_MEASUREMENTS)
    names = {n.first(concepts.EQUIVALENT_NAME).text: n for n in derived.children}
    inputs = [_at(root, child.target) for child in names["mtd"].children if child.target]
    selected = set(PROFILES[0].selected)
    missing = sum(len(set(a.missing) & selected) for a in result.lesions)
    n_measured = sum(a.excluded is None for a in result.lesions)
    assert len(inputs) == len(selected) * n_measured - missing
    assert {node.first(concepts.EQUIVALENT_NAME).text for node in inputs} == selected
    values = {a.values[a.names.index(n)] for a in result.lesions for n in selected}
    assert {node.value for node in inputs} <= values


def test_it_is_an_extra_and_has_no_reason_items(study: StudyInput, result: StudyResult) -> None:
    content = _report(study, result)
    assert check_report(content) == ()
    _, root = read_report(content)
    derived = root.first(concepts.DERIVED_IMAGING_MEASUREMENTS)
    assert {node.value_type for node in derived.children} == {"NUM"}
    _, plain = read_report(_report(study, result, extras=("headline_sr",)))
    assert plain.first(concepts.DERIVED_IMAGING_MEASUREMENTS) is None


@pytest.mark.parametrize("target", [(1, 99), (1, 1), (2, 1)])
def test_a_reference_that_leads_elsewhere_is_caught(
    study: StudyInput, result: StudyResult, target: tuple[int, ...]
) -> None:
    content = _report(study, result)
    _, root = read_report(content)
    derived = root.first(concepts.DERIVED_IMAGING_MEASUREMENTS)
    first = next(c.target for n in derived.children for c in n.children if c.target)
    old = b"\x40\x00\x73\xdbUL\x10\x00" + np.array(first, "<u4").tobytes()
    new = b"\x40\x00\x73\xdbUL\x10\x00" + np.array([*target, 1, 1][:4], "<u4").tobytes()
    assert old in content
    faults = check_report(content.replace(old, new, 1))
    assert any(fault.rule == "reference" for fault in faults)
