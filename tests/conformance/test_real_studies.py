"""Outputs of real and realistic studies, read through the node's own front door."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from config.settings import Reading
from dicom_io.assemble import assemble
from dicom_io.header import read_header
from dicom_io.matching import match
from dicom_io.model import Artifact, StudyInput
from dicom_io.outputs import render
from dicom_io.outputs.checker import check_report
from dicom_io.sr_read import read
from tests.conformance.validators import dciodvfy, dcmqi, run, tid1500
from tests.dicom_io.outputs.samples import PROFILES, context_of, result_of

pytestmark = [pytest.mark.shared, pytest.mark.peers]

STUDIES = {
    "ML12 baseline": ("multilesion/ML12/baseline/CT", "multilesion/ML12/baseline/SEG_lesions.dcm"),
    "ML12 followup": ("multilesion/ML12/followup/CT", "multilesion/ML12/followup/SEG_lesions.dcm"),
    "ML40": ("multilesion/ML40/baseline/CT", "multilesion/ML40/baseline/SEG_lesions.dcm"),
    "one lesion, CT and RTSTRUCT": ("sts/STS_002/CT",),
    "PET and RTSTRUCT": ("sts/STS_002/PET",),
}


def _files(places: tuple[Path, ...]) -> Iterator[Path]:
    for place in places:
        if place.is_dir():
            yield from (path for path in sorted(place.rglob("*")) if path.suffix == ".dcm")
        else:
            yield place


def _study(places: tuple[Path, ...]) -> StudyInput:
    paths = list(_files(places))
    headers = [read_header(path) for path in paths]
    of = {header.sop_instance_uid: path for header, path in zip(headers, paths, strict=True)}
    (selection,) = match(headers, Reading()).selections
    return assemble(selection, of.__getitem__, Reading())


@pytest.fixture(scope="module", params=list(STUDIES))
def study(request: pytest.FixtureRequest, shared: Path) -> StudyInput:
    """Each study in turn."""
    places = tuple(shared / place for place in STUDIES[request.param])
    for place in places:
        if not place.exists():
            pytest.fail(f"no {place}")
    return _study(places)


@pytest.fixture(scope="module")
def outputs(
    study: StudyInput, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Artifact, Path]]:
    """Every output with its file, by role; random values, since none is looked at here."""
    folder = tmp_path_factory.mktemp("outputs")
    context = context_of("original", extras=("headline_sr", "report_pdf"))
    made = {}
    for artifact in render(study, result_of(study, PROFILES[:1]), context):
        path = folder / f"{artifact.role}.dcm"
        path.write_bytes(artifact.content)
        made[artifact.role] = (artifact, path)
    return made


def test_every_output_is_clean(outputs: dict[str, tuple[Artifact, Path]]) -> None:
    assert len(outputs) == 5
    seg = outputs["lesion_seg"][1]
    for role, (_, path) in outputs.items():
        assert dciodvfy(path) == [], role
        if role.endswith("_sr"):
            assert [str(fault) for fault in check_report(path, [seg])] == []
            assert run("dsrdump", "-Ee", path).code == 0


def test_other_readers_find_every_lesion(
    study: StudyInput, outputs: dict[str, tuple[Artifact, Path]], tmp_path: Path
) -> None:
    groups = tid1500(outputs["lesion_sr"][1], tmp_path)
    uids = {lesion.tracking_uid for lesion in study.lesions}
    assert {group["TrackingUniqueIdentifier"] for group in groups} == uids
    said = dcmqi(
        "segimage2itkimage", "--inputDICOM", outputs["lesion_seg"][1], "--outputDirectory", tmp_path
    )
    assert said.code == 0, said.text
    for number, lesion in enumerate(study.lesions, start=1):
        mask = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / f"{number}.nrrd")))
        assert np.count_nonzero(mask) == lesion.mask.n_voxels


def test_lesions_come_back_from_the_report(
    study: StudyInput, outputs: dict[str, tuple[Artifact, Path]]
) -> None:
    content = read(outputs["lesion_sr"][1])
    assert [a.tracking_uid for a in content.lesions] == [a.tracking_uid for a in study.lesions]
    assert [a.site for a in content.lesions] == [a.site for a in study.lesions]
    assert content.segmentation_uids == {
        uid: source.segmentation_uid for uid, source in study.sources.items()
    }
