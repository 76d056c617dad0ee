"""A real PACS takes every object into the study of the images, once, and finds it again."""

import io
from pathlib import Path

import pydicom
import pytest

from dicom_io.outputs import render
from dicom_io.phantom import write_study
from tests.dicom_io.outputs.samples import PROFILES, context_of, result_of, study_of
from tests.peers import orthanc

pytestmark = pytest.mark.peers


def test_orthanc_finds_every_object_in_the_study_and_doubles_nothing(tmp_path: Path) -> None:
    phantom = write_study(tmp_path / "study", n_lesions=3)
    study = study_of(phantom)
    context = context_of("core", extras=("headline_sr", "report_pdf"))
    artifacts = render(study, result_of(study, PROFILES[:1]), context)
    files = []
    for artifact in artifacts:
        files.append(tmp_path / f"{artifact.role}.dcm")
        files[-1].write_bytes(artifact.content)
    study_uid = phantom.identity.study_uid
    with orthanc(tmp_path / "orthanc") as pacs:
        pacs.upload([*phantom.ct, *files])
        for _ in range(2):  # sent again, nothing doubles
            pacs.upload(files)
            for artifact in artifacts:
                (one,) = pacs.find("Instance", SOPInstanceUID=artifact.sop_instance_uid)
                tags = pacs.http.get(f"/instances/{one}/simplified-tags").json()
                assert tags["StudyInstanceUID"] == study_uid
                assert tags["SeriesInstanceUID"] == artifact.series_instance_uid
                assert pacs.file(one) == artifact.content
        series = f"/dicom-web/studies/{study_uid}/series/{artifacts[0].series_instance_uid}"
        found = pacs.http.get(f"{series}/instances").json()
        assert [row["00080018"]["Value"][0] for row in found] == [artifacts[0].sop_instance_uid]
        answer = pacs.http.get(
            f"/dicom-web/studies/{study_uid}/series/{artifacts[2].series_instance_uid}"
            f"/instances/{artifacts[2].sop_instance_uid}/metadata"
        )
        assert len(answer.json()[0]["00620002"]["Value"]) == len(study.lesions)
    assert pydicom.dcmread(io.BytesIO(artifacts[2].content)).Modality == "SEG"
