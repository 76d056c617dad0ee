"""Outputs of real and realistic studies, read through the node's own front door.

Every tool that can say something about an object is asked about every object of every study.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import highdicom
import numpy as np
import pytest
import SimpleITK

from mirv.config.settings.processing import Reading
from mirv.dicom_io.files.header import read_header
from mirv.dicom_io.model import StudyInput
from mirv.dicom_io.outputs import render
from mirv.dicom_io.outputs.reports.own_report import read
from mirv.dicom_io.sr.checker import check_report
from mirv.dicom_io.study.assemble import assemble
from mirv.dicom_io.study.matching import match
from tests.conformance.validators import dciodvfy, dcmqi, pixelmed, run, tid1500
from tests.dicom_io.outputs.samples import PROFILES, context_of, result_of

pytestmark = [pytest.mark.shared, pytest.mark.peers]


@dataclass(frozen=True)
class Case:
    """Where a study lies, and how much of it goes into the lesion report.

    PixelMed's time grows with the square of a report's length, so the more lesions, the fewer
    features each.
    """

    places: tuple[str, ...]
    features: str
    n_lesions: int


STUDIES = {
    "ML12 baseline": Case(
        ("multilesion/ML12/baseline/CT", "multilesion/ML12/baseline/SEG_lesions.dcm"),
        "original", 12,
    ),
    "ML12 followup": Case(
        ("multilesion/ML12/followup/CT", "multilesion/ML12/followup/SEG_lesions.dcm"), "core", 12,
    ),
    "ML40": Case(
        ("multilesion/ML40/baseline/CT", "multilesion/ML40/baseline/SEG_lesions.dcm"), "core", 40,
    ),
    "STS_002, CT and RTSTRUCT": Case(("sts/STS_002/CT",), "original", 1),
    "STS_002, PET and RTSTRUCT": Case(("sts/STS_002/PET",), "original", 1),
    "one lesion, every feature": Case(("sts/STS_044/CT",), "all", 1),
}  # fmt: skip


@dataclass(frozen=True)
class Made:
    """A study and its outputs as files, by role."""

    study: StudyInput
    files: dict[str, Path]

    @property
    def reports(self) -> dict[str, Path]:
        """The structured reports."""
        return {role: path for role, path in self.files.items() if role.endswith("_sr")}


def _files(places: tuple[Path, ...]) -> Iterator[Path]:
    for place in places:
        if place.is_dir():
            yield from (path for path in sorted(place.rglob("*")) if path.suffix == ".dcm")
        elif place.exists():
            yield place
        else:
            pytest.fail(f"no {place}")


def _study(places: tuple[Path, ...]) -> StudyInput:
    paths = list(_files(places))
    headers = [read_header(path) for path in paths]
    of = {header.sop_instance_uid: path for header, path in zip(headers, paths, strict=True)}
    (selection,) = match(headers, Reading()).selections
    return assemble(selection, of.__getitem__, Reading())


@pytest.fixture(scope="module")
def all_made(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """Every output of every study; random values, missing ones too: no tool looks at sizes."""
    made = {}
    for name, case in STUDIES.items():
        study = _study(tuple(shared / place for place in case.places))
        folder = tmp_path_factory.mktemp("outputs")
        context = context_of(case.features, extras=("headline_sr", "report_pdf"))
        files = {}
        for artifact in render(study, result_of(study, PROFILES[:1]), context):
            files[artifact.role] = folder / f"{artifact.role}.dcm"
            files[artifact.role].write_bytes(artifact.content)
        made[name] = Made(study, files)
    return made


@pytest.fixture(params=list(STUDIES))
def made(request: pytest.FixtureRequest, all_made: dict[str, Made]) -> Made:
    """Each study in turn."""
    return all_made[request.param]


@pytest.fixture(scope="module")
def verdicts(all_made: dict[str, Made]) -> dict[Path, list[str]]:
    """What PixelMed says of every report of every study."""
    return pixelmed([path for made in all_made.values() for path in made.reports.values()])


def test_every_study_gives_every_output(all_made: dict[str, Made]) -> None:
    for name, case in STUDIES.items():
        assert len(all_made[name].study.lesions) == case.n_lesions
        assert len(all_made[name].files) == 5, name


def test_dciodvfy_finds_no_error(made: Made) -> None:
    for role, path in made.files.items():
        assert dciodvfy(path) == [], role


def test_pixelmed_finds_no_error(made: Made, verdicts: dict[Path, list[str]]) -> None:
    for role, path in made.reports.items():
        assert verdicts[path] == [], role


def test_own_checker_finds_no_fault(made: Made) -> None:
    for path in made.reports.values():
        assert [str(fault) for fault in check_report(path, [made.files["lesion_seg"]])] == []


def test_dcmtk_reads_every_report(made: Made, tmp_path: Path) -> None:
    for role, path in made.reports.items():
        assert run("dsrdump", "-Ee", path).code == 0, role
        page = tmp_path / f"{role}.html"
        said = run("dsr2html", path, page)
        assert said.code == 0, said.text
        assert "Imaging Measurement Report" in page.read_text(errors="replace")


def test_dcmqi_finds_every_lesion(made: Made, tmp_path: Path) -> None:
    groups = tid1500(made.files["lesion_sr"], tmp_path)
    uids = {lesion.tracking_uid for lesion in made.study.lesions}
    assert {group["TrackingUniqueIdentifier"] for group in groups} == uids
    assert tid1500(made.files["patient_sr"], tmp_path)
    said = dcmqi(
        "segimage2itkimage", "--inputDICOM", made.files["lesion_seg"], "--outputDirectory",
        tmp_path,
    )  # fmt: skip
    assert said.code == 0, said.text
    for number, lesion in enumerate(made.study.lesions, start=1):
        mask = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / f"{number}.nrrd")))
        assert np.count_nonzero(mask) == lesion.mask.n_voxels


def test_highdicom_finds_every_lesion(made: Made) -> None:
    uids = [lesion.tracking_uid for lesion in made.study.lesions]
    report = highdicom.sr.srread(made.files["lesion_sr"])
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_uid for group in groups] == uids
    assert all(group.referenced_segment is not None for group in groups)
    planar = highdicom.sr.srread(made.files["headline_sr"])
    drawn = planar.content.get_planar_roi_measurement_groups()
    assert [group.tracking_uid for group in drawn] == uids
    patient = highdicom.sr.srread(made.files["patient_sr"])
    assert patient.content.get_image_measurement_groups()
    seg = highdicom.seg.segread(io.BytesIO(made.files["lesion_seg"].read_bytes()))
    numbers = list(seg.segment_numbers)
    assert [seg.get_segment_description(n).tracking_uid for n in numbers] == uids
    images = [str(image.SOPInstanceUID) for image in made.study.evidence.images]
    pixels = seg.get_pixels_by_source_instance(
        images, combine_segments=True, assert_missing_frames_are_empty=True
    )
    counts = np.bincount(pixels.ravel(), minlength=len(uids) + 1)[1:]
    assert counts.tolist() == [lesion.mask.n_voxels for lesion in made.study.lesions]


def test_lesions_come_back_from_the_report(made: Made) -> None:
    content = read(made.files["lesion_sr"])
    assert [a.tracking_uid for a in content.lesions] == [a.tracking_uid for a in made.study.lesions]
    assert [a.site for a in content.lesions] == [a.site for a in made.study.lesions]
    assert content.segmentation_uids == {
        uid: source.segmentation_uid for uid, source in made.study.sources.items()
    }
