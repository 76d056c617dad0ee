"""The whole line: from the last object a sender gives to the last result in Orthanc, committed.

The rival is PyRadiomics called plainly on the whole volume, one core, lesion after lesion, both
profiles; it is timed on every fourth lesion and scaled to all, in the same run.
"""

import tempfile
import time
from pathlib import Path

import pydicom

from mirv.config.profiles import load_profile
from mirv.config.settings.processing import Reading
from mirv.dicom_io.files.folder import headers_of_folder
from mirv.dicom_io.study.assemble import assemble
from mirv.dicom_io.study.matching import match
from tests.analysis.extraction.reference import plain
from tests.conftest import SHARED
from tests.integration.node import NodeProcess, node
from tests.peers import Orthanc, free_port, orthanc, storescu, wait_until

QUIET_S = 1.0
PATIENTS = ("ML12", "ML40")
SAMPLE_EVERY = 4
RESULT_CLASSES = ("1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.66.4")


def run() -> list[str]:
    """One row a patient."""
    if not SHARED.is_dir():
        return ["no shared data: nothing measured"]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        with orthanc(Path(folder) / "orthanc", {"NODE": ("MIRV", port)}) as pacs:
            to_pacs = {
                "name": "orthanc",
                "ae_title": pacs.ae_title,
                "host": "127.0.0.1",
                "port": pacs.dicom_port,
                "commitment": "required",
            }
            made = node(Path(folder) / "mirv", [to_pacs], listener={"port": port}, quiet_s=QUIET_S)
            with made as running:
                for patient in PATIENTS:
                    rows.append(_row(patient, pacs, running))
    return rows


def _row(patient: str, pacs: Orthanc, running: NodeProcess) -> str:
    baseline = SHARED / "multilesion" / patient / "baseline"
    files = [baseline / "CT", baseline / "SEG_lesions.dcm"]
    study_uid = str(pydicom.dcmread(files[1], stop_before_pixels=True).StudyInstanceUID)
    sent = storescu(running.port, files, "MIRV", "BENCH", "-xt" if patient == "ML40" else "-xe")
    if sent.returncode:
        raise RuntimeError(sent.stderr)
    last = time.monotonic()
    wait_until(lambda: _arrived(pacs, running, study_uid), 600, "results committed", every=0.1)
    seconds = time.monotonic() - last
    n_lesions, rival = _plain_seconds(files)
    beyond = seconds - QUIET_S
    return (
        f"{patient}: {n_lesions} lesions, last object to last result stored and committed in "
        f"Orthanc {beyond:.1f} s beyond the {QUIET_S:.0f} s of quiet; plain PyRadiomics alone "
        f"{rival:.0f} s: x{rival / beyond:.1f}"
    )


def _arrived(pacs: Orthanc, running: NodeProcess, study_uid: str) -> bool:
    if not running.done(study_uid):
        return False
    (run,) = running.runs(study_uid=study_uid)
    sent = [row for row in running.api("deliveries") if row["run_id"] == run["run_id"]]
    if any(row["commitment"] != "committed" for row in sent):
        return False
    wanted = [
        row["sop_instance_uid"]
        for row in running.api(f"runs/{run['run_id']}/artifacts")
        if row["sop_class_uid"] in RESULT_CLASSES
    ]
    return bool(wanted) and all(pacs.find("Instance", SOPInstanceUID=uid) for uid in wanted)


def _plain_seconds(paths: list[Path]) -> tuple[int, float]:
    found = headers_of_folder(paths)
    (selection,) = match(found.headers, Reading()).selections
    study = assemble(selection, found.paths.__getitem__, Reading())
    sample = study.lesions[::SAMPLE_EVERY]
    started = time.monotonic()
    for name in ("henry2022", "mirv2025"):
        for lesion in sample:
            plain(study.volume, lesion.mask, load_profile(name))
    seconds = time.monotonic() - started
    return len(study.lesions), seconds * len(study.lesions) / len(sample)
