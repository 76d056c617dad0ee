"""The container files, checked as far as it goes without a container engine."""

import json
import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydicom import dcmread
from sqlalchemy import make_url

from mirv.config.settings import load_settings
from mirv.config.settings.network import Listener as ListenerSettings
from mirv.dicom_io.phantom import patient
from mirv.service.catalogue import Catalogue, sqlite_url
from mirv.service.inbound.listener import Listener
from mirv.service.node.worker import Worker
from mirv.service.objects.spool import Spool
from tests.installing import built, wanted_files
from tests.peers import Orthanc, free_port, orthanc, wait_until

FOLDER = Path(__file__).parents[2] / "docker"


def compose(name: str) -> dict[str, Any]:
    loaded = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("compose*.yaml")))
def test_compose_refers_to_what_is_there(name: str) -> None:
    content = compose(name)
    for service in content["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (FOLDER / source).is_file(), source
            else:
                assert source in content["volumes"], source
        if "build" in service:
            assert (FOLDER / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        for other in service.get("depends_on", {}):
            assert other in content["services"]


def test_dockerfile_copies_what_is_there_and_serves_without_root() -> None:
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    allowed = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for source in sources.split():
            assert (FOLDER.parent / source.removeprefix("./")).exists(), source
            assert f"!{source}" in allowed, source
    last_stage = text[text.rindex("\nFROM ") :]
    assert re.search(r"^USER (?!root|0)\w+$", last_stage, re.MULTILINE)
    assert "HEALTHCHECK" in last_stage


def test_what_the_image_is_built_from_makes_the_whole_package(tmp_path: Path) -> None:
    """As the engine does it: of the context what is not ignored, of that what is copied."""
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    never = [line.removeprefix("**/") for line in ignored if line.startswith("**/")]
    assert set(never) == {"__pycache__", "*.egg-info", "*.so"}
    build = tmp_path / "build"
    build.mkdir()
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    for sources, target in re.findall(r"^COPY (?!--from)(.+) (\S+)$", text, re.MULTILINE):
        for source in sources.split():
            assert f"!{source}" in ignored, source
            place = FOLDER.parent / source
            if place.is_dir():
                without = shutil.ignore_patterns(*never)
                shutil.copytree(place, build / target, symlinks=True, ignore=without)
            else:
                shutil.copy(place, build / target)
    wheel = built(build, tmp_path / "dist", "--wheel")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert wanted_files() <= names
    assert any(name.startswith("mirv/analysis/features/_texture.") for name in names)
    entry_points = next(name for name in names if name.endswith("entry_points.txt"))
    (command,) = re.findall(r'^ENTRYPOINT \["(\w+)"\]$', text, re.MULTILINE)
    with zipfile.ZipFile(wheel) as archive:
        assert f"{command} = mirv." in archive.read(entry_points).decode()


def test_node_settings_load_and_fit_orthanc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRV_HTTP__PASSWORD", "secret")
    settings = load_settings(FOLDER / "mirv.yaml")
    peer = json.loads((FOLDER / "orthanc.json").read_text(encoding="utf-8"))
    services = compose("compose.yaml")["services"]
    node = peer["DicomModalities"]["node"]
    assert (node["AET"], node["Port"]) == (settings.listener.ae_title, settings.listener.port)
    assert node["Host"] in services
    (destination,) = settings.destinations
    assert (destination.ae_title, destination.port) == (peer["DicomAet"], peer["DicomPort"])
    assert destination.host in services
    assert [rule.ae_title for rule in settings.listener.allow] == [peer["DicomAet"]]


def test_cluster_workers_share_databases_and_spool_with_the_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The environment as compose gives it makes a node and workers that belong together."""
    content = compose("compose.cluster.yaml")
    services = content["services"]
    node, worker, database = services["node"], services["worker"], services["postgres"]
    assert node["environment"] == worker["environment"]
    assert node["volumes"] == worker["volumes"]
    assert not set(worker) & {"ports", "container_name"}, "several could not start"
    assert int(_substituted(worker["deploy"]["replicas"], {})) > 1
    secrets = {"MIRV_HTTP__PASSWORD": "page", "POSTGRES_PASSWORD": "books"}
    for name, value in node["environment"].items():
        monkeypatch.setenv(name, _substituted(value, secrets))
    settings = load_settings(FOLDER / "mirv.yaml")
    assert settings.http.password is not None
    assert settings.http.password.get_secret_value() == "page"
    made = {database["environment"]["POSTGRES_DB"]}
    made |= set(re.findall(r"CREATE DATABASE (\w+)", (FOLDER / "postgres-init.sql").read_text()))
    for url in (settings.database_url, settings.workflow_database_url):
        parsed = make_url(url or "")
        assert (parsed.host, parsed.username, parsed.password) == (
            "postgres",
            database["environment"]["POSTGRES_USER"],
            "books",
        )
        assert parsed.database in made
    assert settings.database_url != settings.workflow_database_url
    mounted = {volume.split(":")[1] for volume in worker["volumes"]}
    assert str(settings.folder) in mounted
    assert Worker(settings).settings is settings
    for service in (node, worker):
        command, *arguments = service["command"]
        assert command in {"serve", "worker"}
        assert arguments == ["--config", "/etc/mirv.yaml"]


def _substituted(text: str, environment: dict[str, str]) -> str:
    """Compose's substitution of ${NAME}, ${NAME:-default} and ${NAME:?fault}."""

    def value(found: re.Match[str]) -> str:
        name, _, rest = found[1].partition(":")
        if name not in environment and not rest.startswith("-"):
            raise AssertionError(f"{name} is not set: {rest}")
        return environment.get(name, rest[1:])

    return re.sub(r"\$\{([^}]+)\}", value, text)


@pytest.mark.peers
def test_orthanc_forwards_images_and_segmentations_but_no_own_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration as it is, but for folders, ports and the waiting time."""
    port = free_port()
    wanted = json.loads((FOLDER / "orthanc.json").read_text(encoding="utf-8"))
    node = {**wanted.pop("DicomModalities")["node"], "Host": "127.0.0.1", "Port": port}
    for replaced in ("StorageDirectory", "IndexDirectory", "HttpPort", "DicomPort"):
        del wanted[replaced]
    wanted |= {"StableAge": 1, "LuaScripts": [str(FOLDER / "forward.lua")]}
    wanted["DicomModalities"] = {"node": node}
    monkeypatch.setitem(os.environ, "ORTHANC_PASSWORD", "tester")
    monkeypatch.setattr("tests.peers.PEER_ENVIRONMENT", {**os.environ, "TCP_NODELAY": "1"})
    wanted["RegisteredUsers"] = {"tester": wanted["RegisteredUsers"]["mirv"]}

    made = patient.write_study(tmp_path / "study", n_lesions=2)
    assert made.seg is not None
    own_path = _own_segmentation(made.seg, tmp_path / "own.dcm")
    files = [*made.ct, made.seg]
    store = Catalogue(sqlite_url(tmp_path / "catalogue.sqlite"))
    listener = Listener(ListenerSettings(port=port), Spool(tmp_path / "spool"), store)
    listener.start()
    try:
        with orthanc(tmp_path / "orthanc", **wanted) as peer:
            peer.upload([*files, own_path])
            wait_until(lambda: _jobs(peer) == ["Success"], 60, "Orthanc forwards the study")
        (study,) = store.studies.all()
        assert study.study_uid == made.identity.study_uid
        assert study.n_instances == len(files)
    finally:
        listener.stop()
        store.close()


def _jobs(peer: Orthanc) -> list[str]:
    return [job["State"] for job in peer.http.get("/jobs", params={"expand": ""}).json()]


def _own_segmentation(path: Path, copy: Path) -> Path:
    ds = dcmread(path)
    ds.Manufacturer = "mirv-node"
    ds.SeriesInstanceUID = "2.25.1"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "2.25.2"
    ds.save_as(copy)
    return copy
