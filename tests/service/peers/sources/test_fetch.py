"""A segmentation that arrived alone finds its images: DICOMweb, C-GET and C-MOVE from Orthanc."""

import contextlib
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from pydicom import dcmread

from mirv.analysis.errors import PeerRefused, Transient
from mirv.config.settings.network import Source
from mirv.config.settings.processing import Reading
from mirv.dicom_io.phantom import patient
from mirv.service.objects.intake import Intake
from mirv.service.peers.sources.fetch import Address, fetch_instance, fetch_series
from mirv.service.study.plan import Plan
from mirv.service.work.schedule.scheduler import Rules, Scheduler, Starters
from tests.peers import Orthanc, free_port, orthanc
from tests.service.http_peer import archive
from tests.service.wire import Serving, serving


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> patient.Phantom:
    return patient.write_study(tmp_path_factory.mktemp("study"), n_lesions=1, shape=(10, 64, 64))


@pytest.fixture(scope="module")
def peers(
    tmp_path_factory: pytest.TempPathFactory, study: patient.Phantom
) -> Iterator[tuple[Serving, Orthanc]]:
    folder = tmp_path_factory.mktemp("peers")
    with (
        serving(folder / "node") as node,
        orthanc(folder / "orthanc", {"NODE": ("MIRV", node.port)}) as peer,
    ):
        peer.upload(study.ct)
        yield node, peer


def source(peer: Orthanc, method: str) -> Source:
    if method == "dicomweb":
        return Source(
            name="pacs",
            method="dicomweb",
            url=f"{peer.url}/dicom-web",
            user="tester",
            password=SecretStr("tester"),
        )
    return Source.model_validate(
        {
            "name": "pacs",
            "method": method,
            "ae_title": "ORTHANC",
            "host": "127.0.0.1",
            "port": peer.dicom_port,
        }
    )


@pytest.mark.peers
@pytest.mark.parametrize("method", ["dicomweb", "c-get", "c-move"])
def test_images_are_fetched_by_each_method(
    peers: tuple[Serving, Orthanc], study: patient.Phantom, tmp_path: Path, method: str
) -> None:
    asked_node, peer = peers
    with serving(tmp_path) as own:
        # C-MOVE goes to the listener Orthanc knows; the others to whoever asks.
        node = asked_node if method == "c-move" else own
        intake = Intake(node.spool, node.store)
        assert study.seg is not None
        intake.take(study.seg.read_bytes(), "test")
        plan = Plan(profiles=(), spaces=(), reading=Reading())
        scheduler = Scheduler(
            node.store, plan, Rules(0), Starters(lambda _run: None, lambda *_: None)
        )
        assert scheduler.tick(2e9) == 0
        ((series_uid, study_uid),) = node.store.studies.missing_series()
        taken: list[bytes] = []

        def take(content: bytes) -> None:
            taken.append(content)
            assert intake.take(content, "fetch:pacs").verdict == "stored"

        number = fetch_series(source(peer, method), study_uid, series_uid, "MIRV", take)
        assert number == len(study.ct)
        assert len(taken) == (0 if method == "c-move" else len(study.ct))
        assert node.store.studies.missing_series() == []
        assert scheduler.tick(2e9) == 1


@pytest.mark.peers
@pytest.mark.parametrize("method", ["dicomweb", "c-get", "c-move"])
def test_what_a_source_does_not_have_is_no_fault(
    peers: tuple[Serving, Orthanc], method: str
) -> None:
    assert fetch_series(source(peers[1], method), "1.2", "1.2.3.4", "MIRV", _never) == 0


@pytest.mark.peers
@pytest.mark.parametrize("method", ["dicomweb", "c-get"])
def test_one_object_is_fetched_alone(
    peers: tuple[Serving, Orthanc], study: patient.Phantom, method: str
) -> None:
    ds = dcmread(study.ct[4], stop_before_pixels=True)
    place = Address(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID)
    came: list[bytes] = []
    assert fetch_instance(source(peers[1], method), place, "MIRV", came.append) == 1
    assert [dcmread(BytesIO(one)).SOPInstanceUID for one in came] == [ds.SOPInstanceUID]


def test_of_two_studies_with_one_series_uid_the_one_asked_for_is_fetched() -> None:
    tag = "0020000D"
    with archive() as server:
        server.body_of["/dicom-web/series"] = json.dumps(
            [{tag: {"Value": [uid]}} for uid in ("1.1", "1.2")]
        ).encode()
        peer = Orthanc(f"http://127.0.0.1:{server.server_port}", 1, "ORTHANC")
        peer.http.close()
        with pytest.raises(Transient):  # it answers no multipart
            fetch_series(source(peer, "dicomweb"), "1.2", "1.2.3", "MIRV", _never)
        assert server.heard[-1][0] == "/dicom-web/studies/1.2/series/1.2.3"


@pytest.mark.parametrize("method", ["dicomweb", "c-get"])
def test_a_source_that_is_down_is_asked_again(method: str) -> None:
    nobody = Orthanc(f"http://127.0.0.1:{free_port()}", free_port(), "ORTHANC")
    with pytest.raises(Transient, match="pacs"):
        fetch_series(source(nobody, method), "1.2", "1.2.3.4", "MIRV", _never)
    nobody.http.close()


@pytest.mark.peers
def test_what_is_too_large_is_not_taken_by_c_get(
    peers: tuple[Serving, Orthanc], study: patient.Phantom
) -> None:
    ds = dcmread(study.ct[0], stop_before_pixels=True)
    wanted = (ds.StudyInstanceUID, ds.SeriesInstanceUID, "MIRV")
    taken: list[bytes] = []
    with contextlib.suppress(PeerRefused):  # what the source makes of it is its own affair
        fetch_series(source(peers[1], "c-get"), *wanted, taken.append, 1000)
    assert taken == []
    assert fetch_series(source(peers[1], "c-get"), *wanted, taken.append, 4 << 20) == len(study.ct)
    assert len(taken) == len(study.ct)


def test_settings_say_what_a_method_lacks() -> None:
    with pytest.raises(ValidationError, match="wants ae_title, host, port"):
        Source(name="pacs", method="c-get")
    with pytest.raises(ValidationError, match="wants url"):
        Source(name="pacs", method="dicomweb")


def _never(_content: bytes) -> None:
    raise AssertionError("nothing was to come")
