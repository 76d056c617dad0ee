"""A node under load: one study of 10,000 instances, and 100,000 objects one after the other.

What is counted: everything indexed, the study matched once, the page's slowest answer meanwhile,
and the memory of the node with all its processes after a tenth of the objects and at the end.
"""

import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import sqlalchemy as sa
from pydicom import Dataset

from mirv.service.catalogue import Catalogue, sqlite_url
from mirv.service.catalogue.database import schema
from tests.integration.node import NodeProcess, node
from tests.peers import PEER_ENVIRONMENT, free_port, wait_until
from tests.service.wire import ct_slice, part10

STUDY, OBJECTS = 10_000, 100_000
AT_ONCE = 4
AN_ASSOCIATION = 500
PAGES = ("/", "/api/studies", "/health")


@dataclass
class Load:
    """What a load test counted.

    Attributes
    ----------
    objects, indexed : int
        Acknowledged, and found in the catalogue.
    seconds : float
        Of sending.
    early_mb, late_mb : float
        Memory of the node and its processes after a tenth of the objects, and at the end.
    """

    objects: int
    indexed: int = 0
    seconds: float = 0.0
    early_mb: float = 0.0
    late_mb: float = 0.0


@dataclass
class Page:
    """How long the page took to answer."""

    slowest_s: float = 0.0
    answers: int = 0
    faults: list[str] = field(default_factory=list)


def run() -> list[str]:
    """Both tests, a row each."""
    with tempfile.TemporaryDirectory() as folder:
        return [_large_study(Path(folder) / "study"), _long_traffic(Path(folder) / "traffic")]


def _large_study(folder: Path) -> str:
    with running(folder, quiet_s=5.0) as served, watched(served) as page:
        started = time.perf_counter()
        send(served.port, folder / "sent", STUDY, study=lambda _association: 1)
        seconds = time.perf_counter() - started
        matchings: set[tuple[int, float]] = set()
        catalogue = Catalogue(sqlite_url(folder / "node" / "catalogue.sqlite"))

        def matched() -> bool:
            table = schema.matchings.c
            with catalogue._database.read() as connection:
                found = connection.execute(sa.select(table.n_instances, table.matched_at))
                matchings.update((row[0], row[1]) for row in found)
            return any(number == STUDY for number, _ in matchings)

        wait_until(matched, 120, "the study is matched")
        settled = time.perf_counter() - started - seconds
        time.sleep(7)  # longer than the quiet period: it must not be matched again
        matched()
        (study,) = catalogue.studies.all()
        catalogue.close()
    return (
        f"a study of {STUDY} instances over {AT_ONCE} associations: {study.n_instances} indexed in "
        f"{seconds:.1f} s ({STUDY / seconds:.0f} objects/s), matched {len(matchings)} time(s), "
        f"{settled - 5:.1f} s beyond the quiet period; {describe(page)}"
    )


def _long_traffic(folder: Path) -> str:
    with running(folder, quiet_s=5.0) as served, watched(served) as page:
        load = traffic(served, folder, OBJECTS)
    return (
        f"{load.objects} objects over {AT_ONCE} associations at a time: {load.indexed} indexed in "
        f"{load.seconds:.0f} s ({load.objects / load.seconds:.0f} objects/s); memory "
        f"{load.early_mb:.0f} MB after a tenth, {load.late_mb:.0f} MB at the end, ratio "
        f"{load.late_mb / load.early_mb:.3f}; {describe(page)}"
    )


def describe(page: Page) -> str:
    """How the page answered, in words."""
    faults = f", {len(page.faults)} failed: {page.faults[0]}" if page.faults else ""
    return f"page answered {page.answers} times, slowest {page.slowest_s:.2f} s{faults}"


def traffic(served: NodeProcess, folder: Path, objects: int) -> Load:
    """Send objects, a study an association, and weigh the node on the way."""
    load = Load(objects)
    started = time.perf_counter()
    early = objects // 10
    send(served.port, folder / "sent", early, study=lambda association: association)
    load.early_mb = memory_mb(served)
    first = -(-early // AN_ASSOCIATION)
    send(
        served.port, folder / "sent", objects - early, study=lambda association: first + association
    )
    load.seconds = time.perf_counter() - started
    load.late_mb = memory_mb(served)
    catalogue = Catalogue(sqlite_url(folder / "node" / "catalogue.sqlite"))
    load.indexed = sum(one.n_instances for one in catalogue.studies.all())
    catalogue.close()
    return load


@contextmanager
def running(folder: Path, *, quiet_s: float, processes: int = 1) -> Iterator[NodeProcess]:
    """A node with its page."""
    listener = {"port": free_port(), "processes": processes}
    with node(folder, [], quiet_s=quiet_s, listener=listener) as served:
        yield served


def send(port: int, folder: Path, objects: int, study: Callable[[int], int]) -> None:
    """Send small objects by storescu, `AT_ONCE` associations at a time.

    Parameters
    ----------
    study : callable
        Number of an association to the number of its study.
    """
    folder.mkdir(parents=True, exist_ok=True)
    template = part10(_template())
    numbers = iter(range(-(-objects // AN_ASSOCIATION)))
    taking = threading.Lock()
    faults: list[str] = []

    def work() -> None:
        while not faults:
            with taking:
                association = next(numbers, None)
            if association is None:
                return
            number = min(AN_ASSOCIATION, objects - association * AN_ASSOCIATION)
            paths = _write(folder, template, study(association), association, number)
            command = ["storescu", "-aec", "MIRV", "127.0.0.1", str(port), *map(str, paths)]
            sent = subprocess.run(command, env=PEER_ENVIRONMENT, capture_output=True, check=False)
            for path in paths:
                path.unlink()
            if sent.returncode:
                faults.append(sent.stderr.decode("utf-8", "replace")[-300:])

    threads = [threading.Thread(target=work) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise RuntimeError(f"not all was taken: {faults[0]}")


_STUDY, _INSTANCE = "1.2.840.77777.1000000", "1.2.840.88888.10000000000"


def _template() -> Dataset:
    ds = ct_slice()
    ds.StudyInstanceUID, ds.SOPInstanceUID = _STUDY, _INSTANCE
    ds.SeriesInstanceUID = _STUDY + ".1"
    return ds


def _write(folder: Path, template: bytes, study: int, association: int, number: int) -> list[Path]:
    of_study = template.replace(_STUDY.encode(), f"1.2.840.77777.{1_000_000 + study}".encode())
    paths = []
    for one in range(number):
        instance = 10_000_000_000 + (study * 1000 + association) * 1000 + one
        paths.append(folder / f"{association}-{one}.dcm")
        paths[-1].write_bytes(
            of_study.replace(_INSTANCE.encode(), f"1.2.840.88888.{instance}".encode())
        )
    return paths


@contextmanager
def watched(served: NodeProcess) -> Iterator[Page]:
    """Ask for the page all the while."""
    page, done = Page(), threading.Event()

    def look() -> None:
        with httpx.Client(base_url=served.url, timeout=30, trust_env=False) as client:
            while not done.wait(0.2):
                for path in PAGES:
                    started = time.perf_counter()
                    try:
                        client.get(path).raise_for_status()
                    except httpx.HTTPError as fault:
                        page.faults.append(f"{path}: {type(fault).__name__}")
                    page.slowest_s = max(page.slowest_s, time.perf_counter() - started)
                    page.answers += 1

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield page
    finally:
        done.set()
        thread.join()


def memory_mb(served: NodeProcess) -> float:
    """Resident memory of the node and every process it started."""
    if served.process is None:
        raise RuntimeError("the node does not run")
    todo, total = [served.process.pid], 0
    while todo:
        process = Path(f"/proc/{todo.pop()}")
        for line in (process / "status").read_text("ascii").splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1])
        for task in (process / "task").iterdir():
            todo += map(int, (task / "children").read_text("ascii").split())
    return total / 1024
