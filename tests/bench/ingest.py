"""Durable ingest beside storescp and Orthanc, all on this machine, in one run.

137 CT slices (72 MB) by storescu over one, two and four associations at once, TCP_NODELAY on every
side. storescp syncs and indexes nothing; Orthanc syncs each file and not its index.
All receivers are there; they are measured in turns, with the others stopped and the disk at rest,
and the medians are compared.
"""

import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mirv.service.catalogue import Catalogue, sqlite_url
from tests.integration.node import node
from tests.peers import PEER_ENVIRONMENT, free_port, orthanc, stop, wait_until
from tests.service.wire import ct_slice, part10

OBJECTS = 137
ROUNDS = 5
ASSOCIATIONS = (1, 2, 4)
PROCESSES = 2


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where objects are sent; `group`: its processes."""

    name: str
    port: int
    ae_title: str
    group: int | None = None

    def signal(self, number: int) -> None:
        """Stop it or let it go on: a node that waits still looks about."""
        if self.group is not None:
            os.killpg(self.group, number)


def run() -> list[str]:
    """One row a number of associations: objects a second, and ratios."""
    rates: dict[tuple[str, int], list[float]] = {}
    memory = Path("/dev/shm")  # noqa: S108 - what is sent must cost the disk nothing
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        source = stack.enter_context(
            tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
        )
        sent = _slices(Path(source))
        receivers = [stack.enter_context(one) for one in _receivers(folder)]
        for receiver in receivers:
            receiver.signal(signal.SIGSTOP)
            stack.callback(receiver.signal, signal.SIGCONT)
        number = 0
        for _ in range(ROUNDS):
            for associations in ASSOCIATIONS:
                number += 1
                for path in sent:
                    _renumber(path, number)
                for receiver in receivers:
                    receiver.signal(signal.SIGCONT)
                    rate = _rate(receiver, sent, associations)
                    receiver.signal(signal.SIGSTOP)
                    rates.setdefault((receiver.name, associations), []).append(rate)
        _check_all_there(folder, len(ASSOCIATIONS) * ROUNDS * OBJECTS)
    return [_row(rates, associations) for associations in ASSOCIATIONS]


def _row(rates: dict[tuple[str, int], list[float]], associations: int) -> str:
    medians = {
        name: statistics.median(found)
        for (name, number), found in rates.items()
        if number == associations
    }
    told = ", ".join(f"{name} {rate:.0f}" for name, rate in medians.items())
    ratios = ", ".join(
        f"{name} / {rival} {medians[name] / medians[rival]:.2f}"
        for name in medians
        if name.startswith("node")
        for rival in ("Orthanc", "storescp")
    )
    return (
        f"durable ingest, {associations} association(s), objects/s (median of {ROUNDS} rounds in "
        f"turns): {told}; {ratios}"
    )


def _slices(folder: Path) -> list[Path]:
    source = np.random.default_rng(0)
    paths = []
    for number in range(OBJECTS):
        pixels = source.integers(-1000, 1000, 512 * 512, np.int16).tobytes()
        ds = ct_slice(number, Rows=512, Columns=512, PixelData=pixels)
        ds.SOPInstanceUID = f"1.2.1000.{number}"
        paths.append(folder / f"{number}.dcm")
        paths[-1].write_bytes(part10(ds))
    return paths


def _renumber(path: Path, number: int) -> None:
    """Make another object of it."""
    content = path.read_bytes()
    at = content.index(b"1.2.1")
    former = content[at : at + len("1.2.1000.")]
    path.write_bytes(content.replace(former, f"1.2.{1000 + number}.".encode()))


def _rate(receiver: Receiver, sent: list[Path], associations: int) -> float:
    os.sync()
    started = time.perf_counter()
    senders = [
        subprocess.Popen(
            ["storescu", "-aec", receiver.ae_title, "127.0.0.1", str(receiver.port),
             *map(str, sent[one::associations])],
            env=PEER_ENVIRONMENT,
        )
        for one in range(associations)
    ]  # fmt: skip
    failed = [sender for sender in senders if sender.wait() != 0]
    seconds = time.perf_counter() - started
    if failed:
        raise RuntimeError(f"{receiver.name}: {len(failed)} senders failed")
    return len(sent) / seconds


def _receivers(folder: Path) -> Iterator[AbstractContextManager[Receiver]]:
    yield _storescp(folder / "storescp")
    yield _orthanc(folder / "orthanc")
    yield _node(folder / "node", 1)
    yield _node(folder / "node in processes", PROCESSES)


@contextmanager
def _node(folder: Path, processes: int) -> Iterator[Receiver]:
    listener = {"port": free_port(), "processes": processes}
    name = "node" if processes == 1 else f"node in {processes} processes"
    # Nothing settles while it is measured: this is about the way in.
    with node(folder, [], quiet_s=3600, listener=listener) as running:
        yield Receiver(name, running.port, "MIRV", running.process and running.process.pid)


@contextmanager
def _orthanc(folder: Path) -> Iterator[Receiver]:
    with orthanc(folder) as peer:
        yield Receiver("Orthanc", peer.dicom_port, peer.ae_title)


@contextmanager
def _storescp(folder: Path) -> Iterator[Receiver]:
    folder.mkdir()
    port = free_port()
    process = subprocess.Popen(
        ["storescp", "--fork", "-od", str(folder), str(port)], env=PEER_ENVIRONMENT
    )
    try:
        wait_until(lambda: _echoes(port), 20, "storescp answers")
        yield Receiver("storescp", port, "ANY")
    finally:
        stop(process)


def _echoes(port: int) -> bool:
    command = ["echoscu", "127.0.0.1", str(port)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _check_all_there(folder: Path, wanted: int) -> None:
    for name in ("node", "node in processes"):
        store = Catalogue(sqlite_url(folder / name / "node" / "catalogue.sqlite"))
        found = sum(study.n_instances for study in store.studies.all())
        store.close()
        if found != wanted:
            raise RuntimeError(f"{name}: {found} objects indexed, {wanted} were acknowledged")
