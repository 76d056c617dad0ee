"""Deliveries with storage commitment, from waiting to committed or parked; peers that forget.

A fake archive plays what no real peer does on purpose: to forget, or never to answer.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from pynetdicom import AE, build_role, evt
from typer.testing import CliRunner

from mirv.config.settings import Settings, load_settings
from mirv.config.settings.network import Destination
from mirv.service.catalogue import ArtifactRow, Catalogue, DeliveryRow, EventKind, sqlite_url
from mirv.service.catalogue.run_rows import NewRun
from mirv.service.commands.main import app
from mirv.service.inbound.listener import Listener
from mirv.service.objects.spool import Spool
from mirv.service.peers.commitment import (
    PUSH_INSTANCE,
    PUSH_MODEL,
    CommitmentCalls,
    answer,
    read_request,
)
from mirv.service.peers.statuses import NO_SUCH_INSTANCE
from mirv.service.work import commitments, deliveries, engine
from mirv.service.work.context import WorkContext
from tests.peers import free_port, orthanc, wait_until
from tests.service.wire import CT, ct_slice, part10

RUN = "a" * 64
OBJECTS = ("1.2.3.1", "1.2.3.2")


@dataclass
class Archive:
    """A storage SCP: whether it keeps what it takes, and where it answers for it.

    Attributes
    ----------
    keeps : callable
        Given the SOP Instance UID and how often it has come.
    answers : str
        ``same`` association, a ``new`` one, ``never``.
    """

    port: int
    node_port: int
    keeps: Callable[[str, int], bool] = lambda _uid, _times: True
    answers: str = "same"
    stored: Counter[str] = field(default_factory=Counter)
    kept: set[str] = field(default_factory=set)
    asked: int = 0

    def take(self, event: evt.Event) -> int:
        """Take an object, and perhaps keep it."""
        uid = str(event.request.AffectedSOPInstanceUID)
        self.stored[uid] += 1
        if self.keeps(uid, self.stored[uid]):
            self.kept.add(uid)
        return 0

    def act(self, event: evt.Event) -> tuple[int, None]:
        """Take a request, and answer it in a moment."""
        self.asked += 1
        transaction, references = read_request(event.action_information)
        there = [one for one in references if one.sop_instance_uid in self.kept]
        gone = [(one, NO_SUCH_INSTANCE) for one in references if one not in there]
        said = answer(transaction, there, gone)
        if self.answers == "same":
            report = event.assoc.send_n_event_report
            arguments = (said[1], said[0], PUSH_MODEL, PUSH_INSTANCE)
            threading.Timer(0.1, report, arguments).start()
        elif self.answers == "new":
            threading.Timer(0.1, self._call, said).start()
        return 0, None

    def _call(self, kind: int, information: Any) -> None:
        ae = AE("ARCHIVE")
        ae.add_requested_context(PUSH_MODEL)
        role = build_role(PUSH_MODEL, scp_role=True)
        association = ae.associate("127.0.0.1", self.node_port, ae_title="MIRV", ext_neg=[role])
        association.send_n_event_report(information, kind, PUSH_MODEL, PUSH_INSTANCE)
        association.release()


@contextmanager
def archive(node_port: int) -> Iterator[Archive]:
    ae = AE("ARCHIVE")
    ae.add_supported_context(CT)
    ae.add_supported_context(PUSH_MODEL)
    made = Archive(free_port(), node_port)
    server = ae.start_server(
        ("127.0.0.1", made.port),
        block=False,
        evt_handlers=[(evt.EVT_C_STORE, made.take), (evt.EVT_N_ACTION, made.act)],
    )
    try:
        yield made
    finally:
        ae.shutdown()
        server.server_close()


@dataclass
class Desk:
    """A node without its pipeline: one finished run, and whatever sends it."""

    config: Path
    catalogue: Catalogue

    def deliveries(self, state: str, commitment: str, seconds: float = 30) -> list[DeliveryRow]:
        """Both deliveries once they are so."""

        def there() -> bool:
            rows = self.catalogue.deliveries.all()
            return all((row.state, row.commitment) == (state, commitment) for row in rows)

        wait_until(
            there, seconds, f"{state}, {commitment}: {self.catalogue.deliveries.all()}", 0.05
        )
        return self.catalogue.deliveries.all()

    def retry(self) -> str:
        """The one command that tries parked deliveries again."""
        done = CliRunner().invoke(app, ["deliveries", "retry", "--config", str(self.config)])
        assert done.exit_code == 0, done.output
        return done.output


@contextmanager
def desk(folder: Path, port: int, destination: Destination, **delivery: Any) -> Iterator[Desk]:
    """Two outputs of a finished run on their way to a destination."""
    content = {
        "folder": str(folder),
        "listener": {"port": port},
        "destinations": [destination.model_dump(mode="json", exclude_none=True)],
        "delivery": {"first_retry_s": 0.1, "longest_retry_s": 0.2, "max_attempts": 3, **delivery},
    }
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "mirv.yaml"
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    settings = load_settings(config)
    catalogue, spool = Catalogue(sqlite_url(folder / "catalogue.sqlite")), Spool(folder / "spool")
    _finish_a_run(catalogue, spool, settings)
    work = WorkContext(settings, None, spool, catalogue, None)  # type: ignore[arg-type]
    listener = Listener(
        settings.listener,
        spool,
        catalogue,
        commitment=CommitmentCalls(report=lambda one: commitments.note_report(work, one)),
    )
    listener.start()
    engine.launch(work, sqlite_url(folder / "workflows.sqlite"), "test")
    ended = threading.Event()

    def start_due() -> None:
        while not ended.wait(0.05):
            for due in catalogue.deliveries.due(time.time()):
                deliveries.enqueue_delivery(*due)

    ticking = threading.Thread(target=start_due)
    ticking.start()
    try:
        yield Desk(config, catalogue)
    finally:
        ended.set()
        ticking.join()
        listener.stop()
        engine.shutdown()
        catalogue.close()


def _finish_a_run(catalogue: Catalogue, spool: Spool, settings: Settings) -> None:
    now = time.time()
    catalogue.runs.queue(NewRun(RUN, "1.2.3", "1.2.3.0", "P", "20200101", "i", "p", "{}"), now)
    catalogue.runs.start(RUN, now)
    rows = []
    for number, uid in enumerate(OBJECTS, 1):
        kept = spool.put((part10(ct_slice(number)),))
        rows.append(
            ArtifactRow(RUN, f"role{number}", number, CT, uid, "1.2.3.0", kept.sha256, kept.size)
        )
    (to,) = settings.destinations
    routes = [(row.role, to.name) for row in rows]
    assert catalogue.runs.finish(RUN, rows, routes, settings.delivery.max_attempts, now)


@pytest.fixture
def far(tmp_path: Path) -> Iterator[tuple[Archive, Callable[[str], Any]]]:
    """The archive, and a desk that sends to it with a kind of commitment."""
    port = free_port()
    with archive(port) as made:

        def open_desk(commitment: str, **delivery: Any) -> Any:
            to = Destination(
                name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=made.port,
                commitment=commitment,  # type: ignore[arg-type]
            )  # fmt: skip
            return desk(tmp_path, port, to, **delivery)

        yield made, open_desk


Far = tuple[Archive, Callable[..., Any]]


def test_off_asks_for_nothing(far: Far) -> None:
    made, open_desk = far
    with open_desk("off") as desk:
        desk.deliveries("delivered", "")
        assert made.asked == 0
        assert made.stored == dict.fromkeys(OBJECTS, 1)


@pytest.mark.parametrize(
    ("commitment", "answers"), [("wanted", "same"), ("required", "same"), ("required", "new")]
)
def test_an_answer_by_either_way_is_noted(far: Far, commitment: str, answers: str) -> None:
    made, open_desk = far
    made.answers = answers
    with open_desk(commitment) as desk:
        desk.deliveries("delivered", "committed")
        assert made.stored == dict.fromkeys(OBJECTS, 1)
        kinds = Counter(event.kind for event in desk.catalogue.events.all(run_id=RUN))
        assert kinds["commitment_committed"] == kinds["delivered"] == 2


def test_what_a_destination_forgot_is_sent_again(far: Far) -> None:
    """It takes both, forgets one, says so when asked, and keeps it the second time."""
    made, open_desk = far
    made.keeps = lambda uid, times: uid != OBJECTS[1] or times > 1
    with open_desk("required") as desk:
        desk.deliveries("delivered", "committed")
        assert made.stored == {OBJECTS[0]: 1, OBJECTS[1]: 2}


@pytest.mark.parametrize("commitment", ["wanted", "required"])
def test_who_forgets_for_ever_is_given_up_and_one_command_tries_again(
    far: Far, commitment: str
) -> None:
    made, open_desk = far
    made.keeps = lambda _uid, _times: False
    with open_desk(commitment) as desk:
        rows = desk.deliveries("parked", "refused")
        assert all("0x0112" in row.detail for row in rows)
        assert made.stored == dict.fromkeys(OBJECTS, 3)
        made.keeps = lambda _uid, _times: True
        assert "2 deliveries" in desk.retry()
        desk.deliveries("delivered", "committed")
        assert made.stored == dict.fromkeys(OBJECTS, 4)


def test_who_never_answers_is_asked_again_and_given_up_where_required(far: Far) -> None:
    made, open_desk = far
    made.answers = "never"
    with open_desk("required", commitment_timeout_s=1.2, max_attempts=2) as desk:
        rows = desk.deliveries("parked", "asked")
        assert {row.detail for row in rows} == {"no commitment"}
        assert made.asked == 2
        assert made.stored == dict.fromkeys(OBJECTS, 2)


def test_who_never_answers_has_what_was_stored_where_wanted(far: Far) -> None:
    made, open_desk = far
    made.answers = "never"
    with open_desk("wanted") as desk:
        desk.deliveries("delivered", "asked")
        wait_until(lambda: made.asked, 10, "it is asked")
        assert made.stored == dict.fromkeys(OBJECTS, 1)


@pytest.mark.peers
def test_an_orthanc_that_lost_an_object_says_so_and_gets_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One object is deleted in Orthanc after it was stored and before commitment is asked."""
    port = free_port()
    ask = commitments.request_commitment
    with orthanc(tmp_path / "orthanc", {"NODE": ("MIRV", port)}) as peer:
        lost: list[str] = []

        def lose_and_ask(*arguments: Any) -> str:
            if not lost:
                lost.extend(peer.find("Instance", SOPInstanceUID=OBJECTS[0]))
                peer.http.delete(f"/instances/{lost[0]}").raise_for_status()
            return ask(*arguments)

        monkeypatch.setattr(commitments, "request_commitment", lose_and_ask)
        to = Destination(
            name="orthanc", ae_title="ORTHANC", host="127.0.0.1", port=peer.dicom_port,
            commitment="required",
        )  # fmt: skip
        with desk(tmp_path / "node", port, to) as made:
            made.deliveries("delivered", "committed")
            refused = [
                e for e in made.catalogue.events.all() if e.kind == EventKind.COMMITMENT_REFUSED
            ]
            assert [event.object_uid for event in refused] == [OBJECTS[0]]
        assert len(peer.find("Instance", StudyInstanceUID="1.2.3")) == 2
