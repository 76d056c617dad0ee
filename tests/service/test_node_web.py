"""The running node and its peers over HTTP: delivered, looked up, found out."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from config.settings import Delivery, WebDestination
from dicom_io import phantom
from tests.peers import orthanc, storescu, wait_until
from tests.service.http_peer import archive
from tests.service.test_node import running, settings


@pytest.mark.peers
def test_results_are_delivered_over_http_and_one_that_forgets_is_found_out(tmp_path: Path) -> None:
    made = phantom.write_study(tmp_path / "study", n_lesions=1, shape=(10, 64, 64))
    with orthanc(tmp_path / "orthanc") as peer, archive() as forgetful:
        forgetful.body = b"[]"  # stored, it says; of what is looked up it knows nothing
        known = {"user": "tester", "password": SecretStr("tester")}
        wanted = settings(tmp_path / "node").model_copy(
            update={
                "delivery": Delivery(first_retry_s=0.1, longest_retry_s=0.2, max_attempts=2),
                "destinations": (
                    WebDestination(
                        name="stow",
                        method="stow-rs",
                        url=f"{peer.url}/dicom-web",
                        commitment="required",
                        **known,  # type: ignore[arg-type]
                    ),
                    WebDestination(
                        name="rest",
                        method="orthanc",
                        url=peer.url,
                        commitment="wanted",
                        **known,  # type: ignore[arg-type]
                    ),
                    WebDestination(
                        name="forgets",
                        method="stow-rs",
                        url=f"http://127.0.0.1:{forgetful.server_port}",
                        commitment="required",
                    ),
                ),
            }
        )
        with running(wanted) as node:
            storescu(node.settings.listener.port, [made.folder], "MIRV", "CT", "-R")
            deliveries = node.store.deliveries
            wait_until(lambda: node.store.runs.all(states=("finished",)), 120, "the run finishes")
            wait_until(lambda: not deliveries.all(state="waiting"), 60, "all deliveries end")
            rows = deliveries.all()
            ends = {(row.destination, row.state, row.commitment) for row in rows}
            assert ends == {
                ("stow", "delivered", "committed"),
                ("rest", "delivered", "committed"),
                ("forgets", "parked", "refused"),
            }
            held = peer.find("Instance", StudyInstanceUID=made.identity.study_uid)
            assert len(held) == len(rows) / 3
            stored = [path for path, _ in forgetful.heard if path == "/studies"]
            assert len(stored) == 2 * len(held)
