"""A corrected study and the running node, from C-STORE to the archive."""

import io
from collections import Counter
from pathlib import Path

import pytest
from pydicom import FileDataset, dcmread

from mirv.config.settings.network import Destination
from mirv.dicom_io.phantom.patient import Phantom, write_study
from mirv.service.catalogue import RunRow, RunState
from mirv.service.node.node import Node
from mirv.service.objects import corrections
from mirv.service.objects.corrections import Decision
from tests.integration.node import node as node_process
from tests.peers import Orthanc, orthanc, storescu, wait_until
from tests.service.node.test_node import running, settings

pytestmark = pytest.mark.peers

RIGHT = {"PatientID": "RIGHT-ID", "PatientName": "Right^Name", "PatientBirthDate": "19600101"}


def corrected(study: Phantom, **tags: str) -> None:
    """The archive's own correction: the same UIDs, other tags."""
    for path in study.files:
        ds = dcmread(path)
        for name, value in tags.items():
            setattr(ds, name, value)
        ds.save_as(path)


def current(node: Node, study_uid: str) -> RunRow:
    """The study's current run once it has finished and all is delivered."""

    def runs() -> list[RunRow]:
        return node.catalogue.runs.all(
            states=(RunState.FINISHED,), study_uid=study_uid, current=True
        )

    wait_until(runs, 120, "a run finishes")
    wait_until(lambda: not node.catalogue.deliveries.due(1e12), 60, "all is delivered")
    (run,) = runs()
    return run


def held(peer: Orthanc, study_uid: str) -> list[FileDataset]:
    """The results an archive has of a study."""
    found = peer.find("Instance", StudyInstanceUID=study_uid)
    return [dcmread(io.BytesIO(peer.file(one))) for one in found]


def test_a_corrected_study_is_delivered_anew_and_names_what_it_replaces(tmp_path: Path) -> None:
    """Moved to another study UID too: what it replaces is named in its own study."""
    made = write_study(tmp_path / "study", n_lesions=1, shape=(10, 64, 64), patient_id="WRONG-ID")
    study_uid, moved_uid = made.identity.study_uid, "2.25.99"
    with orthanc(tmp_path / "orthanc") as peer:
        destination = Destination(
            name="pacs", ae_title=peer.ae_title, host="127.0.0.1", port=peer.dicom_port
        )
        with running(settings(tmp_path / "node", destination)) as node:
            port = node.settings.listener.port
            assert storescu(port, [made.folder]).returncode == 0
            old = current(node, study_uid)
            before = {str(one.SOPInstanceUID) for one in held(peer, study_uid)}
            corrected(made, StudyInstanceUID=moved_uid, **RIGHT)
            said = storescu(port, [made.folder], "MIRV", "ARCHIVE", "-nh")
            assert Counter(row.state for row in node.catalogue.runs.all()) == {"finished": 1}
            found = corrections.look(node.spool, node.catalogue, study_uid)
            assert found is not None and len(found.rows) == len(made.files), said.stdout
            corrections.accept(node.spool, node.catalogue, [found], Decision("test", 1.8e9))
            new = current(node, moved_uid)
            assert (new.patient_id, new.predecessor) == ("RIGHT-ID", old.run_id)
            results = held(peer, moved_uid)
            assert {str(one.PatientID) for one in results} == {"RIGHT-ID"}
            assert {str(one.PatientBirthDate) for one in results} == {"19600101"}
            named = set()
            for one in results:
                for study in one.get("PredecessorDocumentsSequence", ()):
                    assert study.StudyInstanceUID == study_uid
                    for series in study.ReferencedSeriesSequence:
                        named |= {
                            ref.ReferencedSOPInstanceUID for ref in series.ReferencedSOPSequence
                        }
                for study in one.get("StudiesContainingOtherReferencedInstancesSequence", ()):
                    assert study.StudyInstanceUID == study_uid
                    for series in study.ReferencedSeriesSequence:
                        named |= {
                            ref.ReferencedSOPInstanceUID
                            for ref in series.ReferencedInstanceSequence
                        }
            assert named == before
            assert {row.attempts for row in node.catalogue.deliveries.all()} == {1}
            assert storescu(port, [made.folder]).returncode == 0  # the accepted is known
            assert held(peer, study_uid) and len(held(peer, study_uid)) == len(before)
        with running(settings(tmp_path / "node", destination)) as node:
            assert [run.run_id for run in node.catalogue.runs.all(current=True)] == [new.run_id]
            assert node.catalogue.corrections.studies() == []


def test_an_operator_corrects_a_name_at_a_node_that_is_killed(tmp_path: Path) -> None:
    """D22 of the findings: 0x0111, then `mirv corrections`; killed right after the command."""
    made = write_study(
        tmp_path / "study", n_lesions=1, shape=(10, 64, 64), patient_name="Wrong^Name"
    )
    study_uid = made.identity.study_uid
    with orthanc(tmp_path / "orthanc") as peer:
        pacs = {
            "name": "pacs", "ae_title": peer.ae_title, "host": "127.0.0.1", "port": peer.dicom_port,
        }  # fmt: skip
        with node_process(tmp_path / "mirv", [pacs], profiles=["henry2022"]) as process:
            assert storescu(process.port, [made.folder]).returncode == 0
            old = process.wait_for(study_uid)
            corrected(made, PatientName="Right^Name")
            for path in made.files:
                sent = storescu(process.port, [path])
                assert "Unknown Status: 0x111)" in sent.stderr
            listed = process.mirv("corrections", "list")
            assert study_uid in listed.stdout and "yes" in listed.stdout
            accepted = process.mirv("corrections", "accept", study_uid)
            assert accepted.returncode == 0, accepted.stderr
            process.kill()
            process.start()
            wait_until(
                lambda: any(run["predecessor"] == old["run_id"] for run in process.runs()),
                60,
                "the revision is queued",
            )
            new = process.wait_for(study_uid)
            assert new["predecessor"] == old["run_id"]
            assert process.mirv("doctor", "--thorough").returncode == 0
            secrets = ("Right^Name", "Wrong^Name")
            assert not [one for one in secrets if one in process.log() + process.metrics()]
        names = Counter(str(one.PatientName) for one in held(peer, study_uid))
        assert set(names) == {"Wrong^Name", "Right^Name"}
        assert len(set(names.values())) == 1, "each revision was sent whole, and once"
