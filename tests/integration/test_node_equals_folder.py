"""Twenty histories on one node and one Orthanc, killed on the way: the results are the folder's.

Each history has persons of its own. What all of them send between two waits comes together, by
C-STORE; then the node comes to rest, and now and then it is killed instead.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from mirv.service.catalogue import Catalogue, RunState, sqlite_url
from mirv.service.objects.spool import Spool
from mirv.service.runtime.node_folder import NodeFolder
from tests.integration.node import NodeProcess, node
from tests.peers import Orthanc, free_port, orthanc, storescu, wait_until
from tests.service.node.histories import made, truth, world
from tests.service.node.histories.history import History, Received
from tests.service.node.histories.rig import settings_of

pytestmark = pytest.mark.peers

HISTORIES = 20
ROUNDS = 4
_OF_A_RIG = frozenset({"look", "blink", "work", "crash", "restart", "own", "accept", "retained"})
"""Events of a node that is told when to do what."""


@dataclass
class Outbox:
    """Takes what a history sends, until it is sent."""

    objects: list[bytes] = field(default_factory=list)

    def take(self, content: bytes) -> None:
        """An object is to be sent."""
        self.objects.append(content)

    def idle(self) -> None:
        """The node comes to rest between the rounds."""


@dataclass
class Left:
    """What the node's process has left."""

    store: Catalogue
    spool: Spool
    settings: Any


@pytest.fixture
def prefixed() -> Iterator[None]:
    yield
    world.set_prefix("")


def test_the_node_equals_the_folder_after_twenty_histories(tmp_path: Path, prefixed: None) -> None:
    settings = settings_of(tmp_path / "settings")
    port = free_port()
    with orthanc(tmp_path / "orthanc", {"NODE": ("MIRV", port)}) as pacs:
        destination = {
            "name": "pacs", "ae_title": pacs.ae_title, "host": "127.0.0.1", "port": pacs.dicom_port
        }  # fmt: skip
        with node(
            tmp_path / "mirv",
            [destination],
            listener={"port": port},
            profiles=list(settings.profiles),
            spaces=[],
            outputs={"extras": []},
        ) as running:
            received = _played(running, pacs, tmp_path / "sent")
            running.stop()
            folder = NodeFolder(tmp_path / "mirv" / "node")
            store = Catalogue(sqlite_url(folder.catalogue))
            try:
                left = Left(store, Spool(folder.spool), settings)
                _hold_against_the_folder(left, received, pacs, tmp_path / "folder")
            finally:
                store.close()


def _played(running: NodeProcess, pacs: Orthanc, sent: Path) -> dict[str, Received]:
    """Play everything; what came, by prefix."""
    outbox = Outbox()
    histories: dict[str, History] = {}
    parts: dict[str, list[str]] = {}
    for number in range(HISTORIES):
        prefix = f"H{number}-"
        events = made.history(number).split()
        kept = [one for one in events if one.split(":")[0] not in _OF_A_RIG]
        histories[prefix] = History(outbox)
        parts[prefix] = _in_rounds([one for one in kept if one != "wait"])
    for turn, of_all in enumerate(zip_longest(*parts.values(), fillvalue="")):
        for prefix, events_of_one in zip(parts, of_all, strict=True):
            world.set_prefix(prefix)
            histories[prefix].play(events_of_one)
        _send(running, outbox, sent / str(turn))
        if turn == 1:
            running.kill()
            running.start()
        _wait_for_rest(running)
        if turn == 2:
            outbox.objects.extend(_of_the_archive(pacs))
            _send(running, outbox, sent / "back")
    _wait_for_rest(running)
    return {prefix: history.received for prefix, history in histories.items()}


def _in_rounds(events: list[str]) -> list[str]:
    size = -(-len(events) // ROUNDS)
    return [" ".join(events[at : at + size]) for at in range(0, len(events), size)]


def _send(running: NodeProcess, outbox: Outbox, folder: Path) -> None:
    """In the order the histories have it: file by file, for a folder has an order of its own."""
    folder.mkdir(parents=True)
    paths = [folder / f"{number:05d}.dcm" for number in range(len(outbox.objects))]
    for path, content in zip(paths, outbox.objects, strict=True):
        path.write_bytes(content)
    outbox.objects.clear()
    # What is put aside is answered with a warning, and DCMTK goes on (-nh).
    done = storescu(running.port, paths, "MIRV", "STORESCU", "-nh")
    assert done.returncode == 0, done.stderr[-3000:]


def _of_the_archive(pacs: Orthanc) -> list[bytes]:
    """Every output, as the archive has it."""
    return [pacs.file(instance) for instance in pacs.find("Instance")]


def _wait_for_rest(running: NodeProcess) -> None:
    """Until nothing has changed for some looks in a row, and nothing is under way."""
    alike, before = 0, None

    def rests() -> bool:
        nonlocal alike, before
        now = (running.api("runs?limit=10000"), running.api("deliveries?state=waiting"))
        busy = bool(now[1]) or any(run["state"] in ("queued", "running") for run in now[0])
        alike = 0 if busy or now != before else alike + 1
        before = now
        return alike >= 8

    wait_until(rests, 300, "the node comes to rest", every=0.5)


def _hold_against_the_folder(
    left: Left, received: dict[str, Received], pacs: Orthanc, folder: Path
) -> None:
    everything = Received()
    for one in received.values():
        everything.valid |= one.valid
        everything.others += one.others
    finished = left.store.runs.all(states=(RunState.FINISHED,))
    current = {run.run_id for run in finished if run.superseded_by is None}
    assert len(current) >= HISTORIES
    assert len(finished) > len(current), "some results were revised"
    for run in finished:
        for artifact in left.store.runs.artifacts(run.run_id):
            content = left.spool.path(artifact.sha256).read_bytes()
            everything.own[artifact.sop_instance_uid] = content
            if run.run_id in current:
                assert len(pacs.find("Instance", SOPInstanceUID=artifact.sop_instance_uid)) == 1
    truth.expect_nothing_lost(left, everything)
    # A run is named by files, and the way they came is in them.
    everything.valid = {uid: truth.kept(left, uid) for uid in everything.valid}
    truth.expect_the_folder(left, everything, folder)
    for prefix, one in received.items():
        world.set_prefix(prefix)
        truth.expect_the_lesions_drawn(left, one)
        truth.expect_persons_apart(left, one)
