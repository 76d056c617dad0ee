"""Real peers as processes on loopback: Orthanc, DCMTK tools. Each stops with its context."""

import json
import os
import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

# Without TCP_NODELAY every object of a DCMTK-based process stalls 45 ms.
PEER_ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}
ORTHANC = "/usr/sbin/Orthanc"
DICOMWEB_PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"


def free_port() -> int:
    """A TCP port nobody listens on, below those the system gives to outgoing connections."""
    while True:
        port = random.SystemRandom().randrange(15000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def wait_until(
    condition: Callable[[], Any], seconds: float = 60, what: str = "", every: float = 0.1
) -> Any:
    """Poll until `condition` is true; its value. Fails by name when it never is."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(every)
    raise AssertionError(f"not within {seconds} s: {what or condition}")


@dataclass
class Orthanc:
    """A running Orthanc.

    Attributes
    ----------
    url, dicom_port, ae_title
    """

    url: str
    dicom_port: int
    ae_title: str

    def __post_init__(self) -> None:
        # Identity: Orthanc would otherwise compress every CT, many times slower.
        self.http = httpx.Client(
            base_url=self.url,
            auth=("tester", "tester"),
            headers={"Accept-Encoding": "identity"},
            timeout=60,
            trust_env=False,
        )

    def upload(self, paths: Sequence[Path]) -> None:
        """POST files to /instances."""
        for path in paths:
            self.http.post("/instances", content=path.read_bytes()).raise_for_status()

    def send_to(self, modality: str, study_uid: str) -> None:
        """Send a study by C-STORE; never Permissive, which hides failures."""
        (study,) = self.find("Study", StudyInstanceUID=study_uid)
        answer = self.http.post(
            f"/modalities/{modality}/store", json={"Resources": [study], "Synchronous": True}
        )
        answer.raise_for_status()

    def send_and_ask(self, modality: str, study_uid: str) -> str:
        """Send a study by C-STORE and ask for its storage commitment; the transaction's UID."""
        (study,) = self.find("Study", StudyInstanceUID=study_uid)
        wanted = {"Resources": [study], "StorageCommitment": True, "Synchronous": True}
        answer = self.http.post(f"/modalities/{modality}/store", json=wanted)
        answer.raise_for_status()
        return str(answer.json()["StorageCommitmentTransactionUID"])

    def commitment(self, transaction_uid: str) -> dict[str, Any]:
        """What it was told about a transaction."""
        answer = self.http.get(f"/storage-commitment/{transaction_uid}")
        answer.raise_for_status()
        return dict(answer.json())

    def find(self, level: str, **query: str) -> list[str]:
        """Orthanc ids by DICOM tags."""
        answer = self.http.post("/tools/find", json={"Level": level, "Query": query})
        answer.raise_for_status()
        return list(answer.json())

    def instances_of(self, study_uid: str, sop_class: str) -> list[str]:
        """Orthanc ids of the study's instances of one SOP class."""
        return self.find("Instance", StudyInstanceUID=study_uid, SOPClassUID=sop_class)

    def file(self, instance: str) -> bytes:
        """The DICOM file of an instance."""
        answer = self.http.get(f"/instances/{instance}/file")
        answer.raise_for_status()
        return answer.content


@contextmanager
def orthanc(
    folder: Path, modalities: dict[str, tuple[str, int]] | None = None, **settings: Any
) -> Iterator[Orthanc]:
    """Run an Orthanc with its storage in `folder`.

    Parameters
    ----------
    modalities : mapping of name to (AE title, port on loopback)
    settings : further entries of its configuration
    """
    folder.mkdir(parents=True, exist_ok=True)
    http_port, dicom_port = free_port(), free_port()
    config: dict[str, Any] = {
        "Name": "PEER",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": http_port,
        "DicomPort": dicom_port,
        "DicomAet": "ORTHANC",
        "AuthenticationEnabled": True,
        "RegisteredUsers": {"tester": "tester"},
        "UnknownSopClassAccepted": True,
        "OverwriteInstances": False,
        "StableAge": 1,
        "DicomModalities": {
            name: {"AET": aet, "Host": "127.0.0.1", "Port": port, "AllowStorageCommitment": True}
            for name, (aet, port) in (modalities or {}).items()
        },
        "Plugins": [DICOMWEB_PLUGIN],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        **settings,
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen(
            [ORTHANC, str(path)], stdout=log, stderr=log, env=PEER_ENVIRONMENT
        )
        peer = Orthanc(f"http://127.0.0.1:{config['HttpPort']}", config["DicomPort"], "ORTHANC")
        try:
            wait_until(lambda: _answers(peer), 30, "Orthanc answers")
            yield peer
        finally:
            peer.http.close()
            stop(process)


def _answers(peer: Orthanc) -> bool:
    try:
        return peer.http.get("/system").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def stop(process: "subprocess.Popen[bytes]", seconds: float = 20) -> int:
    """Terminate a process, kill it when it does not listen; its exit code."""
    process.terminate()
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(10)


def storescu(
    port: int, paths: Sequence[Path], called: str = "MIRV", calling: str = "STORESCU", *more: str
) -> "subprocess.CompletedProcess[str]":
    """Send files and folders with DCMTK, proposing what the files need (-R)."""
    return subprocess.run(
        [
            "storescu", "-v", "-R", "-aec", called, "-aet", calling, "+sd", "+r", *more,
            "127.0.0.1", str(port), *map(str, paths),
        ],
        env=PEER_ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )  # fmt: skip
