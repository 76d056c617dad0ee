"""Several listener processes: one listener to the outside, whatever becomes of one of them."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt

from mirv.analysis.errors import Transient
from mirv.config.fresh_interpreter import command
from mirv.config.settings.network import IdentityRules
from mirv.config.settings.network import Listener as ListenerSettings
from mirv.service.catalogue import Catalogue, EventKind, sqlite_url
from mirv.service.inbound import process as listener_process
from mirv.service.inbound import processes
from mirv.service.inbound.association_slots import Slots
from mirv.service.inbound.line import Line
from mirv.service.inbound.processes import ListenerProcesses
from mirv.service.objects import repair
from mirv.service.objects.spool import Spool
from mirv.service.peers.commitment import (
    PUSH_INSTANCE,
    PUSH_MODEL,
    REQUEST,
    CommitmentCalls,
    Reference,
    Report,
    answer,
    request,
)
from tests.integration.node import NodeProcess
from tests.integration.node import node as node_process
from tests.peers import free_port, wait_until
from tests.service.wire import CT, ECHO, associate, ct_slice, store_status

SUCCESS, OUT_OF_RESOURCES = 0x0000, 0xA700


class Served:
    """Two listener processes with their spool and catalogue."""

    def __init__(self, folder: Path, identity: IdentityRules | None = None, **wanted: Any) -> None:
        self.port = free_port()
        url = sqlite_url(folder / "catalogue.sqlite")
        self.store, self.spool = Catalogue(url), Spool(folder / "spool")
        self.reports: list[Report] = []
        self.requests: list[tuple[str, int, Any]] = []
        self.fault: Exception | None = None
        self.listener = ListenerProcesses(
            ListenerSettings(port=self.port, processes=2, **wanted),
            folder,
            url,
            CommitmentCalls(
                lambda report: self._note(self.reports, report),
                lambda *told: self._note(self.requests, told),
            ),
            identity or IdentityRules(),
        )

    def _note(self, where: list[Any], what: Any) -> None:
        if self.fault is not None:
            raise self.fault
        where.append(what)

    @property
    def pids(self) -> list[int]:
        """Of the listener processes that run."""
        return [child.process.pid for child in self.listener._children if child is not None]

    def connections(self, process: int) -> int:
        """How many connections a process has open to its peers."""
        sockets = set()
        for one in Path(f"/proc/{process}/fd").iterdir():
            try:
                sockets.add(str(one.readlink()))
            except FileNotFoundError:
                continue
        mine = f":{self.port:04X}"
        rows = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
        return sum(
            row[1].endswith(mine) and row[3] == "01" and f"socket:[{row[9]}]" in sockets
            for row in rows
        )


@contextmanager
def served(folder: Path, *identity: IdentityRules, **wanted: Any) -> Iterator[Served]:
    running = Served(folder, *identity, **wanted)
    running.listener.start()
    try:
        yield running
    finally:
        running.listener.stop()
        running.store.close()


class Senders:
    """Senders at once, each of which tries an object until it is told that it is stored."""

    def __init__(self, port: int, number: int, objects: int) -> None:
        self.acknowledged: set[str] = set()
        self.faults: list[str] = []
        self._port, self._objects = port, objects
        self._threads = [threading.Thread(target=self._send, args=(n,)) for n in range(number)]

    def __enter__(self) -> "Senders":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()

    def _send(self, sender: int) -> None:
        waiting = [_to_send(1000 * sender + n) for n in range(self._objects)]
        deadline = time.monotonic() + 90
        while waiting and time.monotonic() < deadline:
            ae = AE(f"SENDER{sender}")
            ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 5
            ae.add_requested_context(CT, "1.2.840.10008.1.2.1")
            association = ae.associate("127.0.0.1", self._port, ae_title="MIRV")
            while waiting and association.is_established:
                try:
                    status = association.send_c_store(waiting[0]).get("Status")
                except RuntimeError:
                    break
                if status == SUCCESS:
                    self.acknowledged.add(str(waiting.pop(0).SOPInstanceUID))
            if association.is_established:
                association.release()
            else:
                time.sleep(0.1)
        if waiting:
            self.faults.append(f"sender {sender}: {len(waiting)} not taken")


def _to_send(number: int) -> Dataset:
    ds = ct_slice(number)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def test_a_process_knows_who_issued_the_patient_ids_of_a_caller(tmp_path: Path) -> None:
    rules = ({"issuer": "HOSP", "ae_title": "SENDER0"},)
    identity = IdentityRules(default_issuer="ELSE", issuers=rules)  # type: ignore[arg-type]
    with served(tmp_path, identity) as running:
        with Senders(running.port, 2, 1):
            pass
        rows = {row.sop_instance_uid: row for row in running.store.instances.all()}
        headers = running.store.studies.headers({row.study_uid for row in rows.values()})
    issuers = {
        rows[header["sop_instance_uid"]].source.partition("@")[0]: header["issuer"]
        for header in map(json.loads, headers)
    }
    assert issuers == {"SENDER0": "HOSP", "SENDER1": "ELSE"}


def test_all_take_in_and_audit_and_one_that_dies_loses_nothing(tmp_path: Path) -> None:
    with served(tmp_path) as node:
        first, second = node.pids
        with Senders(node.port, 8, 60) as senders:
            wait_until(lambda: node.connections(first) and node.connections(second), 30, "both")
            wait_until(lambda: len(senders.acknowledged) > 40, 60, "some are taken")
            os.kill(first, signal.SIGKILL)
        assert senders.faults == []
        wait_until(lambda: first not in node.pids and len(node.pids) == 2, 20, "started anew")
        assert second in node.pids
        rows = {row.sop_instance_uid: row for row in node.store.instances.all()}
        assert set(rows) == senders.acknowledged
        assert len(rows) == 480
        told = [
            event.object_uid for event in node.store.events.all(kind=EventKind.RECEIVED, limit=9999)
        ]
        assert sorted(told) == sorted(rows)
        node.spool.sweep()
        findings = repair.check(node.spool, node.store, thorough=True, in_flight_s=0)
        assert findings == repair.Findings()
        pids = node.pids
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert list((tmp_path / "spool" / "incoming").iterdir()) == []


def test_the_number_of_associations_is_that_of_all_together(tmp_path: Path) -> None:
    with served(tmp_path, max_associations=3) as node:
        open_ones = []
        for _ in range(3):
            open_ones.append(associate(node.port, [ECHO]))
            assert open_ones[-1].__enter__().is_established
        for _ in range(8):  # whichever process they come to
            with associate(node.port, [ECHO]) as one_more:
                assert one_more.is_rejected
        for one in open_ones:
            one.__exit__(None, None, None)
        wait_until(lambda: _established(node.port), 10, "a place comes free")


def _established(port: int) -> bool:
    with associate(port, [ECHO]) as association:
        return bool(association.is_established)


def test_slots_of_a_dead_process_come_free(tmp_path: Path) -> None:
    mine = Slots(2, tmp_path / "slots")
    assert mine.take("a")
    if (child := os.fork()) == 0:  # pragma: no cover - coverage does not follow
        theirs = Slots(2, tmp_path / "slots")
        os._exit(0 if theirs.take("b") and not theirs.take("c") else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert mine.take("b")
    assert not mine.take("c")
    mine.give_back("a")
    assert mine.take("c")
    mine.close()


def ask(node: Served, action: Callable[[Any], Any]) -> int:
    """Status of a storage commitment message sent to the node."""
    ae = AE("PACS")
    ae.add_requested_context(PUSH_MODEL)
    association = ae.associate(
        "127.0.0.1", node.port, ae_title="MIRV",
        ext_neg=[_both_roles()], evt_handlers=[(evt.EVT_ACCEPTED, lambda _event: None)],
    )  # fmt: skip
    assert association.is_established
    status, _ = action(association)
    association.release()
    return int(status.Status)


def _both_roles() -> Any:
    from pynetdicom import build_role

    return build_role(PUSH_MODEL, scu_role=True, scp_role=True)


def test_commitment_goes_through_the_node_and_is_acknowledged_after_it(tmp_path: Path) -> None:
    with served(tmp_path) as node:
        with associate(node.port) as association:
            assert store_status(association, ct_slice(1)) == SUCCESS
        here, gone = Reference(CT, "1.2.3.1"), Reference(CT, "1.2.3.2")
        wanted = request("1.2.9", (here, gone))
        told = answer("1.2.8", [here], [(gone, 0x0112)])

        def request_it(association: Any) -> Any:
            return association.send_n_action(wanted, REQUEST, PUSH_MODEL, PUSH_INSTANCE)

        def report_it(association: Any) -> Any:
            return association.send_n_event_report(told[1], told[0], PUSH_MODEL, PUSH_INSTANCE)

        for number in range(1, 5):  # whichever process they come to
            assert ask(node, request_it) == SUCCESS
            assert ask(node, report_it) == SUCCESS
            assert len(node.requests) == len(node.reports) == number
        calling, event_type, information = node.requests[0]
        assert (calling, event_type) == ("PACS", 2)
        assert information.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.1"
        assert information.FailedSOPSequence[0].FailureReason == 0x0112
        assert node.reports[0] == Report("1.2.8", frozenset(("1.2.3.1",)), {"1.2.3.2": 0x0112})
        node.fault = Transient("catalogue: locked")
        assert ask(node, request_it) == OUT_OF_RESOURCES
        assert ask(node, report_it) == OUT_OF_RESOURCES


def test_a_late_answer_is_not_the_next_message_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer is told "taken" of what the node took, however late it said so of another."""
    monkeypatch.setattr(listener_process, "_ANSWER_S", 0.5)
    ours, theirs = (Line(end) for end in socket.socketpair())
    node = listener_process._NodeLine(theirs)
    listening = threading.Thread(target=node.listen)
    listening.start()

    def tell() -> bool:
        try:
            node.report(Report("1.2", frozenset(), {}))
        except Transient:
            return False
        return True

    assert not tell(), "there was no answer"
    late = ours.receive()
    assert late is not None
    told: list[bool] = []
    telling = threading.Thread(target=lambda: told.append(tell()))
    telling.start()
    next_one = ours.receive()
    assert next_one is not None
    ours.send(number=late["number"], done=True)
    ours.send(number=next_one["number"], fault="DatabaseBroken")
    telling.join()
    assert told == [False]
    ours.close()
    listening.join()
    theirs.close()


def test_a_taken_port_is_said_though_it_could_be_shared(tmp_path: Path) -> None:
    node = Served(tmp_path)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", node.port))
        other.listen()
        with pytest.raises(OSError, match="in use"):
            node.listener.start()
    assert node.pids == []
    node.store.close()


def test_a_process_that_cannot_start_says_why(tmp_path: Path) -> None:
    tls = {name: tmp_path / name for name in ("certificate", "key", "trusted")}
    node = Served(tmp_path, tls=tls)
    with pytest.raises(OSError, match="No such file"):
        node.listener.start()
    assert node.pids == []
    node.store.close()


def test_a_process_that_is_killed_at_its_start_has_a_successor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, killed = ListenerProcesses._started, []

    def started(self: ListenerProcesses) -> processes._Child:
        child = real(self)
        if len(killed) < 2:
            child.process.kill()
            killed.append(child.process.pid)
        return child

    monkeypatch.setattr(ListenerProcesses, "_started", started)
    with served(tmp_path) as node:
        assert len(set(node.pids) - set(killed)) == 2
        with associate(node.port) as association:
            assert store_status(association, ct_slice(1)) == SUCCESS


def test_processes_that_are_always_killed_are_not_started_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ListenerProcesses._started

    def started(self: ListenerProcesses) -> processes._Child:
        child = real(self)
        child.process.kill()
        return child

    monkeypatch.setattr(ListenerProcesses, "_started", started)
    node = Served(tmp_path)
    with pytest.raises(OSError, match="did not start: ended"):
        node.listener.start()
    assert node.pids == []
    node.store.close()


def test_a_process_whose_node_dies_meanwhile_ends_quietly(tmp_path: Path) -> None:
    wanted = ListenerSettings(port=free_port(), processes=2)
    message = {
        "listener": wanted.model_dump(mode="json"),
        "folder": str(tmp_path),
        "catalogue_url": sqlite_url(tmp_path / "catalogue.sqlite"),
        "log_level": "INFO",
    }
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(json.dumps(message).encode() + b"\n")
        process = subprocess.Popen(
            command(listener_process.main, theirs.fileno()),
            pass_fds=(theirs.fileno(),),
            stderr=subprocess.PIPE,
        )
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 0
    assert "Traceback" not in said


def test_processes_outlive_no_node_and_a_new_one_takes_the_port(tmp_path: Path) -> None:
    with node_process(tmp_path, []) as node:
        node.stop()
        node.settings["listener"]["processes"] = 2
        node.start()
        assert _stored(node, 1)
        assert node.process is not None
        children = _children(node.process.pid)
        assert len(children) == 2
        node.process.kill()  # itself alone, as the system would for want of memory
        node.process.wait(10)
        node.start()
        assert _stored(node, 2)
        wait_until(lambda: not any(map(_listens, children)), 20, "the former ones have ended")
        assert {row["n_instances"] for row in node.api("studies")} == {2}


def _stored(node: NodeProcess, number: int) -> bool:
    with associate(node.port) as association:
        return store_status(association, ct_slice(number)) == SUCCESS


def _children(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task")
    found = " ".join((one / "children").read_text("ascii") for one in tasks.iterdir()).split()
    return [int(one) for one in found if _listens(int(one))]


def _listens(process: int) -> bool:
    try:
        return b"mirv.service.inbound.process" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False
