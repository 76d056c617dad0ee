"""What DBOS keeps of work in flight is read again, also what an earlier version kept."""

import base64
import inspect
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, get_type_hints

import pytest
from dbos._error import DBOSMaxStepRetriesExceeded
from dbos._serialization import DBOSDefaultSerializer

from mirv.analysis.errors import PeerRefused, Transient, Unsuitable
from mirv.config.errors import MirvError, Unavailable
from mirv.config.settings import Settings
from mirv.config.settings.network import Destination
from mirv.service.catalogue import Catalogue, RunState, sqlite_url
from mirv.service.catalogue.received.arrivals import Conflict
from mirv.service.catalogue.run_rows import NewRun
from mirv.service.catalogue.states import ENDED
from mirv.service.objects.spool import Spool
from mirv.service.peers.association import NoAssociation
from mirv.service.peers.web_client import TooLarge
from mirv.service.work import commitments, deliveries, engine, fetches, notices, priors, runs
from mirv.service.work.context import Stopping, WorkContext
from mirv.service.work.recorded import FORMER_NAMES, know_former_names
from tests.peers import wait_until
from tests.service.work.test_engine import STEPS

# Written by the code of commit 28b2775, whose packages were `analysis`, `service` and so on.
SELECTION = '{"patient_id": "P"}'
UNSUITABLE = (
    "gASVVwAAAAAAAACMD2FuYWx5c2lzLmVycm9yc5SMClVuc3VpdGFibGWUk5SMC29iamVjdF9nb25llIwgb2Jq"
    "ZWN0IDEuMi4zIGlzIG5vIGxvbmdlciBzdG9yZWSUhpRSlC4="
)
TRANSIENT = (
    "gASVPAAAAAAAAACMD2FuYWx5c2lzLmVycm9yc5SMCVRyYW5zaWVudJSTlIwUUEFDUzogbm8gYXNzb2NpYXRp"
    "b26UhZRSlC4="
)
PEER_REFUSED = (
    "gASVcgAAAAAAAACMD2FuYWx5c2lzLmVycm9yc5SMC1BlZXJSZWZ1c2VklJOUjB1zdGF0dXMgMHhBODAxOiBD"
    "LUZJTkQgYXQgcGFjc5SFlFKUfZQojAZzdGF0dXOUTQGojAZkZXRhaWyUjA5DLUZJTkQgYXQgcGFjc5R1Yi4="
)
MIRV_ERROR = "gASVKwAAAAAAAACMD2FuYWx5c2lzLmVycm9yc5SMCU1pcnZFcnJvcpSTlIwDb2RklIWUUpQu"
TOO_LARGE = (
    "gASVRwAAAAAAAACMC3NlcnZpY2Uud2VilIwIVG9vTGFyZ2WUk5SMJGZvdW5kIGFuIGFuc3dlciBvZiBtb3Jl"
    "IHRoYW4gOCBieXRlc5SFlFKULg=="
)
RETRIED = (
    "gASV6QAAAAAAAACMC2Rib3MuX2Vycm9ylIwaREJPU01heFN0ZXBSZXRyaWVzRXhjZWVkZWSUk5SMC19maW5k"
    "X3ByaW9ylEsGXZQojA9hbmFseXNpcy5lcnJvcnOUjAlUcmFuc2llbnSUk5SMCnBhY3M6IGF3YXmUhZRSlIwL"
    "c2VydmljZS53ZWKUjAhUb29MYXJnZZSTlIwkZm91bmQgYW4gYW5zd2VyIG9mIG1vcmUgdGhhbiA4IGJ5dGVz"
    "lIWUUpSMCGJ1aWx0aW5zlIwMVGltZW91dEVycm9ylJOUjAl0aW1lZCBvdXSUhZRSlGWHlFKULg=="
)
MODULES = (commitments, deliveries, fetches, notices, priors, runs)
PLAIN = {str, int, float, bool, NoneType, list[str]}


@pytest.fixture(autouse=True)
def unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test knows the names because of another."""
    for name in FORMER_NAMES:
        monkeypatch.delitem(sys.modules, name, raising=False)


def read(recorded: str) -> Any:
    """As DBOS reads it."""
    know_former_names()
    return DBOSDefaultSerializer.deserialize(recorded)


@pytest.mark.parametrize(
    ("recorded", "kind", "message"),
    [
        (UNSUITABLE, Unsuitable, "object_gone: object 1.2.3 is no longer stored"),
        (TRANSIENT, Transient, "PACS: no association"),
        (PEER_REFUSED, PeerRefused, "status 0xA801: C-FIND at pacs"),
        (MIRV_ERROR, MirvError, "odd"),
        (TOO_LARGE, TooLarge, "found an answer of more than 8 bytes"),
    ],
)
def test_failures_of_an_earlier_version_are_what_they_were(
    recorded: str, kind: type[Exception], message: str
) -> None:
    found = read(recorded)
    assert type(found) is kind
    assert str(found) == message


def test_what_an_earlier_failure_holds_is_there() -> None:
    assert read(UNSUITABLE).reason.code == "object_gone"
    refused = read(PEER_REFUSED)
    assert (refused.status, refused.detail, refused.retryable) == (0xA801, "C-FIND at pacs", False)
    retried = read(RETRIED)
    assert type(retried) is DBOSMaxStepRetriesExceeded
    assert [type(one) for one in retried.errors] == [Transient, TooLarge, TimeoutError]


def test_only_those_names_are_entered() -> None:
    """No package of the user's is hidden by one of ours."""
    assert set(FORMER_NAMES) == {"analysis.errors", "service.web"}


@pytest.mark.parametrize(
    "fault",
    [
        Unsuitable("slice_missing", "found a gap"),
        Transient("away"),
        PeerRefused(0xA700, "C-GET from PACS"),
        Conflict("0" * 64),
        TooLarge("found an answer of more than 8 bytes"),
        Unavailable("[Errno 2] No such file"),
        NoAssociation(
            Destination(name="PACS", ae_title="P", host="h", port=104), "refused", for_good=True
        ),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_every_failure_of_a_step_is_read_again_as_it_was(fault: MirvError) -> None:
    kept = DBOSDefaultSerializer.serialize(DBOSMaxStepRetriesExceeded("step", 5, [fault]))
    (found,) = read(kept).errors
    assert type(found) is type(fault)
    assert (str(found), vars(found)) == (str(fault), vars(fault))


def test_workflows_and_steps_take_and_give_plain_data() -> None:
    """As they say; that no enum passes for its text is looked at in `conftest`."""
    steps = [
        vars(module)[name] for module in MODULES for name in sorted(STEPS) if name in vars(module)
    ]
    assert len(steps) == len(STEPS)
    for function in (*engine.WORKFLOWS, *steps):
        hints = get_type_hints(inspect.unwrap(function))
        assert set(hints.values()) <= PLAIN, function.__qualname__
        assert "return" in hints


@dataclass
class Bench:
    """Work in flight in a folder; what is analysed is refused."""

    folder: Path
    store: Catalogue
    work: WorkContext
    analysed: list[str] = field(default_factory=list)

    def launch(self) -> None:
        """Start, or start again."""
        engine.launch(self.work, sqlite_url(self.folder / "workflows.sqlite"), "test")

    def failures(self) -> list[str]:
        """What steps failed with, as it is on record."""
        with closing(sqlite3.connect(self.folder / "workflows.sqlite")) as books:
            rows = books.execute("SELECT error FROM operation_outputs WHERE error IS NOT NULL")
            return [error for (error,) in rows]

    def replace_failures(self, recorded: str) -> None:
        """Have it on record as another version would have written it."""
        with closing(sqlite3.connect(self.folder / "workflows.sqlite")) as books, books:
            books.execute(
                "UPDATE operation_outputs SET error = ? WHERE error IS NOT NULL", (recorded,)
            )


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    store = Catalogue(sqlite_url(tmp_path / "catalogue.sqlite"))

    class Plan:
        digest = "p"

    work = WorkContext(
        Settings(folder=tmp_path), Plan(), Spool(tmp_path / "spool"), store, None  # type: ignore[arg-type]
    )  # fmt: skip
    bench = Bench(tmp_path, store, work)

    def unsuitable(_work: WorkContext, run: Any, _opener: Any) -> None:
        bench.analysed.append(run.run_id)
        raise Unsuitable("slice_missing", "found a gap of 5 mm, wanted 2.5 mm")

    monkeypatch.setattr(runs, "analysed", unsuitable)
    bench.launch()
    yield bench
    engine.shutdown()
    store.close()


def test_a_run_cut_before_its_refusal_is_refused_for_the_reason_on_record(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step had failed under the old name; the new code reads it and goes on from there."""
    refuse, cut = type(bench.store.runs).refuse, []

    def end(*_: Any, **__: Any) -> None:
        cut.append(True)
        raise Stopping

    monkeypatch.setattr(type(bench.store.runs), "refuse", end)
    bench.store.runs.queue(NewRun("a", "1.9", "1.8", "P", "20200101", "i", "p", SELECTION), 1.7e9)
    run = bench.store.runs.get("a")
    assert run is not None
    runs.enqueue_run(run)
    wait_until(lambda: cut, 30, "the run is cut", 0.02)
    engine.shutdown()
    (recorded,) = bench.failures()
    assert b"mirv.analysis.errors" in base64.b64decode(recorded)
    bench.replace_failures(UNSUITABLE)

    monkeypatch.setattr(type(bench.store.runs), "refuse", refuse)
    bench.launch()
    wait_until(lambda: _state(bench) in ENDED, 30, "the run ends", 0.02)
    run = bench.store.runs.get("a")
    assert run is not None
    assert (run.state, run.reason_code) == (RunState.REFUSED, "object_gone")
    assert run.reason_detail == "object 1.2.3 is no longer stored"
    assert bench.analysed == ["a"]


def _state(bench: Bench) -> RunState:
    run = bench.store.runs.get("a")
    assert run is not None
    return RunState(run.state)
