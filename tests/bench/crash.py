"""The crash test: studies stream in while the node is killed at random; then everything is counted.

``python -m tests.bench.crash [studies] [kills]`` runs it at full size (60 and 200).
"""

import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydicom import dcmread
from pynetdicom import AE

import service.pynetdicom_hardening  # noqa: F401 - closes the sockets of refused associations
from dicom_io import phantom
from dicom_io.header import read_header
from service import doctor
from service.spool import Spool
from service.store import Store, sqlite_url
from tests.peers import Orthanc, free_port, orthanc, wait_until

EXPLICIT = "1.2.840.10008.1.2.1"


@dataclass
class Tally:
    """What a run of the crash test counted; `faults` must be empty.

    Attributes
    ----------
    studies, kills : int
    acknowledged : int
        Objects the node said it has.
    seconds : float
    faults : list of str
        What was lost, doubled or left.
    """

    studies: int
    kills: int
    acknowledged: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


class _Killed:
    """A node as a process that is killed and started again."""

    def __init__(self, config: Path, log: Path) -> None:
        command = "from service.cli import main; main()"
        self._command = [sys.executable, "-c", command, "serve", "--config", str(config)]
        self._log = log.open("ab")
        self.kills = 0
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(self._command, stdout=self._log, stderr=self._log)

    def kill(self) -> None:
        """kill -9, and start again."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self.kills += 1
        self._process = self._start()

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def end(self) -> int:
        """Ask it to end, as a service manager would; its exit code."""
        self._process.terminate()
        try:
            return self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            self._log.close()


def crash(
    folder: Path,
    studies: int,
    kills: int,
    *,
    seed: int = 0,
    longest_life_s: float = 8.0,
    patience_s: float = 600.0,
) -> Tally:
    """Stream studies in, kill the node at random, wait for the rest, count.

    Parameters
    ----------
    longest_life_s : float
        A node lives between nothing and this long; starting takes about 3 s of it.
    patience_s : float
        How long the work left after the last kill may take.
    """
    tally = Tally(studies, kills)
    started = time.monotonic()
    source = random.Random(seed)
    port = free_port()
    with orthanc(folder / "orthanc", {"NODE": ("MIRV", port)}) as peer:
        config = _settings(folder, port, peer)
        with _node(config, folder / "node.log") as node:
            sender = _Sender(folder / "studies", port, studies, time.monotonic() + patience_s)
            sender.start()
            for _ in range(kills):
                time.sleep(source.uniform(0, longest_life_s))
                if not node.running:
                    tally.faults.append("the node ended by itself; see node.log")
                node.kill()
            sender.join()
            tally.acknowledged = len(sender.acknowledged)
            store = Store(sqlite_url(folder / "node" / "catalogue.sqlite"))
            try:
                wait_until(lambda: _settled(store, studies), patience_s, "all work done", 0.5)
            except AssertionError as late:
                tally.faults.append(str(late))
        _count(tally, store, Spool(folder / "node" / "spool"), sender, peer)
        store.close()
    tally.seconds = time.monotonic() - started
    return tally


@contextmanager
def _node(config: Path, log: Path) -> Iterator[_Killed]:
    node = _Killed(config, log)
    try:
        yield node
    finally:
        node.end()


def _settings(folder: Path, port: int, peer: Orthanc) -> Path:
    path = folder / "mirv.yaml"
    content = {
        "folder": str(folder / "node"),
        "quiet_s": 0.5,
        "profiles": ["henry2022"],
        "listener": {"port": port},
        "http": {"enabled": False},
        "delivery": {"first_retry_s": 0.5, "longest_retry_s": 2, "max_attempts": 1000},
        "destinations": [
            {
                "name": "orthanc",
                "ae_title": peer.ae_title,
                "host": "127.0.0.1",
                "port": peer.dicom_port,
            }
        ],
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


class _Sender(threading.Thread):
    """A modality that tries each object until the node says it has it."""

    def __init__(self, folder: Path, port: int, studies: int, deadline: float) -> None:
        super().__init__(name="modality", daemon=True)
        self._deadline = deadline
        self._folder, self._port, self._studies = folder, port, studies
        self.acknowledged: dict[str, Path] = {}
        self.study_uids: list[str] = []

    def run(self) -> None:
        """Write and send one study after the other."""
        for number in range(self._studies):
            made = phantom.write_study(
                self._folder / str(number),
                n_lesions=2,
                seed=number,
                shape=(10, 64, 64),
                patient_id=f"CRASH-{number}",
            )
            self.study_uids.append(made.identity.study_uid)
            self._send_all(made.files)

    def _send_all(self, paths: tuple[Path, ...]) -> None:
        waiting = {
            str(dcmread(path, stop_before_pixels=True).SOPInstanceUID): path for path in paths
        }
        while waiting:
            ae = AE("MODALITY")
            ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 5
            for path in waiting.values():
                sop_class = read_header(path).sop_class_uid
                if sop_class not in {one.abstract_syntax for one in ae.requested_contexts}:
                    ae.add_requested_context(sop_class, EXPLICIT)
            association = ae.associate("127.0.0.1", self._port, ae_title="MIRV")
            if not association.is_established:
                time.sleep(0.2)
                continue
            for uid, path in list(waiting.items()):
                if not association.is_established:
                    break
                try:
                    answer = association.send_c_store(dcmread(path))
                except (RuntimeError, ValueError):
                    break
                if answer.get("Status") != 0x0000:
                    break
                self.acknowledged[uid] = waiting.pop(uid)
            association.release()


def _settled(store: Store, studies: int) -> bool:
    runs = store.runs.all(current=True)
    if len(runs) < studies or any(run.state not in ("finished", "refused") for run in runs):
        return False
    return not store.instances.unmatched() and not store.deliveries.all(state="waiting")


def _count(tally: Tally, store: Store, spool: Spool, sender: _Sender, peer: Orthanc) -> None:
    spool.sweep()
    findings = doctor.check(spool, store, thorough=True, in_flight_s=0)
    if findings != doctor.Findings():
        tally.faults.append(f"spool and index differ: {findings}")
    if left := [path for path in (spool.folder / "incoming").iterdir()]:
        tally.faults.append(f"{len(left)} temporary files left")
    for uid in sender.acknowledged:
        row = store.instances.find(uid)
        if row is None or not spool.path(row.sha256).is_file():
            tally.faults.append(f"acknowledged and lost: {uid}")
    for study_uid in sender.study_uids:
        current = store.runs.all(study_uid=study_uid, current=True)
        if [run.state for run in current] != ["finished"]:
            tally.faults.append(f"study {study_uid}: {[run.state for run in current]}")
            continue
        made = {one.sop_instance_uid for one in store.runs.artifacts(current[0].run_id)}
        superseded = [
            one.sop_instance_uid
            for run in store.runs.all(study_uid=study_uid)
            for one in store.runs.artifacts(run.run_id)
        ]
        there = [
            peer.http.get(f"/instances/{one}/simplified-tags").json()["SOPInstanceUID"]
            for one in peer.find("Instance", StudyInstanceUID=study_uid)
        ]
        if len(set(there)) != len(there) or not made <= set(there) <= set(superseded):
            tally.faults.append(f"study {study_uid}: {len(there)} objects at the destination")


def run() -> list[str]:
    """A short run as a bench row."""
    with tempfile.TemporaryDirectory() as folder:
        tally = crash(Path(folder), studies=6, kills=10)
    return [describe(tally)]


def describe(tally: Tally) -> str:
    """One line about a run."""
    verdict = "; ".join(tally.faults) or "nothing lost, nothing twice, no orphan"
    return (
        f"crash: {tally.studies} studies, {tally.kills} kill -9, {tally.acknowledged} objects "
        f"acknowledged, {tally.seconds:.0f} s: {verdict}"
    )


def main(arguments: list[str]) -> int:
    """Full size, or as told."""
    studies, kills = (int(one) for one in (arguments + ["60", "200"][len(arguments) :])[:2])
    with tempfile.TemporaryDirectory() as folder:
        tally = crash(Path(folder), studies, kills, patience_s=3600)
    print(describe(tally))
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
