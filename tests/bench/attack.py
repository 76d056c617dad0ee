"""Strangers on the wire, and a real sender that must be served all the while.

``python -m tests.bench attack`` runs the full size: 100,000 random and mutated PDUs, each on a
connection of its own, 200 slow clients on a plain and on a TLS port, decompression bombs, sequences
50,000 deep, and path characters wherever a peer may write. Beside it storescu sends object after
object; the row of a phase says how long each took, next to the same sender left alone.
"""

import argparse
import random
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from mirv.config.settings.network import Tls
from mirv.service.catalogue import Catalogue, RunState, sqlite_url
from mirv.service.objects import repair
from mirv.service.objects.spool import Spool
from tests.bench import hostile
from tests.peers import free_port, stop, storescu, wait_until
from tests.service import certificates
from tests.service.inbound.wire.test_server import p_data, store_command
from tests.service.wire import (
    CT,
    associate,
    associate_request,
    ct_slice,
    encoded,
    part10,
    store_bytes,
)

SEED = 11
ACSE_S, NETWORK_S = 3.0, 5.0
_THREADS = 8
_PATIENCE_S = 30.0
_AGAIN_S = 0.2
_LINES_A_PDU = 1
# What stays open by design once it was needed: connections to the databases, 10 of each of four
# engines with two files each, the fonts of reports, and what leads to extraction's processes.
_KEPT = Counter({"databases": 80, "libraries": 20, "processes": 4})
_POOLED_THREADS = 10
# storescu's word for proposing a compressed transfer syntax.
_PROPOSE = {"JPEG lossless": "-xs", "JPEG-LS": "-xt", "JPEG 2000": "-xv", "RLE": "-xr"}


@dataclass(frozen=True)
class Size:
    """How hard it is tried; as it stands: the full size."""

    pdus: int = 100_000
    clients: int = 200
    slow_s: float = 20
    depth: int = 50_000
    bomb: int = 4 << 30
    copies: int = 4
    alone: int = 60
    lures: tuple[str, ...] = hostile.CODESTREAMS


SMALL = Size(pdus=300, clients=40, slow_s=1, bomb=2 << 30, copies=1, alone=3, lures=("JPEG 2000",))


@dataclass
class Report:
    """What an attack counted; `faults` must be empty.

    Attributes
    ----------
    rows : list of str
        A line a phase.
    counts : Counter
        What was tried, by kind.
    served : int
        Objects the real sender stored meanwhile.
    faults : list of str
    """

    rows: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    served: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass
class Node:
    """A node as a process among strangers."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes]"
    tls: Tls | None = None

    def status(self, name: str) -> int:
        """A number of /proc/PID/status: VmHWM, VmRSS (kB), Threads."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
        raise LookupError(name)

    def descriptors(self) -> Counter[str]:
        """Open file descriptors, by what they are of: databases, connections, ..."""
        kinds: Counter[str] = Counter()
        connections = _connections(self.process.pid)
        for one in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                kinds[_kind(str(one.readlink()), connections)] += 1
        return kinds

    def log(self) -> str:
        """What it logged."""
        return (self.folder / "node.log").read_text(errors="replace")


def _connections(process: int) -> set[str]:
    """TCP sockets of the machine, as a process's descriptors name them."""
    tables = [Path(f"/proc/{process}/net/{name}") for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table.read_text("ascii").splitlines()[1:]]
    return {f"socket:[{row[9]}]" for row in rows}


def _kind(target: str, connections: set[str]) -> str:
    if target.startswith("socket:"):
        return "connections" if target in connections else "processes"
    if ".sqlite" in target:
        return "databases"
    return "libraries" if "site-packages" in target else target.partition(":")[0]


class Sender(threading.Thread):
    """A real sender (storescu) beside everything: one object an association, again and again."""

    def __init__(self, node: Node, folder: Path, group: int) -> None:
        super().__init__(daemon=True)
        self._node, self._folder, self._group = node, folder, group
        self._ended = threading.Event()
        self.seconds: list[float] = []
        self.refused = 0
        self.failed: list[str] = []
        folder.mkdir()

    def once(self) -> None:
        """Send one new object."""
        number = len(self.seconds) + len(self.failed)
        uid = f"1.2.826.0.{self._group}.{number}"
        path = self._folder / f"{number}.dcm"
        path.write_bytes(part10(ct_slice(SOPInstanceUID=uid, StudyInstanceUID="1.2.826.0")))
        tls = self._node.tls
        words = ["+tls", str(tls.key), str(tls.certificate), "+cf", str(tls.trusted)] if tls else []
        started = time.monotonic()
        while True:
            try:
                sent = storescu(self._node.port, [path], "MIRV", "MODALITY", *words)
            except subprocess.TimeoutExpired:
                self.failed.append("no answer")
                return
            if "Rejected Transient" in sent.stdout + sent.stderr:
                # All places taken: it comes again, as senders do, and its clock goes on.
                self.refused += 1
                if time.monotonic() < started + _PATIENCE_S:
                    time.sleep(_AGAIN_S)
                    continue
            break
        if sent.returncode:
            self.failed.append((sent.stdout + sent.stderr)[-300:])
        else:
            self.seconds.append(time.monotonic() - started)

    def run(self) -> None:
        """Send until told to end."""
        while not self._ended.is_set():
            self.once()

    def end(self) -> None:
        """Stop sending."""
        self._ended.set()
        self.join()


def attack(
    folder: Path, size: Size, seed: int = SEED, tell: Callable[[str], None] = lambda _row: None
) -> Report:
    """Attack a plain and a TLS node in every way; what came of it.

    Parameters
    ----------
    tell : callable
        Given the row of each phase as it ends.
    """
    report = Report()
    identity = certificates.identity(certificates.authority(folder / "tls"), "node")
    with _node(folder / "plain") as plain, _node(folder / "secured", identity) as secured:
        nodes = {"plain": plain, "TLS": secured}
        alone = {name: _alone(node, folder / f"alone-{name}", size) for name, node in nodes.items()}
        before = {
            name: (node.status("Threads"), node.descriptors()) for name, node in nodes.items()
        }
        phases: list[tuple[str, str, Callable[[Node], str]]] = [
            (f"{size.clients} slow clients", "plain", lambda node: _slow(node, size, report)),
            (f"{size.clients} slow clients", "TLS", lambda node: _slow(node, size, report)),
            ("path characters", "plain", lambda node: _paths(node, report)),
            ("deep sequences", "plain", lambda node: _deep(node, size, report)),
            ("decompression bombs", "plain", lambda node: _bombs(node, size, report)),
            ("huge images", "plain", lambda node: _lures(node, folder / "lures", size, report)),
            (f"{size.pdus} PDUs", "plain", lambda node: _pdus(node, size.pdus, seed, report)),
        ]
        for number, (what, where, run_phase) in enumerate(phases):
            node = nodes[where]
            sender = Sender(node, folder / f"sender{number}", 10 + number)
            started = time.monotonic()
            sender.start()
            told = run_phase(node)
            sender.end()
            seconds = time.monotonic() - started
            report.served += len(sender.seconds)
            report.faults += _faults(node, sender, f"{what}, {where} port")
            if node.process.poll() is not None:
                return report
            report.rows.append(
                f"{what}, {where} port, {seconds:.0f} s: {told}; real sender "
                f"{_times(sender.seconds)} ({sender.refused} times told to come again), alone "
                f"{_times(alone[where])}; "
                f"RSS peak {node.status('VmHWM') / 1024:.0f} MB"
            )
            tell(report.rows[-1])
        for name, node in nodes.items():
            _judge_leftovers(report, name, node, *before[name])
    for node in nodes.values():
        _judge_disk(report, node)
    _judge_paths(report, folder)
    return report


@contextmanager
def _node(folder: Path, tls: Tls | None = None) -> Iterator[Node]:
    folder.mkdir()
    port = free_port()
    content = {
        "folder": str(folder / "node"),
        "quiet_s": 0.5,
        "profiles": ["henry2022"],
        "listener": {
            "port": port,
            "acse_timeout_s": ACSE_S,
            "network_timeout_s": NETWORK_S,
            "tls": tls.model_dump(mode="json") if tls else None,
        },
        "http": {"enabled": False},
    }
    config = folder / "mirv.yaml"
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    command = "from mirv.service.commands.main import main; main()"
    with (folder / "node.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", command, "serve", "--config", str(config)],
            stdout=log,
            stderr=log,
        )
        try:
            node = Node(folder, port, process, tls)
            wait_until(lambda: "listening" in node.log(), 60, "the node listens")
            yield node
        finally:
            stop(process)


def _alone(node: Node, folder: Path, size: Size) -> list[float]:
    """How long the real sender takes when nobody disturbs it."""
    sender = Sender(node, folder, 1)
    for _ in range(size.alone):
        sender.once()
    if sender.failed:
        raise RuntimeError(f"the real sender fails by itself: {sender.failed[0]}")
    return sender.seconds


def _times(seconds: list[float]) -> str:
    if not seconds:
        return "stored nothing"
    late = sorted(seconds)[min(len(seconds) - 1, int(0.99 * len(seconds)))]
    return (
        f"{len(seconds)} objects, median {statistics.median(seconds) * 1000:.0f} ms, "
        f"99 % within {late * 1000:.0f} ms"
    )


# What is tried


def _pdus(node: Node, number: int, seed: int, report: Report) -> str:
    """So many hostile PDUs, each on a connection of its own, which must end."""
    started = time.monotonic()
    numbers, lock = iter(range(number)), threading.Lock()

    def work(address: str) -> None:
        while True:
            with lock:
                n = next(numbers, None)
            if n is None:
                return
            pdu = hostile.hostile_pdu(random.Random(f"{seed}:{n}"))
            ended = _say(node.port, pdu.content, associated=pdu.associated, address=address)
            with lock:
                report.counts[f"PDU {pdu.kind}"] += 1
                if not ended:
                    report.faults.append(f"PDU {n} ({pdu.kind}): its connection was not ended")

    # From several addresses: one has too few ports for so many connections in so short a time.
    _together([lambda address=f"127.0.0.{n}": work(address) for n in range(2, 2 + _THREADS)])
    return f"of 12 kinds, {number / (time.monotonic() - started):.0f} a second"


def _say(port: int, content: bytes, *, associated: bool, address: str = "127.0.0.1") -> bool:
    """Say it on a new connection; whether that is ended when nothing more is said."""
    with socket.socket() as connection:
        connection.bind((address, 0))
        connection.settimeout(_PATIENCE_S)
        try:
            connection.connect(("127.0.0.1", port))
            if associated:
                connection.sendall(associate_request())
                if not connection.recv(4096):
                    return True
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
    return True


def _slow(node: Node, size: Size, report: Report) -> str:
    """Clients that say nothing, too little or too slowly, and call again when they are ended."""
    until = time.monotonic() + size.slow_s
    manners = ("silent", "partial", "dripping", "silent in an association")
    calls: Counter[str] = Counter()
    lock = threading.Lock()

    def client(manner: str) -> None:
        while time.monotonic() < until:
            with suppress(OSError):
                _crawl(node, manner, until)
            with lock:
                calls[manner] += 1

    several = manners * (size.clients // len(manners))
    _together([lambda manner=manner: client(manner) for manner in several])
    report.counts["slow clients"] += size.clients
    told = ", ".join(f"{manner} {calls[manner]}" for manner in manners)
    return f"{size.slow_s:g} s, connections ended: {told}"


def _crawl(node: Node, manner: str, until: float) -> None:
    """One slow connection, until it is ended."""
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)
    request = associate_request() if node.tls is None else hello
    with socket.create_connection(("127.0.0.1", node.port), timeout=_PATIENCE_S) as plain:
        connection: socket.socket = plain
        if manner == "silent in an association":
            if node.tls is not None:
                context = ssl.create_default_context(cafile=str(node.tls.trusted))
                context.load_cert_chain(node.tls.certificate, node.tls.key)
                connection = context.wrap_socket(plain, server_hostname="127.0.0.1")
            connection.sendall(associate_request())
        elif manner == "partial":
            connection.sendall(request[:5])
        drops = iter(request if manner == "dripping" else b"")
        connection.settimeout(0.2)
        with connection:
            while time.monotonic() < until:
                if (drop := next(drops, None)) is not None:
                    connection.sendall(bytes((drop,)))
                with suppress(TimeoutError):
                    if not connection.recv(4096):
                        return


def _paths(node: Node, report: Report) -> str:
    """Path characters in every UID and every AE title."""
    statuses: Counter[str] = Counter()
    for number, (text, name) in enumerate(
        (text, name) for text in hostile.EVIL for name in hostile.UID_TAGS
    ):
        uid = f"1.2.77.{number}"
        content = hostile.with_uid(
            encoded(ct_slice(SOPInstanceUID=uid)), name, text.encode("utf-8")[:64]
        )
        with associate(node.port) as association:
            statuses[_status(store_bytes(association, content, uid))] += 1
        report.counts["UIDs with path characters"] += 1
    for text in hostile.EVIL:
        title = text.encode("utf-8")[:16].ljust(16)
        for called, calling in ((title, b"PEER"), (b"MIRV", title), (title, title)):
            request = bytearray(associate_request())
            request[10:42] = called.ljust(16) + calling.ljust(16)
            _say(node.port, bytes(request), associated=False)
            report.counts["AE titles with path characters"] += 1
        uid = text.encode("utf-8")[:64]
        command = store_command(uid + b"\0" * (len(uid) % 2))  # as no library would say it
        both = p_data(command, command=True, last=True)
        both += p_data(encoded(ct_slice()), command=False, last=True)
        _say(node.port, both, associated=True)
        report.counts["UIDs with path characters"] += 1
    return f"statuses {_told(statuses)}"


def _deep(node: Node, size: Size, report: Report) -> str:
    made = hostile.deep(size.depth)
    statuses = _store_all(node, made * size.copies, report, "deep sequences")
    if taken := statuses["0x0000"]:
        report.faults.append(f"{taken} objects {size.depth} sequences deep were taken in")
    return f"{size.depth} levels, {len(made) * size.copies} objects, statuses {_told(statuses)}"


def _bombs(node: Node, size: Size, report: Report) -> str:
    made = hostile.bombs(size.bomb)
    largest = max(len(one.content) for one in made)
    statuses = _store_all(node, made * size.copies, report, "decompression bombs")
    return (
        f"{len(made) * size.copies} objects of at most {largest >> 10} KB that claim up to "
        f"{size.bomb >> 20} MB, {size.copies} of each at once, statuses {_told(statuses)}"
    )


def _store_all(
    node: Node, objects: list[hostile.HostileObject], report: Report, kind: str
) -> Counter[str]:
    statuses: Counter[str] = Counter()
    lock = threading.Lock()

    def send(one: hostile.HostileObject) -> None:
        with associate(node.port, (CT,), one.syntax) as association:
            status = _status(store_bytes(association, one.content, one.uid))
        with lock:
            statuses[status] += 1
            report.counts[kind] += 1

    _together([lambda one=one: send(one) for one in objects])
    return statuses


def _lures(node: Node, folder: Path, size: Size, report: Report) -> str:
    """Studies with a real segmentation, so that the node does read their pixels."""
    store = Catalogue(sqlite_url(node.folder / "node" / "catalogue.sqlite"))
    states: Counter[str] = Counter()
    for name, study_uid, study in hostile.lures(folder, size.lures):
        report.counts["huge images"] += 1
        sent = storescu(node.port, [study], "MIRV", "LURE", _PROPOSE[name.partition(",")[0]])
        if sent.returncode:
            states["refused at the door"] += 1
            continue
        try:
            states[wait_until(lambda uid=study_uid: _end_of(store, uid), 120, name, 0.1)] += 1
        except AssertionError:
            report.faults.append(f"{name}: its study came to no end")
        for run in store.runs.all(study_uid=study_uid, states=(RunState.FAILED,)):
            report.faults.append(f"{name}: a fault of the node: {run.reason_detail[-300:]}")
    store.close()
    return f"studies ended as {_told(states)}"


def _end_of(store: Catalogue, study_uid: str) -> str:
    """How a study ended, "" while it has not."""
    for row in store.studies.quality(study_uid):
        if row.refused:
            return f"refused {row.check}"
    for run in store.runs.all(study_uid=study_uid, current=True):
        if run.state not in ("queued", "running"):
            return f"{run.state} {run.reason_code}"
    return ""


def _status(answer: object) -> str:
    status = getattr(answer, "Status", None)
    return "aborted" if status is None else f"0x{status:04X}"


def _told(counted: Counter[str]) -> str:
    return ", ".join(f"{name} {n}" for name, n in sorted(counted.items()))


def _together(work: Iterable[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# What is looked at afterwards


def _faults(node: Node, sender: Sender, phase: str) -> Iterator[str]:
    if node.process.poll() is not None:
        yield f"{phase}: the node ended with {node.process.returncode}: {node.log()[-600:]}"
    if sender.failed:
        tried = len(sender.failed) + len(sender.seconds)
        yield f"{phase}: the real sender failed {len(sender.failed)} times of {tried}: "
        yield sender.failed[0]
    elif not sender.seconds:
        yield f"{phase}: the real sender stored nothing"
    at = (log := node.log()).find("Traceback")
    if at >= 0:
        yield f"{phase}: a traceback in the log: {log[max(0, at - 200) : at + 2500]}"


def _judge_leftovers(
    report: Report, name: str, node: Node, threads: int, files: Counter[str]
) -> None:
    """No thread and no descriptor stays behind, but for what is kept by design."""

    def settled() -> bool:
        return (
            node.status("Threads") <= threads + _POOLED_THREADS
            and node.descriptors() <= files + _KEPT
        )

    try:
        wait_until(settled, 30, "threads and descriptors come back")
    except AssertionError:
        report.faults.append(
            f"{name}: {node.status('Threads')} threads and descriptors "
            f"{dict(node.descriptors())}, {threads} and {dict(files)} before"
        )
    wanted = sum(n for kind, n in report.counts.items()) * _LINES_A_PDU + report.served + 1000
    if (lines := node.log().count("\n")) > wanted:
        report.faults.append(f"{name}: {lines} lines in the log, wanted {wanted} at most")


def _judge_disk(report: Report, node: Node) -> None:
    store = Catalogue(sqlite_url(node.folder / "node" / "catalogue.sqlite"))
    spool = Spool(node.folder / "node" / "spool")
    spool.sweep()
    findings = repair.check(spool, store, thorough=True, in_flight_s=0)
    if findings != repair.Findings():
        report.faults.append(f"spool and index differ: {findings}")
    store.close()


def _judge_paths(report: Report, folder: Path) -> None:
    """Names in the spool are hashes; nothing lies where it was not put."""
    for path in folder.rglob("*"):
        if "evil" in path.name:
            report.faults.append(f"a peer's string made a path: {path}")
    for area in folder.glob("*/node/spool/*"):
        for path in (one for one in area.rglob("*") if one.is_file()):
            if len(path.name) != 64 or set(path.name) - set("0123456789abcdef"):
                report.faults.append(f"no hash: {path}")


def run() -> list[str]:
    """Full size; a row a phase, printed as it ends, and the verdict."""
    return [describe(_attack(Size(), SEED), SEED)]


def _attack(size: Size, seed: int) -> Report:
    with tempfile.TemporaryDirectory() as folder:
        return attack(Path(folder), size, seed, lambda row: print(row, flush=True))


def describe(report: Report, seed: int) -> str:
    """The verdict in one line."""
    tried = sum(report.counts.values())
    verdict = "; ".join(report.faults) or "NO CRASH, NOTHING LOST, EVERY REAL OBJECT STORED"
    return (
        f"attack, seed {seed}: {tried} tries of {len(report.counts)} kinds, meanwhile "
        f"{report.served} objects of the real sender: {verdict}"
    )


def main(arguments: list[str]) -> int:
    """Full size, or the small one of the tests; exit code 1 when anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.attack")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--pdus", type=int)
    parser.add_argument("--small", action="store_true")
    wanted = parser.parse_args(arguments)
    size = SMALL if wanted.small else Size()
    if wanted.pdus is not None:
        size = replace(size, pdus=wanted.pdus)
    report = _attack(size, wanted.seed)
    print(describe(report, wanted.seed))
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
