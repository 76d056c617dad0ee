"""Durable ingest beside storescp and Orthanc, all on this machine, in one run.

137 CT slices (72 MB) by storescu, TCP_NODELAY on every side, over one association and over four at
once. The rivals sync nothing and index nothing (storescp) or what they do by themselves (Orthanc).
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import yaml

from tests.peers import PEER_ENVIRONMENT, free_port, orthanc, stop, storescu, wait_until
from tests.service.wire import ct_slice, part10

OBJECTS = 137
REPEATS = 3


def run() -> list[str]:
    """One row a receiver and number of associations: objects a second, ratio to the node."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for associations in (1, 4):
            rates: dict[str, float] = {}
            for receiver in (_node, _orthanc, _storescp):
                rates[receiver.__name__.strip("_")] = max(
                    _rate(receiver, folder / f"{receiver.__name__}{associations}{n}", associations)
                    for n in range(REPEATS)
                )
            told = ", ".join(f"{who} {rate:.0f}" for who, rate in rates.items())
            rows.append(
                f"durable ingest, {associations} association(s), objects/s: {told}; node / Orthanc "
                f"{rates['node'] / rates['orthanc']:.2f}, node / storescp "
                f"{rates['node'] / rates['storescp']:.2f}"
            )
    return rows


def _rate(
    receiver: Callable[[Path], "Iterator[tuple[int, str]]"], folder: Path, associations: int
) -> float:
    source = np.random.default_rng(0)
    batches: list[list[Path]] = [[] for _ in range(associations)]
    (folder / "sent").mkdir(parents=True)
    for number in range(OBJECTS):
        pixels = source.integers(-1000, 1000, 512 * 512, np.int16).tobytes()
        path = folder / "sent" / f"{number}.dcm"
        path.write_bytes(part10(ct_slice(number, Rows=512, Columns=512, PixelData=pixels)))
        batches[number % associations].append(path)
    with contextmanager(receiver)(folder) as (port, called):
        storescu(port, batches[0][:1], called)  # warm
        started = time.perf_counter()
        senders = [
            subprocess.Popen(
                ["storescu", "-aec", called, "127.0.0.1", str(port), *map(str, batch)],
                env=PEER_ENVIRONMENT,
            )
            for batch in batches
        ]
        failed = [sender for sender in senders if sender.wait() != 0]
        seconds = time.perf_counter() - started
    if failed:
        raise RuntimeError(f"{receiver.__name__}: {len(failed)} senders failed")
    return OBJECTS / seconds


def _node(folder: Path) -> Iterator[tuple[int, str]]:
    port, config = free_port(), folder / "mirv.yaml"
    content = {
        "folder": str(folder / "node"),
        "listener": {"port": port},
        "http": {"enabled": False},
    }
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    command = "from service.cli import main; main()"
    with (folder / "node.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", command, "serve", "--config", str(config)],
            stdout=log,
            stderr=log,
        )
        try:
            wait_until(lambda: _echoes(port, "MIRV"), 60, "the node answers")
            yield port, "MIRV"
        finally:
            stop(process)


def _orthanc(folder: Path) -> Iterator[tuple[int, str]]:
    with orthanc(folder / "orthanc") as peer:
        yield peer.dicom_port, peer.ae_title


def _storescp(folder: Path) -> Iterator[tuple[int, str]]:
    port, target = free_port(), folder / "received"
    target.mkdir()
    process = subprocess.Popen(
        ["storescp", "--fork", "-od", str(target), str(port)], env=PEER_ENVIRONMENT
    )
    try:
        wait_until(lambda: _echoes(port, "ANY"), 20, "storescp answers")
        yield port, "ANY"
    finally:
        stop(process)


def _echoes(port: int, called: str) -> bool:
    command = ["echoscu", "-aec", called, "127.0.0.1", str(port)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
