"""What validators and other people's readers say of our objects."""

import io
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK

from mirv.analysis.model import StudyResult
from mirv.dicom_io.model import StudyInput
from mirv.dicom_io.outputs import render
from tests.conformance.validators import dciodvfy, dcmqi, pixelmed, run, tid1500
from tests.dicom_io.outputs.samples import compared, context_of, phantom_study, result_of

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyInput:
    """Twelve lesions in shuffled segment order: 1, 10, 11, 2 is where readers go wrong."""
    return phantom_study(tmp_path_factory.mktemp("study"), shuffled=True)


@pytest.fixture(scope="module")
def result(study: StudyInput) -> StudyResult:
    """Values with holes, a lesion without features among them, compared with an earlier study."""
    return compared(result_of(study))


@pytest.fixture(scope="module")
def files(
    study: StudyInput, result: StudyResult, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Outputs by role, with the original image's features."""
    folder = tmp_path_factory.mktemp("outputs")
    paths = {}
    for artifact in render(study, result, context_of("original")):
        paths[artifact.role] = folder / f"{artifact.role}.dcm"
        paths[artifact.role].write_bytes(artifact.content)
    return paths


def test_dciodvfy_finds_no_error(files: dict[str, Path]) -> None:
    assert {role: dciodvfy(path) for role, path in files.items()} == {role: [] for role in files}


def test_dsrdump_and_dsr2html_read_the_reports(files: dict[str, Path], tmp_path: Path) -> None:
    for role in ("lesion_sr", "patient_sr"):
        dump = run("dsrdump", "-Ee", files[role])  # exit on any inconsistency
        assert dump.code == 0, dump.text
        assert not dump.lines("^E:")
        page = tmp_path / f"{role}.html"
        said = run("dsr2html", files[role], page)
        assert said.code == 0, said.text
        assert "Imaging Measurement Report" in page.read_text(errors="replace")


def test_highdicom_reads_groups_and_values(
    files: dict[str, Path], study: StudyInput, result: StudyResult
) -> None:
    # The short lists only: it takes milliseconds a value.
    content = render(study, result, context_of("core"))[0].content
    report = highdicom.sr.srread(io.BytesIO(content))
    wanted = {(a.tracking_uid, a.profile): a for a in result.lesions}
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert len(groups) == 12
    for group in groups:
        assert group.referenced_segment is not None
        lesion = wanted[group.tracking_uid, "henry2022"]
        selected = context_of().selected["henry2022"]
        names = [a for a in lesion.names if a in selected and a not in lesion.missing]
        values = [lesion.values[lesion.names.index(name)] for name in names]
        read = {
            (m[0].ContentSequence[1].TextValue, m.method.meaning): m.value
            for m in group.get_measurements()
            if m.method is not None
        }
        if lesion.excluded is None:
            assert [read[name, "henry2022"] for name in names] == values
    patient = highdicom.sr.srread(files["patient_sr"])
    # One a view, and one a lesion of this or the earlier study.
    assert len(patient.content.get_image_measurement_groups()) == 4 + len(result.changes)


def test_dcmqi_reads_every_value_on_its_lesion(
    files: dict[str, Path], result: StudyResult, tmp_path: Path
) -> None:
    groups = {g["TrackingUniqueIdentifier"]: g for g in tid1500(files["lesion_sr"], tmp_path)}
    assert set(groups) == {lesion.tracking_uid for lesion in result.lesions}
    for lesion in result.lesions:
        measured = groups[lesion.tracking_uid]["measurementItems"]
        numbers = [float(m["value"]) for m in measured]
        if lesion.excluded is not None:
            assert len(numbers) == 3  # volume, long axis, short axis
            continue
        assert numbers[0] == pytest.approx(lesion.volume_ml * 1000)
        wanted = [
            value
            for name, value in zip(lesion.names, lesion.values.tolist(), strict=True)
            if name not in lesion.missing and name.startswith("original_")
        ]
        start = 3 if lesion.profile == "henry2022" else len(numbers) - len(wanted)
        np.testing.assert_allclose(numbers[start : start + len(wanted)], wanted, rtol=1e-8)
    patient = tid1500(files["patient_sr"], tmp_path)
    numbers = {float(m["value"]) for group in patient for m in group["measurementItems"]}
    for measure in result.measures:
        if measure.value is not None:
            assert any(n == pytest.approx(measure.value, rel=1e-8) for n in numbers)


def test_dcmqi_decodes_the_masks(files: dict[str, Path], study: StudyInput, tmp_path: Path) -> None:
    said = dcmqi(
        "segimage2itkimage", "--inputDICOM", files["lesion_seg"], "--outputDirectory", tmp_path
    )
    assert said.code == 0, said.text
    for number, lesion in enumerate(study.lesions, start=1):
        image = SimpleITK.ReadImage(str(tmp_path / f"{number}.nrrd"))
        inside = np.argwhere(SimpleITK.GetArrayFromImage(image) > 0)
        assert len(inside) == lesion.mask.n_voxels
        read = sorted(image.TransformIndexToPhysicalPoint(i[::-1].tolist()) for i in inside)
        wanted = study.volume.geometry.to_lps(
            (np.argwhere(lesion.mask.values) + np.array(lesion.mask.start)).astype(float)
        )
        np.testing.assert_allclose(read, sorted(wanted.tolist()), atol=1e-4)


def test_pixelmed_finds_no_template_error_and_sees_a_broken_one(tmp_path: Path) -> None:
    study = phantom_study(tmp_path / "two", 2)
    paths = []
    for artifact in render(study, result_of(study), context_of("core")):
        if artifact.role.endswith("_sr"):
            paths.append(tmp_path / f"{artifact.role}.dcm")
            paths[-1].write_bytes(artifact.content)
    broken = tmp_path / "broken.dcm"
    report = pydicom.dcmread(paths[0])
    group = report.ContentSequence[-2].ContentSequence[-1].ContentSequence
    region = next(c for c in group if c.ConceptNameCodeSequence[0].CodeValue == "121191")
    group.remove(region)
    report.save_as(broken)
    said = pixelmed([*paths, broken])
    assert {path: said[path] for path in paths} == {path: [] for path in paths}
    assert said[broken]


def test_derived_measurements_pass_the_validators(
    study: StudyInput, result: StudyResult, tmp_path: Path
) -> None:
    context = context_of("core", extras=("derived_measurements",))
    path = tmp_path / "lesion_sr.dcm"
    path.write_bytes(render(study, result, context)[0].content)
    assert dciodvfy(path) == []
    assert run("dsrdump", "-Ee", path).code == 0
    assert len(tid1500(path, tmp_path)) == len(study.lesions)


def test_empty_frames_pass_dciodvfy(study: StudyInput, result: StudyResult, tmp_path: Path) -> None:
    # Label maps cannot be asked about: dciodvfy does not know their SOP class yet.
    for artifact in render(study, result, context_of("core", empty_frames=True)):
        path = tmp_path / f"{artifact.role}.dcm"
        path.write_bytes(artifact.content)
        assert dciodvfy(path) == []
