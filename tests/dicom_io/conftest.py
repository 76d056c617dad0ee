"""A phantom study, a result and its outputs, made once."""

import io

import pydicom
import pytest
from pydicom import Dataset

from mirv.analysis.model import StudyResult
from mirv.dicom_io.model import StudyInput
from mirv.dicom_io.outputs import render
from tests.dicom_io.outputs.samples import context_of, phantom_study, result_of


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyInput:
    """A phantom of 12 lesions."""
    return phantom_study(tmp_path_factory.mktemp("phantom"))


@pytest.fixture(scope="session")
def result(study: StudyInput) -> StudyResult:
    """Random values of both profiles, with missing ones and an excluded lesion."""
    return result_of(study)


@pytest.fixture(scope="session")
def outputs(study: StudyInput, result: StudyResult) -> dict[str, Dataset]:
    """Every output, parsed, by role."""
    artifacts = render(study, result, context_of("core"))
    return {a.role: pydicom.dcmread(io.BytesIO(a.content)) for a in artifacts}
