"""A node goes on with the folder that an earlier version left when it was killed at work."""

import sqlite3
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from mirv.config.settings import Settings
from mirv.config.settings.keeping import Delivery
from mirv.config.settings.network import Destination, Http, Listener
from mirv.service.catalogue import Catalogue, sqlite_url
from mirv.service.commands.main import app
from mirv.service.node.node import Node
from mirv.service.study import plan
from tests.peers import free_port, storescu, wait_until
from tests.service.node.old_node.archive import Archive, archive
from tests.service.node.old_node.make import PROFILE, study

pytestmark = pytest.mark.peers

PACKED = Path(__file__).parent / "old_node" / "node-0.1.0.tar.xz"
CUT_OR_QUEUED = {"OLD-C", "OLD-D"}
OUTPUTS = 5
FLOWS = "workflows.sqlite"
Row = dict[str, Any]


def rows(folder: Path, table: str, file: str = "catalogue.sqlite") -> list[Row]:
    """A table as it is on disk, whatever the software says."""
    with closing(sqlite3.connect(folder / file)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]  # noqa: S608


def same(before: list[Row], after: list[Row], key: str) -> bool:
    """Whether all rows are still there with all they said; later versions may say more."""
    now = {row[key]: row for row in after}
    return all(
        row[key] in now and all(now[row[key]][name] == value for name, value in row.items())
        for row in before
    )


@dataclass(frozen=True)
class Left:
    """What the earlier node left."""

    folder: Path
    runs: list[Row]
    deliveries: list[Row]
    events: list[Row]
    positions: list[Row]

    def patients(self, *states: str) -> set[str]:
        """Whose runs are in these states."""
        return {run["patient_id"] for run in self.runs if run["state"] in states}


@pytest.fixture
def left(tmp_path: Path) -> Left:
    """The folder, unpacked at another place than it was made."""
    with tarfile.open(PACKED) as packed:
        packed.extractall(tmp_path, filter="data")
    folder = tmp_path / "node"
    tables = ("runs", "deliveries", "events", "positions")
    return Left(folder, *(rows(folder, table) for table in tables))


@dataclass(frozen=True)
class Now:
    """Today's node on the folder, and its destinations."""

    node: Node
    archive: Archive
    ward: Archive

    @property
    def runs(self) -> list[Row]:
        """All runs."""
        return rows(self.node.settings.folder, "runs")

    def deliveries(self, state: str) -> list[Row]:
        """Deliveries in a state."""
        found = rows(self.node.settings.folder, "deliveries")
        return [row for row in found if row["state"] == state]

    def wait(self, patients: set[str]) -> None:
        """Wait until these patients have a current run, finished, and nothing waits or is open."""

        def done() -> bool:
            current = [run for run in self.runs if run["superseded_by"] is None]
            finished = {run["patient_id"] for run in current if run["state"] == "finished"}
            is_open = any(run["state"] in ("queued", "running") for run in self.runs)
            settled = not self.node.catalogue.studies.unmatched()
            idle = settled and not is_open and not self.deliveries("waiting")
            return patients <= finished and idle

        wait_until(done, 120, f"all is done; runs {self.runs}; {self.deliveries('waiting')}")


@contextmanager
def going_on(left: Left, tmp_path: Path) -> Iterator[Now]:
    """Start today's node; both destinations are up."""
    ports = free_port(), free_port()
    settings = Settings(
        folder=left.folder,
        quiet_s=0.3,
        profiles=(PROFILE,),
        listener=Listener(port=free_port()),
        http=Http(enabled=False),
        delivery=Delivery(first_retry_s=0.3, longest_retry_s=0.5, max_attempts=100),
        destinations=(
            Destination(name="archive", ae_title="PEER", host="127.0.0.1", port=ports[0]),
            Destination(
                name="ward",
                ae_title="PEER",
                host="127.0.0.1",
                port=ports[1],
                outputs=("headline_sr",),
            ),
        ),
    )
    with archive(tmp_path / "archive", ports[0]) as all_of_it, archive(
        tmp_path / "ward", ports[1]
    ) as ward:  # fmt: skip
        node = Node(settings)
        node.start()
        try:
            yield Now(node, all_of_it, ward)
        finally:
            node.stop()


def retry_parked(now: Now, tmp_path: Path) -> None:
    """As an operator does it."""
    config = tmp_path / "mirv.yaml"
    config.write_text(yaml.safe_dump({"folder": str(now.node.settings.folder)}))
    said = CliRunner().invoke(app, ["deliveries", "retry", "--config", str(config)])
    assert "1 deliveries will be tried again" in said.output


def uids(left: Left, wanted: list[Row]) -> Counter[str]:
    """SOP Instance UIDs of deliveries."""
    made = {
        (row["run_id"], row["role"]): row["sop_instance_uid"]
        for row in rows(left.folder, "artifacts")
    }
    return Counter(made[row["run_id"], row["role"]] for row in wanted)


def to(name: str, deliveries: list[Row]) -> list[Row]:
    """Those for one destination."""
    return [row for row in deliveries if row["destination"] == name]


def test_the_folder_is_what_its_maker_says(left: Left) -> None:
    """Else the test below would show less than it says."""
    states = Counter((run["state"], run["superseded_by"] is not None) for run in left.runs)
    assert states == {
        ("finished", False): 3, ("finished", True): 1, ("running", False): 1, ("queued", False): 1,
    }  # fmt: skip
    assert left.patients("queued", "running") == CUT_OR_QUEUED
    assert sum(run["prior"] is not None for run in left.runs) == 1
    assert sum(run["predecessor"] is not None for run in left.runs) == 1
    sent = Counter((row["destination"], row["state"]) for row in left.deliveries)
    assert sent == {
        ("archive", "delivered"): 4 * OUTPUTS, ("ward", "waiting"): 3, ("ward", "parked"): 1,
    }  # fmt: skip
    flows = {row["workflow_uuid"]: row for row in rows(left.folder, "workflow_status", FLOWS)}
    under_way = {
        run["state"]: flows[run["run_id"]]["status"]
        for run in left.runs
        if run["state"] != "finished"
    }
    assert under_way == {"running": "PENDING", "queued": "ENQUEUED"}
    assert len(rows(left.folder, "waiting")) == 1
    assert "scanner" in [row["source"] for row in left.positions]


@pytest.mark.parametrize("version", [None, "999.0"], ids=["this version", "a later version"])
def test_all_goes_on_and_nothing_comes_twice(
    left: Left, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    if version:
        monkeypatch.setattr(plan, "SOFTWARE_VERSION", version)
    late = study(tmp_path / "e", "OLD-E", seed=4)
    with going_on(left, tmp_path) as now:
        now.wait(CUT_OR_QUEUED)
        parked = [row for row in left.deliveries if row["state"] == "parked"]
        assert same(parked, now.deliveries("parked"), "id")
        assert len(now.deliveries("parked")) == 1
        assert not set(uids(left, parked)) & set(now.ward.received())

        retry_parked(now, tmp_path)
        # What waited for its images goes on when they come.
        assert storescu(now.node.settings.listener.port, late.ct).returncode == 0
        now.wait({*CUT_OR_QUEUED, "OLD-E"})
        wait_until(lambda: not now.node.catalogue.studies.waiting(), 30, "nothing waits")

        before = to("archive", [row for row in left.deliveries if row["state"] == "delivered"])
        delivered = now.deliveries("delivered")
        arrived = now.archive.received() + uids(left, before)
        assert arrived == uids(left, to("archive", delivered))
        assert now.ward.received() == uids(left, to("ward", delivered))
        assert set(arrived.values()) == set(now.ward.received().values()) == {1}
        same_plan = all(run["plan_digest"] == now.node.plan.digest for run in left.runs)
    assert_nothing_was_done_again(left, same_plan)
    assert_upgraded(left.folder, tmp_path)


def assert_nothing_was_done_again(left: Left, same_plan: bool) -> None:
    """What was finished is as it was; what was begun and what came since has one result each."""
    runs = rows(left.folder, "runs")
    assert same([run for run in left.runs if run["state"] == "finished"], runs, "run_id")
    # Where the clock is behind the folder's, what comes settles at once, and again when more comes.
    current = [run for run in runs if run["superseded_by"] is None]
    new = {run["run_id"] for run in current} - {run["run_id"] for run in left.runs}
    # Under another version what was begun is begun anew: its identity names the version.
    assert len(new) == (1 if same_plan else 1 + len(CUT_OR_QUEUED))
    finished = Counter(run["patient_id"] for run in current if run["state"] == "finished")
    assert finished == {"OLD-A": 2, "OLD-B": 1, "OLD-C": 1, "OLD-D": 1, "OLD-E": 1}
    assert same(left.events, rows(left.folder, "events"), "id")
    followed = [row for row in left.positions if row["source"] == "scanner"]
    assert same(followed, rows(left.folder, "positions"), "source")
    states = {row["state"] for row in rows(left.folder, "deliveries")}
    assert states == {"delivered"}


def assert_upgraded(folder: Path, tmp_path: Path) -> None:
    """The catalogue has the schema of one that is made today."""
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    Catalogue(sqlite_url(fresh / "catalogue.sqlite")).close()
    assert columns(folder) == columns(fresh)
    assert rows(folder, "alembic_version") == rows(fresh, "alembic_version")


def columns(folder: Path) -> set[tuple[str, str]]:
    """Tables and their columns."""
    with closing(sqlite3.connect(folder / "catalogue.sqlite")) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {
            (table, column)
            for (table,) in tables.fetchall()
            for (column,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
        }
