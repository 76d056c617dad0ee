"""Power cuts: what was acknowledged is on the disk at the moment it is acknowledged.

A file system of its own, in a file, takes objects in; at random moments right after an object was
acknowledged the file is copied as it is. The copy holds what the disk would hold if the power went
at that moment: what was synced, and nothing that only the memory knew. Each copy is mounted, which
replays its journal, and started up from. Needs root, and loop devices.
"""

import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mirv.service.catalogue import Catalogue, sqlite_url
from mirv.service.inbound.wire.receive_buffer import Budget, Buffer
from mirv.service.objects import repair
from mirv.service.objects.intake import Intake
from mirv.service.objects.spool import Spool
from tests.service.wire import ct_slice, part10

OBJECTS, CUTS, MEGABYTES = 200, 20, 256


def run() -> list[str]:
    """One row: objects, cuts, and what was lost."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        disk = folder / "disk.img"
        with disk.open("wb") as file:
            file.truncate(MEGABYTES << 20)
        subprocess.run(["mkfs.ext4", "-q", str(disk)], check=True)
        faults, cuts, rows_lost = _cut(folder, disk)
    verdict = "; ".join(faults) or "nothing acknowledged lost"
    return [
        f"power cuts: {OBJECTS} objects on ext4, {cuts} cuts, {rows_lost} rows made again: "
        f"{verdict}"
    ]


def _cut(folder: Path, disk: Path) -> tuple[list[str], int, int]:
    source = random.Random(0)
    when = set(source.sample(range(OBJECTS), CUTS))
    memory = Buffer(Budget(0))
    acknowledged: list[str] = []
    copies: list[tuple[Path, list[str]]] = []
    with _mounted(disk, folder / "live") as live:
        spool, store = Spool(live / "spool"), Catalogue(sqlite_url(live / "catalogue.sqlite"))
        intake = Intake(spool, store)
        for number in range(OBJECTS):
            # No zeros: they are what a block that was never written holds. Every other one goes by
            # way of the page cache, the rest from whole pages of memory straight to the disk.
            pixels = source.randbytes(2 * 200 * 200)
            memory.start(part10(ct_slice(number, Rows=200, Columns=200, PixelData=pixels)))
            with memory.content() as content:
                taken = intake.take(content if number % 2 else bytes(content), "CT@192.0.2.1")
            if taken.verdict == "stored":
                acknowledged.append(f"1.2.3.{number}")
            if number in when:
                copies.append((folder / f"cut{number}.img", list(acknowledged)))
                shutil.copyfile(disk, copies[-1][0])
        store.close()
    faults: list[str] = []
    rows_lost = 0
    for copy, expected in copies:
        with _mounted(copy, folder / "after") as after:
            rows_lost += _start_up(after, expected, faults)
        copy.unlink()
    return faults, len(copies), rows_lost


def _start_up(folder: Path, expected: list[str], faults: list[str]) -> int:
    """What a start after the cut makes of it; how many rows it had to make again."""
    spool, store = Spool(folder / "spool"), Catalogue(sqlite_url(folder / "catalogue.sqlite"))
    spool.sweep()
    before = len(store.instances.all())
    repair.put_right(spool, store, repair.check(spool, store, in_flight_s=0))
    rows = {row.sop_instance_uid: row for row in store.instances.all()}
    if lost := set(expected) - set(rows):
        faults.append(f"{len(lost)} of {len(expected)} acknowledged objects lost")
    if strangers := {row.source for row in rows.values()} - {"CT@192.0.2.1"}:
        faults.append(f"sources {sorted(strangers)}")
    if repair.check(spool, store, thorough=True, in_flight_s=0) != repair.Findings():
        faults.append("spool and index differ after the repair")
    store.close()
    return len(rows) - before


@contextmanager
def _mounted(disk: Path, place: Path) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", str(disk), str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
