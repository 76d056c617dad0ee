"""``mirv cohort --features store``: the node's own results, pseudonymised unless told otherwise."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from mirv.analysis.model import LesionResult, Provenance
from mirv.analysis.patient.study import analyse
from mirv.config.profiles import load_profile
from mirv.config.settings import Settings
from mirv.service.catalogue import Catalogue, sqlite_url
from mirv.service.catalogue.database import schema
from mirv.service.catalogue.database.engine import open_engine
from mirv.service.catalogue.run_rows import NewRun
from mirv.service.commands.cohort.lesions import app
from mirv.service.commands.export import app as export_app
from mirv.service.objects import results
from mirv.service.objects.spool import Spool
from mirv.service.runtime.node_folder import catalogue_url
from mirv.service.study import result_record

HENRY = load_profile("henry2022")


def store_result(
    catalogue: Catalogue, spool: Spool, patient: str, n_lesions: int
) -> result_record.ResultRecord:
    """One finished run of a patient, as the node leaves it behind."""
    random = np.random.default_rng(n_lesions)
    lesions = [
        LesionResult(
            number=number,
            label=f"L{number}",
            tracking_id=f"L{number}",
            tracking_uid=f"2.25.{n_lesions}{number}",
            site="lung",
            volume_ml=float(number),
            profile=HENRY.name,
            names=HENRY.selected,
            values=random.lognormal(size=8) + 0.1,
        )
        for number in range(1, n_lesions + 1)
    ]
    result = analyse(lesions, [HENRY], [], Provenance("0", {}, {}, {}))
    record = result_record.ResultRecord(
        patient, f"1.{n_lesions}", "20260101", f"1.8.{n_lesions}", {}, result, ()
    )
    content = spool.put([result_record.to_bytes(record)])
    new = NewRun(patient, f"1.{n_lesions}", f"1.8.{n_lesions}", patient, "20260101", "i", "p", "{}")
    assert catalogue.runs.queue(new, 0)
    assert catalogue.runs.start(patient, 1)
    catalogue.runs.note_result(patient, content.sha256)
    assert catalogue.runs.finish(patient, [], [], 1, 2)
    return record


@pytest.fixture
def node(tmp_path: Path) -> tuple[Path, list[result_record.ResultRecord]]:
    """A node's folder with two patients; gives its settings file and the records."""
    folder = tmp_path / "node"
    folder.mkdir()
    config = tmp_path / "mirv.yaml"
    config.write_text(f"folder: {folder}\n")
    catalogue = Catalogue(catalogue_url(Settings(folder=folder)))
    spool = Spool(folder / "spool")
    made = [store_result(catalogue, spool, f"SENTINEL-{n}", n) for n in (6, 7)]
    catalogue.close()
    return config, made


@pytest.mark.parametrize("identified", [True, False])
def test_the_store_gives_the_numbers_the_node_gave(node, tmp_path, identified):
    config, made = node
    out = tmp_path / "out"
    words = ["henry", "--features", "store", "--config", str(config), "--out", str(out)]
    words += ["--scaling", "patient_minmax", *(["--identified"] if identified else [])]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    patients = pd.read_csv(out / "patients.csv").set_index("n_lesions")
    for record in made:
        named = {m.name: m.value for m in record.result.measures if m.space}
        row = patients.loc[named_count(record)]
        assert row["mtd"] == pytest.approx(named["mtd"], abs=1e-15)
        assert row["ath_matrix"] == pytest.approx(named["ath_matrix"], abs=1e-15)
    everything = b"".join(path.read_bytes() for path in out.iterdir())
    assert (b"SENTINEL" in everything) == identified


def test_an_export_holds_the_persons_of_a_cohort(node, tmp_path):
    """Six and seven lesions are of no published cohort; a list of one's own names by PatientID."""
    config, _ = node
    (tmp_path / "mine.txt").write_text("SENTINEL-7 \nSENTINEL-9\n")
    for cohort, n_rows in ((tmp_path / "mine.txt", 7), ("M-oligo", 0)):
        out = tmp_path / f"out-{n_rows}"
        words = ["--out", str(out), "--config", str(config), "--cohort", str(cohort)]
        result = CliRunner().invoke(export_app, words)
        assert result.exit_code == 0, result.output
        assert ("1 name(s) of --cohort have no result" in result.stderr) == bool(n_rows)
        table = pd.read_csv(out / "lesions.csv", dtype=str)
        assert len(table) == n_rows
        assert b"SENTINEL" not in b"".join(path.read_bytes() for path in out.iterdir())
        if n_rows:
            assert table["person"].str.fullmatch("P-[0-9A-F]{16}").all()
            assert set(table["time_point"]) == {"1"}


def test_a_study_of_nobody_is_left_out_of_the_store_s_cohort(node, tmp_path):
    config, _ = node
    folder = Path(yaml.safe_load(config.read_text())["folder"])
    catalogue, spool = Catalogue(sqlite_url(folder / "catalogue.sqlite")), Spool(folder / "spool")
    store_result(catalogue, spool, "", 3)
    catalogue.close()
    words = ["henry", "--features", "store", "--config", str(config), "--out", str(tmp_path / "o")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "1 result(s) without a PatientID are nobody's: left out" in result.stderr
    assert len(pd.read_csv(tmp_path / "o" / "patients.csv")) == 2


def test_all_results_count_however_many(node, tmp_path, monkeypatch):
    """Finding A1: 10,005 runs, and the oldest stayed out of the cohort; an export held them."""
    config, made = node
    folder = Path(yaml.safe_load(config.read_text())["folder"])
    catalogue, spool = Catalogue(sqlite_url(folder / "catalogue.sqlite")), Spool(folder / "spool")
    one = asdict(catalogue.runs.get("SENTINEL-6"))
    copies = [
        {**one, "run_id": f"copy-{n}", "series_uid": f"1.9.{n}", "created_at": n + 1}
        for n in range(10_003)
    ]
    database = open_engine(sqlite_url(folder / "catalogue.sqlite"))
    with database.write() as connection:
        connection.execute(schema.runs.insert(), copies)
    database.close()
    read = []
    monkeypatch.setattr(results, "read_result", lambda _, sha256: read.append(sha256) or made[0])
    found = results.current_results(catalogue, spool)
    next(found)
    assert len(read) == 1, "one at a time"
    assert len(list(found)) == 10_004
    assert read[-1] == catalogue.runs.get("SENTINEL-7").result_sha256, "the oldest comes last"
    catalogue.close()


def test_nothing_else_reads_results_back():
    service = Path(results.__file__).parents[1]
    found = [
        path.name
        for path in service.rglob("*.py")
        if "result_record.from_bytes" in path.read_text()
    ]
    assert found == ["results.py"]


def named_count(record: result_record.ResultRecord) -> int:
    return len(record.result.lesions)


def test_an_empty_store_is_refused(tmp_path):
    folder = tmp_path / "node"
    folder.mkdir()
    config = tmp_path / "mirv.yaml"
    config.write_text(f"folder: {folder}\n")
    words = ["variation", "--features", "store", "--config", str(config), "--out", str(tmp_path)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "no finished result" in result.stderr
