"""The folder of a node at work; ``python -m tests.service.node.old_node.make FILE``.

`node-0.1.0.tar.xz` was made by this script on commit 28b2775, when the packages were still called
config, analysis, dicom_io and service. It is not made anew: that a later node goes on with what an
earlier one left is what its test is about. A later format gets a folder of its own beside it.

The node is killed, so the folder holds what a power cut leaves: databases with their journals, a
workflow cut in its midst. All patients are synthetic.
"""

import sqlite3
import sys
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from mirv.dicom_io.phantom.patient import Phantom, write_study
from tests.integration.node import NodeProcess
from tests.peers import Orthanc, free_port, orthanc, storescu, wait_until
from tests.service.node.old_node.archive import archive

PROFILE = "henry2022"
_LEFT_OUT = ("node.lock", "-shm")


def study(folder: Path, patient: str, n_lesions: int = 2, **more: Any) -> Phantom:
    """A small study of a synthetic patient."""
    return write_study(
        folder, patient_id=patient, patient_name=f"Phantom^{patient}", n_lesions=n_lesions,
        shape=(16, 48, 48), spacing=(4.0, 3.5, 3.5), **more,
    )  # fmt: skip


def send(node: NodeProcess, *paths: Path) -> None:
    """Send by C-STORE; all must be taken."""
    done = storescu(node.port, paths)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)


def seen(node: NodeProcess, what: str, condition: Callable[[], Any]) -> None:
    """Wait for a state of the node."""
    wait_until(condition, 120, f"{what}; log {node.log()[-2000:]}", every=0.02)


def fill(work: Path, node: NodeProcess, scanner: Orthanc) -> None:
    """Bring the node into every state."""
    first = study(work / "a0", "OLD-A")
    later = study(work / "a1", "OLD-A", time_point=1)
    revised = study(work / "b", "OLD-B", rtstruct=True, seed=1)
    cut = study(work / "c", "OLD-C", n_lesions=4, seed=2)
    queued = study(work / "d", "OLD-D", seed=3)
    waiting = study(work / "e", "OLD-E", seed=4)
    if revised.seg is None or revised.rtstruct is None or waiting.seg is None:
        raise RuntimeError("found a study without its lesion sets")

    # One try a delivery: what the ward does not take is parked.
    node.settings["delivery"] = {"max_attempts": 1}
    node.start()
    scanner.upload(first.files)
    done(node, first, 1)
    seen(node, "parked", lambda: node.api("deliveries?state=parked"))
    node.stop()

    # Many tries, an hour apart: what the ward does not take waits.
    node.settings["delivery"] = {"first_retry_s": 3600, "longest_retry_s": 3600}
    node.start()
    send(node, *later.files)
    done(node, later, 1)
    send(node, *revised.ct, revised.rtstruct)
    done(node, revised, 1)
    send(node, revised.seg)
    done(node, revised, 2)
    send(node, waiting.seg)
    seen(node, "waiting", lambda: node.api("waiting"))
    send(node, *cut.files, *queued.files)
    seen(node, "at work", lambda: at_work(work / "node" / "workflows.sqlite"))
    node.kill()


def at_work(workflows: Path) -> bool:
    """Whether one workflow is past its first step and another has not begun."""
    with closing(sqlite3.connect(f"file:{workflows}?mode=ro", uri=True)) as connection:
        begun = connection.execute(
            "SELECT count(*) FROM operation_outputs AS step JOIN workflow_status AS flow "
            "ON flow.workflow_uuid = step.workflow_uuid "
            "WHERE flow.status = 'PENDING' AND flow.name = 'process_run'"
        ).fetchone()
        queued = connection.execute(
            "SELECT count(*) FROM workflow_status WHERE status = 'ENQUEUED'"
        ).fetchone()
    return begun[0] > 0 and queued[0] > 0


def done(node: NodeProcess, made: Phantom, n_runs: int) -> None:
    """Wait until a study has so many runs, and the archive has all of them."""

    def delivered() -> bool:
        runs = node.runs(study_uid=made.identity.study_uid, state="finished")
        rows = [
            row for run in runs for row in node.api("deliveries") if row["run_id"] == run["run_id"]
        ]
        tried = all(row["attempts"] for row in rows)
        return len(runs) == n_runs and bool(rows) and tried

    seen(node, f"{made.folder.name} delivered", delivered)


def pack(folder: Path, file: Path) -> None:
    """Pack a node's folder: no owners, no times, only what a start needs."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if entry.name.endswith(_LEFT_OUT):
            return None
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return entry

    with tarfile.open(file, "w:xz", preset=9) as packed:
        packed.add(folder, "node", filter=plain)


def make(file: Path) -> None:
    """Run a node, kill it at work, pack its folder."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        with orthanc(work / "orthanc") as scanner, archive(work / "archive", free_port()) as up:
            here = {"ae_title": "PEER", "host": "127.0.0.1"}
            node = NodeProcess(
                work / "mirv",
                {
                    "folder": str(work / "node"),
                    "quiet_s": 1.0,
                    "profiles": [PROFILE],
                    "listener": {"port": free_port()},
                    "http": {"port": free_port()},
                    "extraction": {"workers": 1},
                    "follow": [
                        {
                            "name": "scanner", "url": scanner.url, "poll_s": 0.3,
                            "begin": "beginning", "user": "tester", "password": "tester",
                        }
                    ],
                    "destinations": [
                        {"name": "archive", "port": up.port, **here},
                        {
                            "name": "ward", "port": free_port(), "outputs": ["headline_sr"],
                            **here,
                        },
                    ],
                },
            )  # fmt: skip
            try:
                fill(work, node, scanner)
            finally:
                node.kill()
        pack(work / "node", file)
    print(f"{file}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
