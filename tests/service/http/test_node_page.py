"""The running node and other peers: results over HTTP, images and earlier studies fetched."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from mirv.config.settings.keeping import Delivery
from mirv.config.settings.network import WebDestination
from mirv.config.settings.processing import Outputs, Priors
from mirv.dicom_io.phantom import patient
from mirv.service.catalogue import DeliveryState, EventKind, RunState
from tests.peers import orthanc, storescu, wait_until
from tests.service.http_peer import archive
from tests.service.node.test_node import running, settings
from tests.service.peers.sources.test_fetch import source
from tests.service.work.test_priors_fetching import born


@pytest.mark.peers
def test_results_are_delivered_over_http_and_one_that_forgets_is_found_out(tmp_path: Path) -> None:
    made = patient.write_study(tmp_path / "study", n_lesions=1, shape=(10, 64, 64))
    with orthanc(tmp_path / "orthanc") as peer, archive() as forgetful:
        forgetful.body_of["/studies"] = b""  # stored, it says
        forgetful.body = b"[]"  # and of what is looked up it knows nothing
        known = {"user": "tester", "password": SecretStr("tester")}
        wanted = settings(tmp_path / "node").model_copy(
            update={
                "outputs": Outputs(extras=()),
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
            deliveries = node.catalogue.deliveries
            wait_until(
                lambda: node.catalogue.runs.all(states=(RunState.FINISHED,)),
                120,
                "the run finishes",
            )
            wait_until(
                lambda: not deliveries.all(state=DeliveryState.WAITING), 60, "all deliveries end"
            )
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


@pytest.mark.peers
@pytest.mark.parametrize("method", ["dicomweb", "c-get", "c-move"])
def test_a_segmentation_alone_gets_its_images_and_the_study_before(
    tmp_path: Path, method: str
) -> None:
    """Three studies at the source, 90 days apart: the last one's segmentation comes to the node.

    Its images are fetched, and the study before; not the one before that, though it lies in the
    window of the second.
    """
    made = [born("P1", time_point, tmp_path / str(time_point)) for time_point in range(3)]
    before, last = made[1:]
    wanted = settings(tmp_path / "node").model_copy(update={"outputs": Outputs(extras=())})
    port = wanted.listener.port
    with orthanc(tmp_path / "orthanc", {"NODE": ("MIRV", port)}) as peer:
        peer.upload([path for one in made for path in one.files])
        wanted = wanted.model_copy(
            update={"sources": (source(peer, method),), "priors": Priors(), "fetch_again_s": 2}
        )
        with running(wanted) as node:
            assert last.seg is not None
            assert storescu(port, [last.seg], "MIRV", "VIEWER").returncode == 0

            def compared() -> bool:
                found = node.catalogue.runs.all(
                    states=(RunState.FINISHED,), study_uid=last.identity.study_uid, current=True
                )
                return bool(found and found[0].prior)

            wait_until(compared, 120, "the last study is compared with the one before")
            (prior,) = node.catalogue.runs.all(study_uid=before.identity.study_uid)
            (current,) = node.catalogue.runs.all(study_uid=last.identity.study_uid, current=True)
            assert current.prior == prior.run_id
            assert current.predecessor is not None
            assert len(node.catalogue.studies.all()) == 2
            found = node.catalogue.events.all(kind=EventKind.PRIOR_FOUND)
            assert [event.study_uid for event in found] == [before.identity.study_uid]
