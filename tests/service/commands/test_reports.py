"""`mirv sr`: a report's table is the CSV of the run it came from, value for value."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mirv.analysis.model import StudyResult
from mirv.dicom_io.model import StudyInput
from mirv.dicom_io.outputs import render
from mirv.dicom_io.standard.person import Identity
from mirv.service.commands.reports import app as sr_app
from mirv.service.study import result_tables
from mirv.service.study.result_record import record_of
from tests.dicom_io.outputs.samples import PROFILES, context_of, phantom_study, result_of

Cells = dict[tuple[str, str], dict[str, str]]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyInput:
    """Three lesions."""
    return phantom_study(tmp_path_factory.mktemp("study"), 3)


def _extreme(result: StudyResult, seed: int) -> StudyResult:
    """Values of every magnitude a double has, both signs, zeros and infinitesimals."""
    rng = np.random.default_rng(seed)
    lesions = []
    for lesion in result.lesions:
        n = len(lesion.values)
        numbers = rng.standard_normal(n) * 10.0 ** rng.integers(-307, 307, n)
        numbers[rng.integers(0, n, 6)] = (0.0, -0.0, 5e-324, -5e-324, 1.7e308, 1 / 3)
        lesions.append(replace(lesion, values=np.where(np.isnan(lesion.values), np.nan, numbers)))
    return replace(result, lesions=tuple(lesions))


def _identity(study: StudyInput) -> Identity:
    image = study.evidence.images[0]
    born, sex = str(image.PatientBirthDate), str(image.PatientSex)
    return Identity(str(image.PatientID), "", born, sex, str(image.PatientName))


def _cells(content: str, *keys: str) -> Cells:
    rows = csv.DictReader(io.StringIO(content))
    return {tuple(row[key] for key in keys): row for row in rows}  # type: ignore[misc]


@pytest.mark.parametrize("features", ["core", "original", "all"])
@pytest.mark.parametrize("seed", range(3))
def test_the_table_of_a_report_is_the_runs_own(
    study: StudyInput, features: str, seed: int, tmp_path: Path
) -> None:
    both = seed == 0 and features != "core"  # the second profile has no short list
    result = _extreme(result_of(study, PROFILES if both else PROFILES[:1], seed), seed)
    record = record_of(study, result, _identity(study))
    context = context_of(features)
    for artifact in render(study, result, context):
        if artifact.role not in {"lesion_sr", "patient_sr"}:
            continue
        path = tmp_path / f"{artifact.role}.dcm"
        path.write_bytes(artifact.content)
        out = tmp_path / artifact.role
        done = CliRunner().invoke(sr_app, ["read", str(path), "--out", str(out)])
        assert done.exit_code == 0, done.output
        name = "lesions" if artifact.role == "lesion_sr" else "patients"
        make = result_tables.lesion_rows if name == "lesions" else result_tables.patient_rows
        own = result_tables.to_csv(*make([record])).decode("utf-8-sig")
        keys = ("tracking_uid", "profile") if name == "lesions" else ("profile", "space")
        wanted = _cells(own, *keys)
        found = _cells((out / f"{name}.csv").read_text("utf-8-sig"), *keys)
        assert found
        if name == "patients" or features == "all":
            assert set(found) == set(wanted)
        for key, row in found.items():
            # A short list says nothing of features that are not on it.
            silent = {"status", "reason"} if features == "core" else set()
            for column in row.keys() - silent:
                value = row[column]
                assert value == wanted[key][column], (key, column)


def test_check_says_what_is_wrong_and_exits_so(study: StudyInput, tmp_path: Path) -> None:
    artifacts = {
        one.role: one.content
        for one in render(study, result_of(study, PROFILES[:1]), context_of("core"))
    }
    report, seg = tmp_path / "sr.dcm", tmp_path / "seg.dcm"
    report.write_bytes(artifacts["lesion_sr"])
    seg.write_bytes(artifacts["lesion_seg"])
    runner = CliRunner()
    clean = runner.invoke(sr_app, ["check", str(report), "--seg", str(seg)])
    assert (clean.exit_code, clean.output.strip()) == (0, "0 fault(s)")
    # Another lesion's segments: each group's own is not where it points to.
    uids = [lesion.tracking_uid.encode() for lesion in study.lesions]
    first, second = next((a, b) for a in uids for b in uids if a != b and len(a) == len(b))
    held = b"x" * len(first)
    swapped = artifacts["lesion_seg"].replace(first, held)
    seg.write_bytes(swapped.replace(second, first).replace(held, second))
    broken = runner.invoke(sr_app, ["check", str(report), "--seg", str(seg)])
    assert broken.exit_code == 2
    assert "2 fault(s)" in broken.output and "same tracking UID" in broken.output
    nothing = runner.invoke(sr_app, ["check", str(seg)])
    assert nothing.exit_code not in {0, 2}
    assert "not_a_report" in nothing.output or "structured report" in nothing.output
