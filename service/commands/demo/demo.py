"""``mirv demo``: a synthetic patient through the whole line, socket to socket, on loopback."""

import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread

from mirv.config.errors import BadInput, MirvError, opening
from mirv.config.settings import Settings
from mirv.config.settings.network import Destination, Http, Listener
from mirv.dicom_io.phantom.patient import write_study
from mirv.service.catalogue import DeliveryState, RunState
from mirv.service.commands.demo.pacs import ReceivingPacs, send_files
from mirv.service.node.node import Node
from mirv.service.objects.results import read_result
from mirv.service.study.result_record import ResultRecord
from mirv.service.study.table_files import write_tables

QUIET_S = 1.0
PATIENCE_S = 600.0


class NoResult(MirvError):  # noqa: N818 - the name says what is the case
    """The demo's run gave no result: says what became of it."""


@dataclass(frozen=True, slots=True)
class DemoOutcome:
    """What the demo made.

    Attributes
    ----------
    record : ResultRecord
    received : mapping of SeriesDescription to file
        What the receiving PACS got from the node.
    tables : list of Path
    seconds : float
        From the last object sent to the last result received, the quiet time included.
    page : str
        Address of the status page while the node runs.
    """

    record: ResultRecord
    received: dict[str, Path]
    tables: list[Path]
    seconds: float
    page: str


@contextmanager
def running_demo(folder: Path) -> Iterator[tuple[DemoOutcome, Node]]:
    """Make a patient, start node and PACS, send, wait for the results; both run until left.

    Parameters
    ----------
    folder : Path
        Emptied first when an earlier demo made it.

    Raises
    ------
    BadInput
        The folder holds something that is not a demo.
    NoResult
        None in time: says what became of the run.
    """
    _empty(folder)
    phantom = write_study(folder / "patient", n_lesions=12)
    node_port, pacs_port, http_port = _free_ports(3)
    pacs = ReceivingPacs(folder / "pacs", pacs_port)
    settings = Settings(
        folder=folder / "node",
        quiet_s=QUIET_S,
        listener=Listener(port=node_port),
        destinations=(
            Destination(name="pacs", ae_title=pacs.ae_title, host="127.0.0.1", port=pacs_port),
        ),
        http=Http(port=http_port),
    )
    node = Node(settings)
    pacs.start()
    node.start()
    try:
        send_files(phantom.files, node_port, settings.listener.ae_title)
        sent = time.monotonic()
        record = _result(node, sent + PATIENCE_S)
        seconds = time.monotonic() - sent
        tables = write_tables(folder / "tables", [record])
        page = f"http://127.0.0.1:{http_port}/"
        yield DemoOutcome(record, _by_description(pacs), tables, seconds, page), node
    finally:
        node.stop()
        pacs.stop()


def _empty(folder: Path) -> None:
    marker = folder / ".mirv-demo"
    with opening():
        if folder.exists() and any(folder.iterdir()) and not marker.exists():
            raise BadInput(f"{folder} holds something else; wanted a new or an earlier demo's")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        marker.touch()


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _result(node: Node, deadline: float) -> ResultRecord:
    """Wait until a run is finished and all its outputs are delivered."""
    while time.monotonic() < deadline:
        for run in node.catalogue.runs.all(current=True):
            if run.state in (RunState.REFUSED, RunState.FAILED):
                raise NoResult(f"run {run.state}: {run.reason_code}: {run.reason_detail}")
            if run.state == RunState.FINISHED and run.result_sha256:
                deliveries = node.catalogue.deliveries.all(run_id=run.run_id)
                if all(row.state == DeliveryState.DELIVERED for row in deliveries):
                    return read_result(node.spool, run.result_sha256)
        time.sleep(0.05)
    raise NoResult("no result in time; the node's log says more")


def _by_description(pacs: ReceivingPacs) -> dict[str, Path]:
    return {
        str(dcmread(path, stop_before_pixels=True).SeriesDescription): path
        for path in pacs.received
    }
