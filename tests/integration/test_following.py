"""A node that follows an Orthanc and is killed in the middle: one result, sent back, no loop."""

from pathlib import Path

import pytest

from mirv.dicom_io.phantom import patient
from tests.integration.node import node
from tests.peers import orthanc, wait_until


@pytest.mark.peers
def test_a_killed_node_goes_on_where_it_was_and_its_results_start_nothing(tmp_path: Path) -> None:
    made = patient.write_study(tmp_path / "study", n_lesions=1, shape=(20, 64, 64))
    assert made.seg is not None
    study = made.identity.study_uid
    with orthanc(tmp_path / "orthanc") as peer:
        here = {"name": "pacs", "url": peer.url, "user": "tester", "password": "tester"}
        peer.upload(made.ct[:10])
        with node(
            tmp_path / "mirv",
            [{**here, "method": "orthanc", "commitment": "required"}],
            follow=[{**here, "on": "new_instance", "begin": "beginning", "poll_s": 0.2}],
            profiles=["henry2022"],
            outputs={"extras": []},
        ) as running:
            wait_until(lambda: running.api("studies"), 30, "the first object comes", 0.01)
            running.kill()
            peer.upload([*made.ct[10:], made.seg])
            running.start()
            run = running.wait_for(study)
            assert run["state"] == "finished"
            results = running.api("deliveries")
            assert {(row["state"], row["commitment"]) for row in results} == {
                ("delivered", "committed")
            }
            last = peer.http.get("/changes?last").json()["Last"]
            wait_until(
                lambda: f'mirv_follow_position{{source="pacs"}} {last}.0' in running.metrics(),
                20,
                "the node has seen its own results",
            )
            (study_row,) = running.api("studies")
            own = [row for row in results if row["role"] == "lesion_seg"]
            assert study_row["n_instances"] == len(made.ct) + 1 + len(own)
            assert len(running.runs(study_uid=study)) == 1
