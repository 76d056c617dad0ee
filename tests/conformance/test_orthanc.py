"""A real PACS takes every kind of object into the study of the images, once, and finds it again."""

from pathlib import Path

import pydicom
import pytest

from mirv.config.settings.network import Destination
from mirv.dicom_io.model import Artifact
from mirv.dicom_io.outputs import OUTPUTS, render
from mirv.dicom_io.phantom.patient import Phantom, write_study
from mirv.service.peers.destinations.c_store import send
from mirv.service.peers.destinations.outcome import Outgoing
from tests.dicom_io.outputs.samples import PROFILES, context_of, result_of, study_of
from tests.peers import Orthanc, orthanc

pytestmark = pytest.mark.peers


def _artifacts(phantom: Phantom) -> list[Artifact]:
    """Every output, the segmentation as label map too (another run's)."""
    study = study_of(phantom)
    result = result_of(study, PROFILES[:1])
    extras = ("headline_sr", "report_pdf", "report_sc")
    context = context_of("core", extras=extras)
    labelled = context_of("core", extras=(), segmentation="LABELMAP", run_digest="e" * 64)
    return [*render(study, result, context), *render(study, result, labelled)]


def _in_study(pacs: Orthanc, study_uid: str) -> list[str]:
    """SOP Instance UIDs of the study, by QIDO-RS."""
    answer = pacs.http.get(f"/dicom-web/studies/{study_uid}/instances", params={"limit": 500})
    return [row["00080018"]["Value"][0] for row in answer.json()]


def test_orthanc_finds_every_object_in_the_study_and_doubles_nothing(tmp_path: Path) -> None:
    phantom = write_study(tmp_path / "study", n_lesions=3)
    artifacts = _artifacts(phantom)
    assert {one.role for one in artifacts} == {output.role.name for output in OUTPUTS}
    files = []
    for number, artifact in enumerate(artifacts):
        files.append(tmp_path / f"{number}.dcm")
        files[-1].write_bytes(artifact.content)
    study_uid = phantom.identity.study_uid
    images = [str(pydicom.dcmread(path).SOPInstanceUID) for path in phantom.ct]
    with orthanc(tmp_path / "orthanc") as pacs:
        pacs.upload(phantom.ct)
        destination = Destination(
            name="pacs", ae_title=pacs.ae_title, host="127.0.0.1", port=pacs.dicom_port
        )
        outgoing = [
            Outgoing(number, artifact.sop_class_uid, path)
            for number, (artifact, path) in enumerate(zip(artifacts, files, strict=True))
        ]
        for _ in range(2):  # sent again as the node sends, nothing doubles
            assert {one.verdict for one in send(destination, outgoing, "MIRV")} == {"delivered"}
            wanted = [*images, *(one.sop_instance_uid for one in artifacts)]
            assert sorted(_in_study(pacs, study_uid)) == sorted(wanted)
            for artifact in artifacts:
                _assert_found(pacs, study_uid, artifact)


def _assert_found(pacs: Orthanc, study_uid: str, artifact: Artifact) -> None:
    (one,) = pacs.find("Instance", SOPInstanceUID=artifact.sop_instance_uid)
    tags = pacs.http.get(f"/instances/{one}/simplified-tags").json()
    assert tags["StudyInstanceUID"] == study_uid
    assert tags["SeriesInstanceUID"] == artifact.series_instance_uid
    assert tags["SOPClassUID"] == artifact.sop_class_uid
    assert _data_set(pacs.file(one)) == _data_set(artifact.content)
    # QIDO-RS: its series is one of the study's and holds this object alone.
    series = f"/dicom-web/studies/{study_uid}/series/{artifact.series_instance_uid}"
    found = pacs.http.get(f"{series}/instances").json()
    assert [row["00080018"]["Value"][0] for row in found] == [artifact.sop_instance_uid]
    # WADO-RS: its tags, and the object itself, byte for byte.
    instance = f"{series}/instances/{artifact.sop_instance_uid}"
    metadata = pacs.http.get(f"{instance}/metadata").json()[0]
    assert metadata["00080016"]["Value"] == [artifact.sop_class_uid]
    wanted = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    assert _data_set(artifact.content) in pacs.http.get(instance, headers=wanted).content


def _data_set(content: bytes) -> bytes:
    """What follows the file meta information, which is the archive's own (PS3.10 7.1)."""
    return content[144 + int.from_bytes(content[140:144], "little") :]
