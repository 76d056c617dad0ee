"""The report as an image: the same pages, one a frame, legible."""

import io
import shutil
import subprocess
from pathlib import Path

import matplotlib.image
import numpy as np
import pydicom
import pytest

from mirv.analysis.model import StudyResult
from mirv.dicom_io.model import Predecessor, StudyInput
from mirv.dicom_io.outputs import render
from mirv.dicom_io.outputs.pages.pdf import pdf
from mirv.dicom_io.outputs.pages.secondary_capture import DPI, REPORT_SC, report_sc
from tests.conformance.validators import dciodvfy
from tests.dicom_io.outputs.samples import context_of, phantom_study, result_of

BEFORE = Predecessor(REPORT_SC.sop_class_uid, "1.2.3", "1.2")


@pytest.fixture(scope="module")
def content(study: StudyInput, result: StudyResult) -> bytes:
    """A revised report."""
    context = context_of("core", extras=("report_sc",), predecessor={"report_sc": BEFORE})
    return {a.role: a for a in render(study, result, context)}["report_sc"].content


def test_it_is_an_extra_and_the_same_each_time(
    study: StudyInput, result: StudyResult, content: bytes
) -> None:
    assert "report_sc" not in {a.role for a in render(study, result, context_of("core"))}
    again = context_of("core", predecessor={"report_sc": BEFORE})
    assert report_sc(study, result, again)[0].content == content


def test_a_revision_names_what_it_replaces(content: bytes) -> None:
    image = pydicom.dcmread(io.BytesIO(content))
    (reference,) = image.ReferencedImageSequence
    assert reference.ReferencedSOPInstanceUID == "1.2.3"
    assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "replaced"
    assert [series.SeriesInstanceUID for series in image.ReferencedSeriesSequence] == ["1.2"]


@pytest.mark.peers
def test_frames_are_the_pages_of_the_pdf(
    study: StudyInput, result: StudyResult, content: bytes, tmp_path: Path
) -> None:
    """Letter for letter: the page as another program draws it lies on the frame."""
    assert shutil.which("pdftoppm"), "pdftoppm is not installed"
    path = tmp_path / "report.pdf"
    path.write_bytes(pdf(study, result, context_of("core")))
    subprocess.run(
        ["pdftoppm", "-gray", "-r", str(DPI), "-png", path, tmp_path / "page"], check=True
    )
    pages = [matplotlib.image.imread(page) for page in sorted(tmp_path.glob("page-*.png"))]
    image = pydicom.dcmread(io.BytesIO(content))
    assert image.NumberOfFrames == len(pages) == 2
    for frame, page in zip(image.pixel_array, pages, strict=True):
        drawn = page if page.ndim == 2 else page[..., 0]
        rows, columns = (min(a, b) // 8 * 8 for a, b in zip(frame.shape, drawn.shape, strict=True))
        ink = [
            (1 - grey[:rows, :columns].reshape(rows // 8, 8, columns // 8, 8).mean(axis=(1, 3)))
            for grey in (frame / 255.0, drawn)
        ]
        assert np.corrcoef(ink[0].ravel(), ink[1].ravel())[0, 1] > 0.95


@pytest.mark.peers
@pytest.mark.parametrize("n_lesions", [1, 45])
def test_dciodvfy_finds_no_error(n_lesions: int, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "report.dcm"
    path.write_bytes(content)
    assert dciodvfy(path) == []
    study = phantom_study(tmp_path / "s", n_lesions, shape=(90, 200, 200), spacing=(2.0, 1.4, 1.4))
    (artifact,) = report_sc(study, result_of(study), context_of("core"))
    path.write_bytes(artifact.content)
    assert dciodvfy(path) == []
