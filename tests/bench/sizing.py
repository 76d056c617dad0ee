"""What one core and one database carry: studies a day, workflows and steps a second, rows a second.

The studies are computed with one extraction process; the seconds are those of all processes
together, so they hold for any number of cores. The databases do nothing but keep the books: their
workflows have three empty steps, as a run has.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from dbos import DBOS, SetWorkflowID

from mirv.config.settings import Settings
from mirv.dicom_io.files.folder import headers_of_folder
from mirv.dicom_io.outputs import render
from mirv.dicom_io.phantom.patient import write_study
from mirv.dicom_io.study.matching import match
from mirv.service.catalogue import Catalogue, sqlite_url
from mirv.service.objects.spool import Spool
from mirv.service.study import pipeline, result_record
from mirv.service.study.plan import extractor_from, plan_from
from mirv.service.work import engine
from mirv.service.work.context import DELIVERIES, RUNS, WorkContext
from tests.conftest import SHARED
from tests.service.catalogue.test_catalogue import instance
from tests.service.postgres import create_database, postgres

_DAY_S = 86_400
_TINY = 150
_ROWS = 2000


def run() -> list[str]:
    """Rows of studies, workflows and index."""
    with tempfile.TemporaryDirectory() as name, postgres() as server:
        folder = Path(name)
        return [*_studies(folder), *_books(folder, server), *_index(folder, server)]


# Studies


def _studies(folder: Path) -> Iterator[str]:
    settings = Settings(extraction={"workers": 1})  # type: ignore[arg-type]
    plan = plan_from(settings)
    with extractor_from(settings) as extractor:

        def compute(paths: list[Path]) -> tuple[int, float]:
            found = headers_of_folder(paths)
            (selection,) = match(found.headers, plan.reading).selections
            study, result = pipeline.analyse_selection(
                selection, lambda uid: found.paths[uid], plan, extractor=extractor
            )
            record = result_record.to_bytes(
                result_record.record_of(study, result, selection.identity)
            )
            context = pipeline.render_context("0" * 64, plan, settings, datetime.now(UTC))
            outputs = render(study, result, context)
            size = len(record) + sum(len(one.content) for one in outputs)
            return len(study.lesions), size / 1e6

        small = write_study(folder / "small", n_lesions=2, shape=(20, 128, 128))
        compute([small.folder])  # warm: imports, fonts, processes
        for what, paths in _patients(folder):
            before, started = _cpu_seconds(), time.perf_counter()
            lesions, size = compute(paths)
            wall = time.perf_counter() - started
            cpu = _cpu_seconds() - before
            yield (
                f"{what}, {lesions} lesions, both profiles, all outputs: {cpu:.1f} s of one core "
                f"({wall:.1f} s elapsed with one extraction process): {_DAY_S / cpu:.0f} studies "
                f"a day and core; {size:.1f} MB of result and outputs"
            )


def _patients(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    made = write_study(folder / "phantom", n_lesions=12, shape=(100, 256, 256))
    yield "phantom 256x256x100", [made.folder]
    for patient in ("ML12", "ML40"):
        baseline = SHARED / "multilesion" / patient / "baseline"
        if baseline.is_dir():
            yield patient, [baseline / "CT", baseline / "SEG_lesions.dcm"]


def _cpu_seconds() -> float:
    """Of this process and all below it, ended ones included."""
    ticks, parents = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(stat.parent.name)
        parents[pid] = int(fields[1])
        ticks[pid] = sum(map(int, fields[11:15]))
    ours = {os.getpid()}
    for _ in range(4):
        ours |= {pid for pid, parent in parents.items() if parent in ours}
    return sum(ticks[pid] for pid in ours) / os.sysconf("SC_CLK_TCK")


# Workflows


@DBOS.workflow()
def tiny(number: int) -> int:
    """A run that does nothing, durably."""
    return _step(_step(_step(number)))


@DBOS.step()
def _step(number: int) -> int:
    return number


def _books(folder: Path, server: str) -> Iterator[str]:
    urls = {
        "SQLite": sqlite_url(folder / "workflows.sqlite"),
        "PostgreSQL": create_database(server, "workflows"),
    }
    for name, url in urls.items():
        with _working(folder / name, url):
            for queue, what in ((RUNS, "one at a time"), (DELIVERIES, "eight at a time")):
                rate = _rate(queue, f"{name}{queue}")
                yield (
                    f"{name}: {rate:.1f} workflows of 3 steps a second, {what} in one process "
                    f"({3 * rate:.0f} steps/s, {rate * _DAY_S:.0f} a day)"
                )
            started = time.perf_counter()
            for number in range(_TINY):
                tiny(number)
            rate = _TINY / (time.perf_counter() - started)
            yield f"{name}: {rate:.0f} workflows a second ({3 * rate:.0f} steps/s) without a queue"
    size = sum(path.stat().st_size for path in folder.glob("workflows.sqlite*"))
    yield f"SQLite: {size / (3 * _TINY) / 1000:.1f} kB a workflow of 3 steps on disk"
    rate = _with_workers(folder, create_database(server, "shared"), 3)
    yield f"PostgreSQL: {rate:.1f} workflows of 3 steps a second, one at a time in 3 workers"


@contextmanager
def _working(folder: Path, url: str, executor: str = "bench") -> Iterator[None]:
    settings = Settings(folder=folder)
    folder.mkdir(parents=True, exist_ok=True)
    store = Catalogue(sqlite_url(folder / f"{executor}.sqlite"))
    bench = WorkContext(settings, None, Spool(folder / "spool"), store, None)  # type: ignore[arg-type]
    engine.launch(bench, url, executor)
    try:
        yield
    finally:
        engine.shutdown()
        store.close()


def _rate(queue: str, prefix: str) -> float:
    started = time.perf_counter()
    handles = []
    for number in range(_TINY):
        with SetWorkflowID(f"{prefix}{number}"):
            handles.append(DBOS.enqueue_workflow(queue, tiny, number))
    for handle in handles:
        handle.get_result(polling_interval_sec=0.05)
    return _TINY / (time.perf_counter() - started)


def _with_workers(folder: Path, url: str, number: int) -> float:
    """Tiny runs a second in so many processes; the one that queues them takes part."""
    code = (
        "import sys, time; from pathlib import Path; from tests.bench import sizing\n"
        "with sizing._working(Path(sys.argv[1]), sys.argv[2], sys.argv[3]):\n"
        "    print('up', flush=True); sys.stdin.read()\n"
    )
    others = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(folder / f"w{n}"), url, f"w{n}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for n in range(1, number)
    ]
    try:
        for other in others:
            assert other.stdout is not None
            while other.stdout.readline().strip() != b"up":
                pass
        with _working(folder / "w0", url, "w0"):
            return _rate(RUNS, "shared")
    finally:
        for other in others:
            other.communicate()


# Index


def _index(folder: Path, server: str) -> Iterator[str]:
    urls = {
        "SQLite": sqlite_url(folder / "catalogue.sqlite"),
        "PostgreSQL": create_database(server, "catalogue"),
    }
    for name, url in urls.items():
        store = Catalogue(url)
        first = 0
        for threads in (1, 8):
            rate = _rows_a_second(store, first, threads)
            first += _ROWS
            yield f"{name}: {rate:.0f} objects indexed a second, {threads} at a time"
        store.close()


def _rows_a_second(store: Catalogue, first: int, threads: int) -> float:
    def add(which: int) -> Callable[[], None]:
        def work() -> None:
            for number in range(first + which, first + _ROWS, threads):
                store.arrivals.add(instance(number), float(number))

        return work

    started = time.perf_counter()
    at_work = [threading.Thread(target=add(which)) for which in range(threads)]
    for thread in at_work:
        thread.start()
    for thread in at_work:
        thread.join()
    return _ROWS / (time.perf_counter() - started)
