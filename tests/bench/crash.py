"""The crash test: studies stream in while the node is killed at random; then everything is counted.

``python -m tests.bench crash`` runs both full sizes: 60 studies and 200 ``kill -9`` on SQLite,
where a node with two listener processes does everything, and the same on PostgreSQL with three
workers beside it. A kill hits a node, a worker or one of a node's listener processes.
``python -m tests.bench.crash --studies 10 --kills 20 --seed 5 [--postgres]`` runs another size.
"""

import argparse
import contextlib
import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa
import yaml
from pydicom import Dataset, dcmread
from pynetdicom import AE

from mirv.config.settings import Settings, load_settings
from mirv.dicom_io.files.header import read_header
from mirv.dicom_io.phantom import patient
from mirv.service.catalogue import Catalogue, DeliveryState, RunState
from mirv.service.objects import repair
from mirv.service.objects.spool import Spool
from mirv.service.peers.sockets import mend_sockets
from mirv.service.runtime.node_folder import NodeFolder, catalogue_url, workflow_url
from mirv.service.study import result_record
from mirv.service.study.plan import extractor_from, plan_from
from mirv.service.work.context import WorkContext
from mirv.service.work.runs import analysed, rendered
from tests.peers import Orthanc, free_port, orthanc, wait_until
from tests.service.postgres import create_database, postgres

EXPLICIT = "1.2.840.10008.1.2.1"
STUDIES, KILLS, SEED = 60, 200, 7
WORKERS, LISTENERS = 3, 2
_ORPHAN_S = 20.0


@dataclass
class Tally:
    """What a run of the crash test counted; `faults` must be empty.

    Attributes
    ----------
    where : str
        Which databases and processes.
    studies, kills, seed : int
    killed : mapping of process kind to number of kills
    acknowledged : int
        Objects the node said it has; each was compared with what was sent.
    delivered : int
        Objects found at the destination; each was compared with the node's own.
    compared : int
        Results and outputs whose SHA-256 is that of an undisturbed computation.
    revisions : int
        Runs that were superseded because a kill came in the middle of a study.
    seconds : float
    faults : list of str
        What was lost, doubled, different or left.
    """

    where: str
    studies: int
    kills: int
    seed: int
    killed: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    delivered: int = 0
    compared: int = 0
    revisions: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


class _Process:
    """A node or a worker as a process that is killed and started again."""

    def __init__(self, kind: str, config: Path, log: Path) -> None:
        command = "from mirv.service.commands.main import main; main()"
        self.kind = kind
        self._command = [sys.executable, "-c", command, kind, "--config", str(config)]
        self._path, self._log = log, log.open("ab")
        self.groups: list[int] = []
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            self._command, stdout=self._log, stderr=self._log, start_new_session=True
        )
        self.groups.append(process.pid)
        return process

    def kill(self) -> None:
        """kill -9 of this process alone, and start again; its children must see to themselves."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = self._start()

    def kill_listener(self, source: random.Random) -> bool:
        """kill -9 of one of its listener processes; False when it has none now."""
        listeners = sorted(_listeners(self._process.pid))
        if not listeners:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(source.choice(listeners), signal.SIGKILL)
        return True

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def last_words(self) -> str:
        """The end of its log."""
        return self._path.read_text(errors="replace")[-2000:]

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


def _listeners(parent: int) -> list[int]:
    """Children of a process that listen for it."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            command = (entry / "cmdline").read_bytes()
            if b"service.inbound.process" in command:
                number = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                found += [int(entry.name)] if number == parent else []
    return found


def crash(
    folder: Path,
    studies: int,
    kills: int,
    *,
    seed: int = 0,
    longest_life_s: float = 8.0,
    patience_s: float = 600.0,
    server: str | None = None,
    listeners: int = 1,
) -> Tally:
    """Stream studies in, kill at random, wait for the rest, count.

    Parameters
    ----------
    longest_life_s : float
        From one kill to the next it is between nothing and this long; starting takes about 3 s.
    patience_s : float
        How long the work left after the last kill may take.
    server : str, optional
        URL of a PostgreSQL server: three workers share the work, and whom a kill hits is random.
    listeners : int
        Listener processes of the node; of several, every other kill of the node is of one of them.
    """
    where = "SQLite" if server is None else f"PostgreSQL, {WORKERS} workers"
    if listeners > 1:
        where += f", {listeners} listener processes"
    tally = Tally(where, studies, kills, seed)
    started = time.monotonic()
    source = random.Random(seed)
    port = free_port()
    with orthanc(folder / "orthanc", {"NODE": ("MIRV", port)}) as peer:
        config = _settings(folder, port, peer, server, listeners)
        settings = load_settings(config)
        kinds = ["serve"] if server is None else ["serve", *["worker"] * WORKERS]
        with _site(kinds, config, folder, tally) as site:
            sender = _Sender(folder / "studies", port, studies)
            sender.start()
            for number in range(kills):
                # The studies come in over the whole time of the kills.
                sender.go_on(1 + studies * number // kills)
                time.sleep(source.uniform(0, longest_life_s))
                hit = source.choice(site)
                if not hit.running:
                    tally.faults.append(f"a {hit.kind} ended by itself: {hit.last_words()}")
                if source.random() < 0.5 and hit.kill_listener(source):
                    tally.killed["listener"] += 1
                    continue
                hit.kill()
                tally.killed[hit.kind] += 1
            sender.finish(studies, time.monotonic() + patience_s)
            tally.acknowledged = len(sender.acknowledged)
            catalogue = Catalogue(catalogue_url(settings))
            try:
                wait_until(lambda: _settled(catalogue, studies), patience_s, "all work done", 0.5)
            except AssertionError as late:
                tally.faults.append(str(late))
        spool = Spool(NodeFolder(settings.folder).spool)
        _count_kept(tally, catalogue, spool, sender)
        for study_uid in sender.study_uids:
            _count_results(tally, catalogue, spool, study_uid, peer)
        _count_workflows(tally, settings)
        _compare_with_undisturbed(tally, settings, catalogue, spool, sender)
        catalogue.close()
    tally.seconds = time.monotonic() - started
    return tally


@contextlib.contextmanager
def _site(kinds: list[str], config: Path, folder: Path, tally: Tally) -> Iterator[list[_Process]]:
    site = [
        _Process(kind, config, folder / f"{kind}{number}.log") for number, kind in enumerate(kinds)
    ]
    try:
        yield site
    finally:
        for one in site:
            # A process that was just started may still end as signals end processes.
            if (code := one.end()) not in (0, -signal.SIGTERM):
                tally.faults.append(f"a {one.kind} ended with {code} when it was asked to end")
        groups = [group for one in site for group in one.groups]
        try:
            wait_until(lambda: not any(map(_lives, groups)), _ORPHAN_S, "no orphaned process")
        except AssertionError:
            left = [group for group in groups if _lives(group)]
            tally.faults.append(f"{len(left)} killed processes left children")
            for group in left:
                os.killpg(group, signal.SIGKILL)


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _settings(folder: Path, port: int, peer: Orthanc, server: str | None, listeners: int) -> Path:
    path = folder / "mirv.yaml"
    content = {
        "folder": str(folder / "node"),
        "quiet_s": 0.5,
        "profiles": ["henry2022"],
        "listener": {"port": port, "processes": listeners},
        "http": {"enabled": False},
        "extraction": {"workers": 1},
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
    if server is not None:
        content["database_url"] = create_database(server, "catalogue")
        content["workflow_database_url"] = create_database(server, "workflows")
        content["worker_silent_s"] = 4
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


class _Sender(threading.Thread):
    """A modality that tries each object until the node says it has it."""

    def __init__(self, folder: Path, port: int, studies: int) -> None:
        super().__init__(name="modality", daemon=True)
        self._folder, self._port, self._studies = folder, port, studies
        self._may = threading.Semaphore(0)
        self._allowed = 0
        self.sent: dict[str, Path] = {}
        self.acknowledged: set[str] = set()
        self.study_uids: list[str] = []

    def go_on(self, studies: int) -> None:
        """So many studies may be sent by now."""
        for _ in range(self._allowed, studies):
            self._may.release()
        self._allowed = max(self._allowed, studies)

    def finish(self, studies: int, deadline: float) -> None:
        """Send the rest."""
        self.go_on(studies)
        self.join(max(0.0, deadline - time.monotonic()))

    def run(self) -> None:
        """Write and send one study after the other."""
        for number in range(self._studies):
            made = patient.write_study(
                self._folder / str(number),
                n_lesions=2,
                seed=number,
                shape=(10, 192, 192),  # more than goes by way of the page cache
                patient_id=f"CRASH-{number}",
            )
            self._may.acquire()
            self.study_uids.append(made.identity.study_uid)
            self._send_all(made.files)

    def _send_all(self, paths: tuple[Path, ...]) -> None:
        waiting = {read_header(path).sop_instance_uid: path for path in paths}
        self.sent |= waiting
        while waiting:
            mend_sockets()  # pynetdicom leaves those of a refused association open
            ae = AE("MODALITY")
            ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 5
            for sop_class in {read_header(path).sop_class_uid for path in waiting.values()}:
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
                self.acknowledged.add(uid)
                del waiting[uid]
            association.release()


def _settled(catalogue: Catalogue, studies: int) -> bool:
    runs = catalogue.runs.all(current=True)
    if len(runs) < studies or any(run.state not in ("finished", "refused") for run in runs):
        return False
    return not catalogue.studies.unmatched() and not catalogue.deliveries.all(
        state=DeliveryState.WAITING
    )


def _count_kept(tally: Tally, catalogue: Catalogue, spool: Spool, sender: _Sender) -> None:
    """Everything acknowledged is there as it was sent, and nothing else is."""
    if missing := set(sender.sent) - sender.acknowledged:
        tally.faults.append(f"{len(missing)} objects were never acknowledged")
    spool.sweep()
    findings = repair.check(spool, catalogue, thorough=True, in_flight_s=0)
    if findings != repair.Findings():
        tally.faults.append(f"spool and index differ: {findings}")
    if left := list((spool.folder / "incoming").iterdir()):
        tally.faults.append(f"{len(left)} temporary files left")
    for uid in sender.acknowledged:
        row = catalogue.instances.find(uid)
        if row is None or not spool.path(row.sha256).is_file():
            tally.faults.append(f"acknowledged and lost: {uid}")
        elif _content(spool.path(row.sha256)) != _content(sender.sent[uid]):
            tally.faults.append(f"kept otherwise than sent: {uid}")


def _count_results(
    tally: Tally, catalogue: Catalogue, spool: Spool, study_uid: str, peer: Orthanc
) -> None:
    """One current result; each of its outputs once at the destination, and as it was made."""
    runs = catalogue.runs.all(study_uid=study_uid)
    current = [run for run in runs if run.superseded_by is None]
    tally.revisions += len(runs) - len(current)
    if [run.state for run in current] != ["finished"]:
        tally.faults.append(f"study {study_uid}: {[run.state for run in current]}")
        return
    wanted = {one.sop_instance_uid for one in catalogue.runs.artifacts(current[0].run_id)}
    made = {
        one.sop_instance_uid: spool.path(one.sha256)
        for run in runs
        for one in catalogue.runs.artifacts(run.run_id)
    }
    there = [
        _content(io.BytesIO(peer.file(one)))
        for one in peer.find("Instance", StudyInstanceUID=study_uid)
    ]
    uids = [str(one.SOPInstanceUID) for one in there]
    tally.delivered += len(uids)
    if len(set(uids)) != len(uids) or not wanted <= set(uids) <= set(made):
        tally.faults.append(f"study {study_uid}: {len(uids)} objects at the destination")
        return
    for uid, content in zip(uids, there, strict=True):
        if content != _content(made[uid]):
            tally.faults.append(f"delivered otherwise than made: {uid}")


def _content(path: Path | io.BytesIO) -> Dataset:
    """The data set alone: File Meta Information names whoever wrote the file."""
    return Dataset(dcmread(path))


def _count_workflows(tally: Tally, settings: Settings) -> None:
    engine = sa.create_engine(workflow_url(settings))
    schema = "dbos." if engine.dialect.name == "postgresql" else ""
    query = f"SELECT status, count(*) FROM {schema}workflow_status GROUP BY status"  # noqa: S608
    with engine.connect() as connection:
        ended = dict(connection.execute(sa.text(query)).all())
    engine.dispose()
    if others := {state: number for state, number in ended.items() if state != "SUCCESS"}:
        tally.faults.append(f"workflows that did not end well: {others}")


def _compare_with_undisturbed(
    tally: Tally, settings: Settings, catalogue: Catalogue, spool: Spool, sender: _Sender
) -> None:
    """Each finished run computed once more, undisturbed, from the files of the sender.

    Only what the catalogue recorded when the run was queued is taken over: its time, and which run
    it revises. Every byte of result and outputs must be the same.
    """
    extractor = extractor_from(settings)
    work = WorkContext(settings, plan_from(settings), spool, catalogue, extractor)
    try:
        for run in catalogue.runs.all(states=(RunState.FINISHED,), limit=None):
            study, record = analysed(work, run, sender.sent.__getitem__)
            if _sha256(result_record.to_bytes(record)) != run.result_sha256:
                tally.faults.append(f"run {run.run_id}: another result than undisturbed")
            kept = {one.role: one.sha256 for one in catalogue.runs.artifacts(run.run_id)}
            made = rendered(work, run, study, record)
            differing = {
                one.role for one in made if kept.pop(one.role, "") != _sha256(one.content)
            } | set(kept)
            if differing:
                tally.faults.append(f"run {run.run_id}: {differing} differ from undisturbed")
            tally.compared += 1 + len(made)
    finally:
        extractor.close()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def run() -> list[str]:
    """Both full sizes as bench rows."""
    return [describe(_full_size(with_postgres)) for with_postgres in (False, True)]


def _full_size(
    with_postgres: bool, studies: int = STUDIES, kills: int = KILLS, seed: int = SEED
) -> Tally:
    with tempfile.TemporaryDirectory() as folder:
        if not with_postgres:
            return crash(
                Path(folder), studies, kills,
                seed=seed, patience_s=3600, listeners=LISTENERS,
            )  # fmt: skip
        with postgres() as server:
            # Four processes live side by side: each lives four times as long as one kill is apart.
            return crash(
                Path(folder), studies, kills,
                seed=seed, patience_s=3600, longest_life_s=4, server=server, listeners=LISTENERS,
            )  # fmt: skip


def describe(tally: Tally) -> str:
    """One line about a run."""
    hits = ", ".join(f"{kind} {number}" for kind, number in sorted(tally.killed.items()))
    verdict = "; ".join(tally.faults) or "NOTHING LOST, NOTHING TWICE, NO ORPHAN"
    return (
        f"crash, {tally.where}, seed {tally.seed}: {tally.studies} studies, {tally.kills} kill -9 "
        f"({hits}), {tally.acknowledged} objects acknowledged and all as sent, {tally.revisions} "
        f"revisions, {tally.delivered} objects at the destination, {tally.compared} results and "
        f"outputs byte-identical to undisturbed ones, {tally.seconds:.0f} s: {verdict}"
    )


def main(arguments: list[str]) -> int:
    """One size, as told; exit code 1 when anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.crash")
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--postgres", action="store_true")
    wanted = parser.parse_args(arguments)
    tally = _full_size(wanted.postgres, wanted.studies, wanted.kills, wanted.seed)
    print(describe(tally))
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
