"""The report for people: says what it must, cuts nothing off, and is the same each time."""

import io
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pydicom
import pytest

from mirv.analysis.model import StudyResult
from mirv.dicom_io.model import Predecessor, StudyInput
from mirv.dicom_io.outputs import render
from mirv.dicom_io.outputs.pages.pdf import REPORT_PDF, pdf, report_pdf
from tests.conformance.validators import dciodvfy
from tests.dicom_io.outputs.samples import context_of, phantom_study, quality_row, result_of


def _run(*command: str | Path) -> str:
    assert shutil.which(str(command[0])), f"{command[0]} is not installed"
    return subprocess.run(
        [str(part) for part in command], check=True, capture_output=True, text=True
    ).stdout


def _text(content: bytes, folder: Path) -> str:
    path = folder / "report.pdf"
    path.write_bytes(content)
    return _run("pdftotext", "-layout", path, "-")


def _pictures(content: bytes, folder: Path) -> list[np.ndarray]:
    """Pages as grey images, 0 black to 1 white: what a grey printer gets."""
    path = folder / "pages.pdf"
    path.write_bytes(content)
    _run("pdftoppm", "-gray", "-r", "60", "-png", path, folder / "page")
    return [matplotlib.image.imread(page)[..., 0] for page in sorted(folder.glob("page-*.png"))]


def test_document_is_an_encapsulated_pdf_of_the_study(
    study: StudyInput, result: StudyResult
) -> None:
    context = context_of("core", extras=("report_pdf",))
    artifacts = {a.role: a for a in render(study, result, context)}
    ds = pydicom.dcmread(io.BytesIO(artifacts["report_pdf"].content))
    assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.104.1"
    assert ds.StudyInstanceUID == study.evidence.images[0].StudyInstanceUID
    pdf = ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength]
    assert pdf.startswith(b"%PDF") and pdf.rstrip().endswith(b"%%EOF")
    assert "report_pdf" not in {a.role for a in render(study, result, context_of("core"))}


def test_same_arguments_same_bytes(study: StudyInput, result: StudyResult) -> None:
    first, second = (report_pdf(study, result, context_of())[0].content for _ in range(2))
    assert first == second


@pytest.mark.peers
def test_dciodvfy_finds_no_error(study: StudyInput, result: StudyResult, tmp_path: Path) -> None:
    path = tmp_path / "report.dcm"
    path.write_bytes(report_pdf(study, result, context_of())[0].content)
    assert dciodvfy(path) == []


@pytest.mark.peers
def test_pages_say_what_they_must(study: StudyInput, result: StudyResult, tmp_path: Path) -> None:
    text = _text(pdf(study, result, context_of()), tmp_path)
    assert text.count("not a diagnostic or prognostic statement") == 2  # on every page
    for lesion in study.lesions:
        assert lesion.tracking_id in text
    assert "Most divergent pair" in text
    assert "too_small" in text
    assert "warn: small" in text
    for digest in result.provenance.profile_digests.values():
        assert digest in text


@pytest.mark.peers
@pytest.mark.parametrize("n_lesions", [1, 70])
def test_nothing_is_cut_off(n_lesions: int, tmp_path: Path) -> None:
    shape, spacing = (90, 256, 256), (2.0, 1.2, 1.2)
    study = phantom_study(tmp_path / "study", n_lesions, shape=shape, spacing=spacing)
    hostile = tuple(
        replace(a, tracking_id=f"{a.number} " + "Wi$e<\\frac{$ \\alpha^Name> " * 9)
        for a in study.lesions
    )
    row = quality_row("check" * 9, "warn", "f" * 99, "w" * 99, "d" * 300)
    study = replace(study, lesions=hostile, quality=(row,) * 30)
    pages = _pictures(pdf(study, result_of(study), context_of()), tmp_path)
    assert len(pages) == (2 if n_lesions == 1 else 3)
    for page in pages:
        rows, columns = page.shape
        border = np.concatenate(
            [page[: rows // 60].ravel(), page[-rows // 60 :].ravel(),
             page[:, : columns // 30].ravel(), page[:, -columns // 30 :].ravel()]
        )  # fmt: skip
        assert border.min() > 0.99, "something reaches the edge of the paper"
        assert page.min() < 0.2, "nothing is printed dark enough to read"


def test_a_revision_names_what_it_replaces(study: StudyInput, result: StudyResult) -> None:
    before = Predecessor(REPORT_PDF.sop_class_uid, "1.2.3", "1.2")
    (artifact,) = report_pdf(study, result, context_of(predecessor={"report_pdf": before}))
    ds = pydicom.dcmread(io.BytesIO(artifact.content))
    series = ds.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == "1.2"
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3"
