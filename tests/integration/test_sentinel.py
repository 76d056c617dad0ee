"""No patient in what leaves the house: sentinel names and identifiers go in, and are looked for.

Every fault that quotes something is provoked: damaged and conflicting objects, an unsuitable study,
a run that fails with its traceback, a delivery that is parked.
"""

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from mirv.dicom_io.phantom.patient import Phantom, write_study
from tests.integration.node import NodeProcess, node
from tests.peers import free_port, orthanc, storescu, wait_until
from tests.service.wire import associate, ct_slice, encoded, store_bytes

pytestmark = pytest.mark.peers

NAME, ID = "Zyxwvsentinel^Qwert", "SENTINELVWXQ"
PERSONAL = {
    "AccessionNumber": "ACCSENT0815",
    "PatientBirthDate": "19370203",
    "ReferringPhysicianName": "Refsentinel^Doctor",
    "InstitutionName": "Sentinel General Hospital",
    "StudyDescription": "sentinelstudy of Zyxwvsentinel",
    "SeriesDescription": "sentinelseries",
    "OtherPatientIDs": "OTHERSENT99",
    "PatientComments": "commentsentinel",
    "OperatorsName": "Opsentinel^Nurse",
}
SENTINELS = ("sentinel", "zyxwv", "qwert", "vwxq", "accsent", "19370203", "othersent")


@contextmanager
def webhook() -> Iterator[tuple[str, list[str]]]:
    """A receiver; its URL, and what it was told, headers included."""
    told: list[str] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            told.append(f"{self.path} {self.headers} {body}")
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def takes_nothing() -> Iterator[int]:
    """A destination that takes no results: what is sent to it is parked."""
    ae, port = AE("NOTHING"), free_port()
    ae.add_supported_context(Verification)
    server = ae.start_server(("127.0.0.1", port), block=False)
    try:
        yield port
    finally:
        ae.shutdown()
        server.server_close()


def sentinel_study(folder: Path, number: int, time_point: int = 0) -> Phantom:
    return write_study(
        folder, n_lesions=2, shape=(10, 64, 64), patient_id=f"{ID}-{number}", patient_name=NAME,
        ct_tags=PERSONAL, time_point=time_point,
    )  # fmt: skip


def damaged(port: int) -> list[str]:
    """Send objects that are refused or put aside; what the node answered."""
    whole = encoded(ct_slice(50, PatientName=NAME, PatientID=ID, **PERSONAL))
    said = []
    for uid, content in (
        ("1.2.3.50", whole),
        ("1.2.3.50", encoded(ct_slice(50, PatientName=NAME, PatientID=f"{ID}-other"))),
        ("1.2.3.51", whole[: len(whole) // 2]),
        ("1.2.3.52", whole),
        ("1.2.3.53", encoded(ct_slice(53, PatientID=ID, StudyInstanceUID=None))),
        ("1.2.3.54", whole.replace(b"PN", b"\0\1")),
        ("1.2.3.55", NAME.encode() * 20),
    ):
        with associate(port) as association:
            answer = store_bytes(association, content, uid)
            said.append(f"0x{answer.get('Status', 0):04X} {answer.get('ErrorComment', '')}")
    return said


def failing_study(running: NodeProcess, folder: Path) -> str:
    """A study whose run fails with a traceback: one of its files is gone."""
    study = sentinel_study(folder, 3)
    assert study.seg is not None
    assert storescu(running.port, [folder / "CT"]).returncode == 0
    uid = str(dcmread(study.ct[4], stop_before_pixels=True).SOPInstanceUID)
    home = Path(running.settings["folder"])
    with sqlite3.connect(home / "catalogue.sqlite") as catalogue:
        query = "SELECT sha256 FROM instances WHERE sop_instance_uid = ?"
        ((sha256,),) = catalogue.execute(query, (uid,)).fetchall()
    catalogue.close()
    (home / "spool" / "objects" / sha256[:2] / sha256).unlink()
    assert storescu(running.port, [study.seg]).returncode == 0
    return study.identity.study_uid


def everything_said(running: NodeProcess, export: Path) -> dict[str, str]:
    """All that may leave the house, by where it is said."""
    said = {"log": running.log()}
    for page in ("metrics", "health"):
        said[page] = httpx.get(f"{running.url}/{page}", timeout=10, trust_env=False).text
    assert running.mirv("export", "--out", str(export)).returncode == 0
    for path in export.iterdir():
        said[f"export {path.name}"] = f"{path.name}\n{path.read_text()}"
    columns = {
        "events": "at, kind, run_id, detail",
        "deliveries": "state, detail",
        "quarantine": "code, detail, source",
        "waiting": "waits_for",
        "runs": "state, reason_code, reason_detail",
        "quality": "row",
    }
    catalogue = sqlite3.connect(Path(running.settings["folder"]) / "catalogue.sqlite")
    for table, wanted in columns.items():
        rows = catalogue.execute(f"SELECT {wanted} FROM {table}").fetchall()  # noqa: S608
        assert rows, f"nothing in {table}: nothing provoked"
        said[f"table {table}"] = json.dumps(rows)
    catalogue.close()
    shown = running.mirv("jobs", "list")
    said["jobs list"] = shown.stdout + shown.stderr
    return said


def test_no_patient_in_anything_that_leaves_the_house(tmp_path: Path) -> None:
    good = sentinel_study(tmp_path / "good", 1)
    later = sentinel_study(tmp_path / "later", 1, time_point=1)
    gap = sentinel_study(tmp_path / "gap", 2)
    gap.ct[5].unlink()
    elsewhere = sentinel_study(tmp_path / "elsewhere", 4)
    assert elsewhere.seg is not None
    moved = dcmread(elsewhere.seg)
    moved.FrameOfReferenceUID = "1.2.3.4"
    moved.save_as(elsewhere.seg)
    with orthanc(tmp_path / "orthanc") as peer, takes_nothing() as nothing, webhook() as hook:
        url, told = hook
        destinations = [
            {"name": name, "ae_title": title, "host": "127.0.0.1", "port": port}
            for name, title, port in (
                ("orthanc", peer.ae_title, peer.dicom_port),
                ("nothing", "NOTHING", nothing),
            )
        ]
        made = node(
            tmp_path / "mirv", destinations,
            profiles=["henry2022"], webhook={"url": url, "key": "k"},
        )  # fmt: skip
        with made as running:
            answers = damaged(running.port)
            assert {one[:6] for one in answers} >= {"0x0000", "0x0111", "0xA900", "0xC000"}
            for study in (good, later, gap, elsewhere):
                assert storescu(running.port, [study.folder]).returncode == 0
            failed = failing_study(running, tmp_path / "failing")
            for study_uid in (good.identity.study_uid, later.identity.study_uid, failed):
                running.wait_for(study_uid)
            assert [run["state"] for run in running.runs(study_uid=failed)] == ["failed"]
            wait_until(lambda: any("parked" in one for one in told), 60, "a parking is told")
            wait_until(lambda: any("failed" in one for one in told), 60, "the failure is told")
            said = everything_said(running, tmp_path / "export")
            assert all(run["patient_id"].startswith(ID) for run in running.runs())
    said |= {"answers": "\n".join(answers), "webhook": "\n".join(told)}
    found = [
        (where, sentinel, _around(text, sentinel))
        for where, text in said.items()
        for sentinel in SENTINELS
        if sentinel in text.lower()
    ]
    assert found == []
    exported = "".join(text for where, text in said.items() if where.startswith("export"))
    for study in (good, later):
        assert study.identity.study_uid not in exported
        assert study.identity.study_date not in exported


def _around(text: str, sentinel: str) -> str:
    at = text.lower().index(sentinel)
    return text[max(0, at - 200) : at + 100]
