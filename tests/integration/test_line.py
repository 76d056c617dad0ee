"""The whole line with real peers: C-STORE in, SR and SEG back in the PACS, tables out."""

import csv
import io
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest

from mirv.dicom_io.outputs.reports import own_report
from mirv.dicom_io.phantom.patient import write_study
from tests.integration.node import NodeProcess, node, run_mirv
from tests.peers import Orthanc, free_port, orthanc, storescu, wait_until

pytestmark = pytest.mark.peers

SR_CLASS = "1.2.840.10008.5.1.4.1.1.88.34"
SEG_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"


@dataclass
class Line:
    """Orthanc and the node, wired both ways."""

    orthanc: Orthanc
    node: NodeProcess

    def results(self, study_uid: str) -> dict[str, pydicom.FileDataset]:
        """The node's objects in Orthanc's study, by role."""
        made = {
            row["sop_instance_uid"]: row["role"]
            for run in self.node.runs(study_uid=study_uid)
            if run["superseded_by"] is None
            for row in self.node.api(f"runs/{run['run_id']}/artifacts")
        }
        found = {}
        for sop_class in (SR_CLASS, SEG_CLASS):
            for instance in self.orthanc.instances_of(study_uid, sop_class):
                dataset = pydicom.dcmread(io.BytesIO(self.orthanc.file(instance)))
                if dataset.SOPInstanceUID in made:
                    found[made[dataset.SOPInstanceUID]] = dataset
        return found


@contextmanager
def wired(folder: Path) -> Iterator[Line]:
    """An Orthanc and a node that send to each other."""
    port = free_port()
    with orthanc(folder / "orthanc", {"NODE": ("MIRV", port)}) as pacs:
        destination = {
            "name": "orthanc",
            "ae_title": pacs.ae_title,
            "host": "127.0.0.1",
            "port": pacs.dicom_port,
        }
        with node(folder / "mirv", [destination], listener={"port": port}) as running:
            yield Line(pacs, running)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """One line for all tests that do not break it; each sends a study of its own."""
    with wired(tmp_path_factory.mktemp("line")) as made:
        yield made


@pytest.fixture
def own_line(tmp_path: Path) -> Iterator[Line]:
    """A line to be killed."""
    with wired(tmp_path) as made:
        yield made


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.shared
def test_orthanc_sends_a_study_and_gets_its_results_back(
    line: Line, shared: Path, tmp_path: Path
) -> None:
    """ML12: 12 volumes as in ``truth.csv``; every value of the SR is on its lesion's CSV row."""
    baseline = shared / "multilesion" / "ML12" / "baseline"
    files = [*sorted((baseline / "CT").iterdir()), baseline / "SEG_lesions.dcm"]
    study_uid = pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID
    line.orthanc.upload(files)
    line.orthanc.send_to("NODE", study_uid)
    assert line.node.wait_for(study_uid)["state"] == "finished"
    found = line.results(study_uid)
    assert {"lesion_sr", "patient_sr", "lesion_seg"} <= set(found)
    assert all(one.StudyInstanceUID == study_uid for one in found.values())
    assert len({one.SeriesInstanceUID for one in found.values()}) == len(found)

    exported = line.node.mirv("export", "--identified", "--out", str(tmp_path / "out"))
    assert exported.returncode == 0, exported.stderr
    lesions = rows(tmp_path / "out" / "lesions.csv")
    truth = {
        row["tracking_uid"]: row
        for row in rows(baseline.parent / "truth.csv")
        if row["timepoint"] == "baseline"
    }
    assert {row["tracking_uid"] for row in lesions} == set(truth)
    for row in lesions:
        assert row["status"] == "ok", row["reason"]
        assert float(row["volume_ml"]) == pytest.approx(
            float(truth[row["tracking_uid"]]["volume_ml"]), abs=1e-4
        )
        assert row["site"] == truth[row["tracking_uid"]]["site"]
    assert_volumes_on_their_lesions(found["lesion_sr"], truth)
    assert_sr_equals_csv(found["lesion_sr"], lesions)
    assert_indices_equal_csv(found["patient_sr"], rows(tmp_path / "out" / "patients.csv"))


def content(dataset: pydicom.FileDataset) -> bytes:
    """The dataset as a file."""
    out = io.BytesIO()
    dataset.save_as(out)
    return out.getvalue()


def assert_volumes_on_their_lesions(
    sr: pydicom.FileDataset, truth: dict[str, dict[str, str]]
) -> None:
    """Read by a foreign library, keyed on the tracking UID alone."""
    groups = hd.sr.srread(io.BytesIO(content(sr))).content.get_volumetric_roi_measurement_groups()
    assert {str(group.tracking_uid) for group in groups} == set(truth)
    for group in groups:
        wanted = truth[str(group.tracking_uid)]
        (volume,) = group.get_measurements(name=hd.sr.CodedConcept("118565006", "SCT", "Volume"))
        scale = {"mm3": 1e-3, "ml": 1.0}[volume.unit.value]
        assert volume.value * scale == pytest.approx(float(wanted["volume_ml"]), abs=1e-4)


def assert_sr_equals_csv(sr: pydicom.FileDataset, lesions: list[dict[str, str]]) -> None:
    """Every number of the SR equals the cell of its tracking UID, profile and name, and back."""
    written = {(row["tracking_uid"], row["profile"]): row for row in lesions}
    report = own_report.read(content(sr))
    assert {(row.tracking_uid, row.profile) for row in report.lesions} == set(written)
    for lesion in report.lesions:
        row = written[lesion.tracking_uid, lesion.profile]
        features = [name for name in row if name.split("_")[0].split("-")[0] in IMAGE_TYPES]
        filled = {name for name in features if row[name] != ""}
        assert len(lesion.names) >= 5
        assert set(lesion.names) <= filled
        values = dict(zip(lesion.names, lesion.values.tolist(), strict=True))
        for name in lesion.names:
            assert values[name] == pytest.approx(float(row[name]), rel=1e-6, abs=0), name


def assert_indices_equal_csv(sr: pydicom.FileDataset, patients: list[dict[str, str]]) -> None:
    """Every index of the patient SR equals its cell; a null has its reason in both."""
    by_space = {(row["profile"], row["space"]): row for row in patients}
    compared = 0
    for measure in own_report.read(content(sr)).measures:
        if not measure.space:
            continue
        row = by_space[measure.profile, measure.space]
        if measure.value is None:
            assert row[measure.name] == ""
            assert row[f"{measure.name}_reason"]
        else:
            assert measure.value == pytest.approx(float(row[measure.name]), rel=1e-6, abs=0)
        compared += 1
    assert compared >= 10


IMAGE_TYPES = (
    "original", "wavelet", "square", "squareroot", "logarithm", "exponential", "gradient",
)  # fmt: skip


def test_a_shuffled_segment_order_puts_no_value_on_another_lesion(
    line: Line, tmp_path: Path
) -> None:
    """The same masks as segments 1..n and shuffled: the same values under each tracking UID."""
    straight = write_study(tmp_path / "a", n_lesions=5, patient_id="P1")
    shuffled = write_study(tmp_path / "b", n_lesions=5, patient_id="P1", shuffled=True)
    numbers = [
        [item.SegmentNumber for item in sorted(
            pydicom.dcmread(study.seg).SegmentSequence, key=lambda item: item.TrackingUID)]
        for study in (straight, shuffled)
    ]  # fmt: skip
    assert numbers[0] != numbers[1]
    tables = []
    for study in (straight, shuffled):
        out = tmp_path / f"out{len(tables)}"
        done = run_mirv("process", str(study.folder), "--out", str(out), "--profile", "henry2022")
        assert done.returncode == 0, done.stderr
        tables.append({row["tracking_uid"]: row for row in rows(out / "lesions.csv")})
        truth = {one.tracking_uid: one.volume_ml for one in study.lesions}
        assert {uid: float(row["volume_ml"]) for uid, row in tables[-1].items()} == pytest.approx(
            truth, abs=1e-6
        )
    for uid, row in tables[0].items():
        for name in row:
            if name.startswith("original_"):
                assert row[name] == tables[1][uid][name], name
    sent = storescu(line.node.port, [shuffled.folder])
    assert sent.returncode == 0, sent.stderr
    line.node.wait_for(shuffled.identity.study_uid)
    found = line.results(shuffled.identity.study_uid)
    assert_volumes_on_their_lesions(
        found["lesion_sr"],
        {one.tracking_uid: {"volume_ml": str(one.volume_ml)} for one in shuffled.lesions},
    )


@pytest.mark.shared
def test_jpeg_ls_by_storescu(line: Line, shared: Path, tmp_path: Path) -> None:
    """ML40, JPEG-LS, by DCMTK: 40 volumes as in ``truth.csv``."""
    baseline = shared / "multilesion" / "ML40" / "baseline"
    seg = baseline / "SEG_lesions.dcm"
    sent = storescu(line.node.port, [baseline / "CT", seg], "MIRV", "SCU", "-xt")
    assert sent.returncode == 0, sent.stderr
    run = line.node.wait_for(pydicom.dcmread(seg, stop_before_pixels=True).StudyInstanceUID)
    assert run["state"] == "finished", run
    truth = {row["tracking_uid"]: row for row in rows(baseline.parent / "truth.csv")}
    found = line.results(run["study_uid"])
    assert len(truth) == 40
    assert_volumes_on_their_lesions(found["lesion_sr"], truth)


@pytest.mark.shared
def test_one_lesion_has_no_heterogeneity_and_says_why(shared: Path, tmp_path: Path) -> None:
    """STS_002 with its RTSTRUCT: 53.30 ml, every index null with a reason."""
    folder = shared / "sts" / "STS_002"
    done = run_mirv("process", str(folder), "--out", str(tmp_path), "--profile", "henry2022")
    assert done.returncode == 0, done.stderr
    ct = [row for row in rows(tmp_path / "lesions.csv") if "CT" in row["lesion"]]
    assert [float(row["volume_ml"]) for row in ct] == pytest.approx([53.30], abs=0.01)
    for row in rows(tmp_path / "patients.csv"):
        for index in ("mtd", "ath_pairs", "ath_matrix", "cv_mean_percent", "volume_sd_ml"):
            assert row[index] == ""
            assert "wanted at least" in row[f"{index}_reason"]
        assert row["n_lesions"] == "1"


@pytest.mark.shared
def test_the_ibsi_phantom_has_its_published_volume(shared: Path, tmp_path: Path) -> None:
    """IBSI CT phantom with RTSTRUCT: 358.68 ml within 0.05 % (shared ``expected.csv``)."""
    folder = shared / "ibsi1_ct_phantom" / "dicom"
    done = run_mirv("process", str(folder), "--out", str(tmp_path), "--profile", "henry2022")
    assert done.returncode == 0, done.stderr
    (row,) = rows(tmp_path / "lesions.csv")
    assert float(row["volume_ml"]) == pytest.approx(358.68, rel=5e-4)


def test_the_same_study_twice_gives_one_set_of_results(line: Line, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", n_lesions=4, seed=11, patient_id="TWICE")
    study_uid = study.identity.study_uid
    for _ in range(2):
        sent = storescu(line.node.port, [study.folder])
        assert sent.returncode == 0, sent.stderr
        run = line.node.wait_for(study_uid)
    other = write_study(tmp_path / "other", n_lesions=2, seed=12, patient_id="AFTER")
    assert storescu(line.node.port, [other.folder]).returncode == 0
    line.node.wait_for(other.identity.study_uid)  # by now a second run would have begun
    assert len(line.node.runs(study_uid=study_uid)) == 1
    artifacts = line.node.api(f"runs/{run['run_id']}/artifacts")
    reports = line.orthanc.instances_of(study_uid, SR_CLASS)
    assert len(reports) == len([row for row in artifacts if row["sop_class_uid"] == SR_CLASS])


def test_killed_while_processing_the_results_are_whole_and_the_same(
    own_line: Line, tmp_path: Path
) -> None:
    """``kill -9`` in a run; after the restart one set of results, each object sent once.

    A node that never saw the study then makes objects of the same identity: Orthanc, which keeps
    the first of equal UIDs, holds no more than before.
    """
    line = own_line
    study = write_study(tmp_path / "study", n_lesions=12)
    study_uid = study.identity.study_uid
    assert storescu(line.node.port, [study.folder]).returncode == 0
    wait_until(lambda: line.node.runs(state="running"), 60, "the run begins", every=0.02)
    line.node.kill()
    line.node.start()
    run = line.node.wait_for(study_uid)
    assert run["state"] == "finished"
    first = {role: one.SOPInstanceUID for role, one in line.results(study_uid).items()}
    assert {"lesion_sr", "patient_sr", "lesion_seg"} <= set(first)

    line.node.kill()
    shutil.rmtree(line.node.folder / "node")
    line.node.start()
    assert storescu(line.node.port, [study.folder]).returncode == 0
    assert line.node.wait_for(study_uid)["run_id"] == run["run_id"]
    assert {role: one.SOPInstanceUID for role, one in line.results(study_uid).items()} == first
    in_pacs = [
        one for sop in (SR_CLASS, SEG_CLASS) for one in line.orthanc.instances_of(study_uid, sop)
    ]
    assert len(in_pacs) == len(first)


def test_bad_input_has_a_reason_and_stops_nobody(line: Line, tmp_path: Path) -> None:
    """Missing slice, foreign frame of reference, unknown SOP class, cut file, text file."""
    gap = write_study(tmp_path / "gap", n_lesions=3, seed=1, patient_id="GAP")
    gap.ct[7].unlink()
    foreign = write_study(tmp_path / "foreign", n_lesions=3, seed=2, patient_id="FOREIGN")
    assert foreign.seg is not None
    seg = pydicom.dcmread(foreign.seg)
    seg.FrameOfReferenceUID = "2.25.4711"
    seg.save_as(foreign.seg)
    cut = write_study(tmp_path / "cut", n_lesions=3, seed=3, patient_id="CUT")
    data = cut.ct[3].read_bytes()
    cut.ct[3].write_bytes(data[: len(data) // 2])
    (tmp_path / "cut" / "notes.txt").write_text("no DICOM here", encoding="utf-8")

    out = tmp_path / "out"
    done = run_mirv(
        "process", *(str(tmp_path / name) for name in ("gap", "foreign", "cut")), "--out", str(out)
    )
    assert done.returncode == 2, done.stderr
    said = {(row["check"], row["outcome"]): row for row in rows(out / "quality.csv")}
    assert ("frame_of_reference", "refused") in said
    assert ("truncated", "refused") in said
    assert ("not_dicom", "refused") in said
    missing = said["missing_slices", "refused"]
    assert "wanted" in missing["detail"]
    assert not rows(out / "lesions.csv")

    sent = storescu(line.node.port, [tmp_path / "gap", tmp_path / "foreign"])
    assert sent.returncode == 0, sent.stderr
    gap_uid = gap.identity.study_uid
    wait_until(lambda: line.node.runs(study_uid=gap_uid, state="refused"), 60, "gap is refused")
    assert "frame_of_reference" in line.node.mirv("jobs", "list").stdout

    strange = pydicom.dcmread(foreign.ct[0])
    strange.SOPClassUID = strange.file_meta.MediaStorageSOPClassUID = (
        "1.2.840.10008.5.1.4.1.1.104.1"
    )
    strange.save_as(tmp_path / "strange.dcm")
    refused = storescu(line.node.port, [tmp_path / "strange.dcm"])
    assert refused.returncode != 0

    good = write_study(tmp_path / "good", n_lesions=3, seed=4, patient_id="GOOD")
    assert storescu(line.node.port, [good.folder]).returncode == 0
    assert line.node.wait_for(good.identity.study_uid)["state"] == "finished"
    received = len(gap.files) - 1 + len(foreign.files) + len(good.files)
    stored = list((line.node.folder / "node" / "spool" / "objects").rglob("*"))
    contents = {path.read_bytes() for path in stored if path.is_file()}
    sources = [path for study in (gap, foreign, good) for path in study.files if path.exists()]
    assert len(sources) == received
    assert all(any(pixels(path) in one for one in contents) for path in sources), (
        "something received is lost"
    )


def pixels(path: Path) -> bytes:
    """A part of a file that no sender rewrites."""
    data: bytes = pydicom.dcmread(path).PixelData
    return data[:4096] if np.frombuffer(data, np.uint8).any() else data


def test_a_segmentation_before_its_images_and_days_after(line: Line, tmp_path: Path) -> None:
    """What waits is listed with what it waits for; the order of arrival does not matter."""
    study = write_study(tmp_path / "study", n_lesions=3, seed=21, patient_id="EARLY")
    study_uid = study.identity.study_uid
    assert study.seg is not None

    def waiting() -> list[str]:
        return [r["waits_for"] for r in line.node.api("waiting") if r["study_uid"] == study_uid]

    assert storescu(line.node.port, [study.seg]).returncode == 0
    wait_until(waiting, 30, "the segmentation waits")
    assert "image" in waiting()[0]
    assert "waits for" in line.node.mirv("jobs", "list").stdout
    assert storescu(line.node.port, list(study.ct)).returncode == 0
    assert line.node.wait_for(study_uid)["state"] == "finished"
    assert not waiting()


def test_validators_and_foreign_readers_accept_the_results(line: Line, tmp_path: Path) -> None:
    """dciodvfy, dsrdump, highdicom and dcmqi on what the PACS received."""
    study = write_study(tmp_path / "study", n_lesions=4, seed=31, patient_id="VALID")
    assert storescu(line.node.port, [study.folder]).returncode == 0
    line.node.wait_for(study.identity.study_uid)
    found = line.results(study.identity.study_uid)
    assert {"lesion_sr", "patient_sr", "lesion_seg"} <= set(found)
    for role, dataset in found.items():
        path = tmp_path / f"{role}.dcm"
        path.write_bytes(content(dataset))
        checked = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        assert "Error" not in checked.stderr, checked.stderr
    for role in ("lesion_sr", "patient_sr"):
        subprocess.run(["dsrdump", tmp_path / f"{role}.dcm"], check=True, capture_output=True)
    seg = hd.seg.segread(tmp_path / "lesion_seg.dcm")
    drawn = {one.tracking_uid: one.n_voxels for one in study.lesions}
    for number in seg.segment_numbers:
        uid = str(seg.get_segment_description(number).tracking_uid)
        volume = seg.get_volume(segment_numbers=[number], combine_segments=True)
        assert int(volume.array.astype(bool).sum()) == drawn[uid]


@pytest.mark.shared
def test_a_follow_up_is_compared_with_its_baseline(
    line: Line, shared: Path, tmp_path: Path
) -> None:
    """ML12 at both time points: lesions gone and new, and response, as ``truth.csv`` says."""
    patient = shared / "multilesion" / "ML12"
    study_uids = {}
    for time_point in ("followup", "baseline"):
        seg = patient / time_point / "SEG_lesions.dcm"
        study_uids[time_point] = str(pydicom.dcmread(seg, stop_before_pixels=True).StudyInstanceUID)
        sent = storescu(line.node.port, [patient / time_point / "CT", seg], "MIRV", "SCU", "-xt")
        assert sent.returncode == 0, sent.stderr
    line.node.wait_for(study_uids["baseline"])

    def compared() -> bool:
        runs = line.node.runs(study_uid=study_uids["followup"], state="finished")
        return any(run["prior"] and run["superseded_by"] is None for run in runs)

    wait_until(compared, 300, f"the follow-up is compared; log: {line.node.log()[-3000:]}")
    line.node.wait_for(study_uids["followup"])
    volumes: dict[str, dict[str, float]] = {"baseline": {}, "followup": {}}
    for row in rows(patient / "truth.csv"):
        volumes[row["timepoint"]][row["tracking_uid"]] = float(row["volume_ml"])
    before, after = volumes["baseline"], volumes["followup"]
    matched = [100 * (after[uid] - ml) / ml for uid, ml in before.items() if uid in after]
    expected = {
        "n_matched": 11,
        "n_vanished": 1,
        "n_new": 1,
        "volume_change_range_matched_percent": max(matched) - min(matched),
        "volume_total_change_percent": 100 * (sum(after.values()) / sum(before.values()) - 1),
        "tsrc_methods": float(all(change <= 33 for change in [*matched, -100, 100])),
    }
    report = own_report.read(content(line.results(study_uids["followup"])["patient_sr"]))
    in_sr = {one.name: one.value for one in report.measures if not one.profile}
    exported = line.node.mirv("export", "--identified", "--out", str(tmp_path))
    assert exported.returncode == 0, exported.stderr
    in_csv = [
        row for row in rows(tmp_path / "patients.csv") if row["study_uid"] == study_uids["followup"]
    ]
    for name, value in expected.items():
        assert in_sr[name] == pytest.approx(value, rel=1e-5), name
        for row in in_csv:
            assert float(row[name]) == pytest.approx(value, rel=1e-5), name
