"""`mirv retrieve` from a real Orthanc: the list is the one worked out by hand."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydicom import dcmread
from typer.testing import CliRunner, Result

from mirv.config.errors import Unavailable
from mirv.config.settings.network import Source
from mirv.config.settings.processing import Reading
from mirv.service.commands.main import app
from mirv.service.commands.terminal import open_catalogue
from mirv.service.research.retrieval import received
from mirv.service.research.retrieval.shelf import passage_in
from mirv.service.study.plan import Plan
from mirv.service.work.schedule.scheduler import Rules, Scheduler, Starters
from tests.peers import Orthanc, free_port, orthanc
from tests.service.research.retrieval.trial import METHODS, rows, write_list, write_objects
from tests.service.research.retrieval.trial_table import WITHOUT


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    folder = tmp_path_factory.mktemp("archive")
    with orthanc(folder / "orthanc", {"NODE": ("MIRV", free_port())}) as peer:
        peer.upload(write_objects(folder / "objects"))
        yield peer


def settings(peer: Orthanc, method: str, folder: Path, **more: object) -> Path:
    """A settings file whose one source is the archive."""
    source = {"name": "pacs", "method": method}
    if method == "dicomweb":
        source |= {"url": f"{peer.url}/dicom-web", "user": "tester", "password": "tester"}
    else:
        source |= {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": peer.dicom_port}
    Source.model_validate(source)
    path = folder / "mirv.yaml"
    path.write_text(yaml.safe_dump({"folder": str(folder / "node"), "sources": [source], **more}))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["retrieve", *map(str, arguments)], catch_exceptions=False)


def listed(path: Path) -> dict[tuple[str, str, str], tuple[str, ...]]:
    """Of each study and series: index date, date, whether it was taken, and why."""
    with path.open(newline="", encoding="utf-8") as file:
        read = list(csv.reader(file))
    assert read[0] == [
        "patient_id", "index_date", "study_uid", "study_date", "series_uid", "taken", "reason",
        "source",
    ]  # fmt: skip
    return by_series(tuple(row[:7]) for row in read[1:])


def by_series(found: Iterator[tuple[str, ...]]) -> dict[tuple[str, str, str], tuple[str, ...]]:
    table = list(found)
    keyed = {(row[0], row[2], row[4]): (row[1], row[3], *row[5:]) for row in table}
    assert len(keyed) == len(table)
    return keyed


@pytest.mark.peers
@pytest.mark.parametrize("method", METHODS)
def test_the_list_is_the_one_worked_out_by_hand(
    archive: Orthanc, tmp_path: Path, method: str
) -> None:
    patients = write_list(tmp_path / "patients.csv")
    config = settings(archive, method, tmp_path)
    done = run("--patients", patients, "--to", tmp_path / "to", "--list", tmp_path / "list.csv",
               "--config", config)  # fmt: skip
    wanted = by_series(rows(method))
    assert listed(tmp_path / "list.csv") == wanted
    assert done.exit_code == 2
    assert {key[0] for key, row in wanted.items() if row[2] == "yes"}.isdisjoint(WITHOUT[method])
    have, n_patients = 41 - len(WITHOUT[method]), len({key[0] for key in wanted})
    assert (n_patients, f"{have} of 41 patients have a baseline" in done.output) == (41, True)
    kept = {path: dcmread(path) for path in (tmp_path / "to").rglob("*") if path.is_file()}
    in_files = {(ds.PatientID, ds.StudyInstanceUID, ds.SeriesInstanceUID) for ds in kept.values()}
    assert in_files == {key for key, row in wanted.items() if row[2] == "yes"}
    assert not any(ds.Manufacturer == "mirv-node" for ds in kept.values())


def list_of(path: Path, *patients: str) -> Path:
    """The lines of these patients alone."""
    whole = write_list(path).read_text(encoding="utf-8-sig").splitlines()
    lines = [line for line in whole[1:] if line.split(",")[0].strip() in patients]
    path.write_text("\n".join([whole[0], *lines]), encoding="utf-8")
    return path


def objects_in(folder: Path) -> dict[Path, float]:
    """Every file and when it was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.peers
@pytest.mark.parametrize("method", METHODS)
def test_what_is_there_is_not_fetched_again(
    archive: Orthanc, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    patients, to = list_of(tmp_path / "patients.csv", "11"), tmp_path / "to"
    arguments = ("--patients", patients, "--to", to, "--list", tmp_path / "list.csv",
                 "--config", settings(archive, method, tmp_path))  # fmt: skip
    assert run(*arguments).exit_code == 0
    first = objects_in(to)
    assert len(first) == 4
    assert {path.stat().st_mode & 0o077 for path in first} == {0}
    checked = CliRunner().invoke(app, ["check", str(to)])
    assert checked.exit_code == 0, checked.output
    with monkeypatch.context() as patched:
        patched.setattr(received, "fetch_series", lambda *_: pytest.fail("fetched again"))
        assert run(*arguments).exit_code == 0
    assert objects_in(to) == first
    assert "it was there" in (tmp_path / "list.csv").read_text(encoding="utf-8")
    # Of a series that is there in part nothing counts, and what is missing comes.
    lost = sorted(path for path in first if path.parent.name.endswith(".2"))[1]
    lost.unlink()
    assert run(*arguments).exit_code == 0
    assert objects_in(to).keys() == first.keys()
    assert "it was there" not in (tmp_path / "list.csv").read_text(encoding="utf-8")


@pytest.mark.peers
@pytest.mark.parametrize("method", METHODS)
def test_a_series_that_comes_in_part_is_not_taken_and_said(
    archive: Orthanc, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slice is lost on the way: no other study is taken instead, and the next run has it."""
    patients, to = list_of(tmp_path / "patients.csv", "07"), tmp_path / "to"
    arguments = ("--patients", patients, "--to", to, "--list", tmp_path / "list.csv",
                 "--config", settings(archive, method, tmp_path))  # fmt: skip
    whole = received.fetch_series

    def without_the_last(*given: Any) -> int:
        *others, take, limit = given
        came: list[bytes] = []
        whole(*others, came.append, limit)
        return sum(take(one) is None for one in came[:-1])

    with monkeypatch.context() as patched:
        patched.setattr(received, "fetch_series", without_the_last)
        done = run(*arguments)
    assert done.exit_code == 2
    assert objects_in(to) == {}
    said = [row[3] for row in listed(tmp_path / "list.csv").values()]
    assert "in_part: found 2 of 3 objects: counts as not fetched" in said
    assert not any(row[2] == "yes" for row in listed(tmp_path / "list.csv").values())
    assert run(*arguments).exit_code == 0
    assert len(objects_in(to)) == 3


@pytest.mark.peers
def test_a_dry_run_keeps_nothing_and_lists_the_same(archive: Orthanc, tmp_path: Path) -> None:
    patients = list_of(tmp_path / "patients.csv", "11", "18", "25", "34")
    config = settings(archive, "c-get", tmp_path)
    for how in (("--dry-run",), ("--to", tmp_path / "to")):
        name = tmp_path / f"{how[0]}.csv"
        done = run("--patients", patients, *how, "--list", name, "--config", config)
        assert done.exit_code == 0, done.output
        assert (tmp_path / "to").exists() == (how[0] == "--to")
    assert listed(tmp_path / "--dry-run.csv") == listed(tmp_path / "--to.csv")


@pytest.mark.peers
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("issuer", "code"), [("HERE", 0), ("ELSEWHERE", 2)])
def test_what_carries_no_issuer_is_of_the_one_the_settings_give_its_source(
    archive: Orthanc, tmp_path: Path, method: str, issuer: str, code: int
) -> None:
    """A listed patient of another issuer is not taken, though the Patient ID is the same."""
    listing = list_of(tmp_path / "all.csv", "11").read_text(encoding="utf-8")
    (number,) = csv.DictReader(listing.splitlines())
    patients = tmp_path / "patients.csv"
    patients.write_text(
        f"patient_id,index_date,issuer\n{number['patient_id']},{number['index_date']},HERE\n"
    )
    rules = {"issuers": [{"source": "pacs", "issuer": issuer}]}
    config = settings(archive, method, tmp_path, identity=rules)
    done = run("--patients", patients, "--to", tmp_path / "to", "--list", tmp_path / "list.csv",
               "--config", config)  # fmt: skip
    assert done.exit_code == code, done.output
    said = {row[3] for row in listed(tmp_path / "list.csv").values()}
    assert ("other_person: found another Issuer of Patient ID" in said) == (code == 2), said


@pytest.mark.peers
def test_the_node_takes_them_in(archive: Orthanc, tmp_path: Path) -> None:
    """Beside a running node, whose scheduler finds the pair; its own outputs do not come."""
    patients = list_of(tmp_path / "patients.csv", "25")
    config = settings(archive, "dicomweb", tmp_path)
    (tmp_path / "node").mkdir()
    with open_catalogue(config) as (_, catalogue):
        arguments = ("--patients", patients, "--to-node", "--config", config)
        assert run(*arguments).exit_code == 0
        taken = catalogue.instances.all()
        assert len(taken) == 4
        assert not any(one.own_output for one in taken)
        assert {one.source for one in taken} == {"retrieve:pacs"}
        plan = Plan(profiles=(), spaces=(), reading=Reading())
        begun: list[str] = []
        Scheduler(
            catalogue, plan, Rules(0), Starters(lambda run: begun.append(run), lambda *_: None)
        ).tick(2e9)
        assert len(catalogue.runs.all()) == 1
        again = run(*arguments)
        assert "it was there" in again.output
        assert len(catalogue.instances.all()) == 4
    assert not list((tmp_path / "node" / "retrieving").iterdir())


@pytest.mark.peers
def test_a_source_that_is_away_leaves_the_patient_without(archive: Orthanc, tmp_path: Path) -> None:
    """The next source is not asked: what it has may be another study."""
    patients = list_of(tmp_path / "patients.csv", "11")
    config = settings(archive, "c-get", tmp_path)
    known = yaml.safe_load(config.read_text())
    away = {"name": "away", "method": "dicomweb", "url": f"http://127.0.0.1:{free_port()}"}
    config.write_text(yaml.safe_dump({**known, "sources": [away, *known["sources"]]}))
    done = run("--patients", patients, "--to", tmp_path / "to", "--list", tmp_path / "list.csv",
               "--config", config)  # fmt: skip
    assert done.exit_code == 2
    ((_, _, taken, why),) = listed(tmp_path / "list.csv").values()
    assert (taken, why) == ("no", "not_finished: query: ConnectError; run it again")
    assert objects_in(tmp_path / "to") == {}


@pytest.mark.peers
def test_only_what_is_segmented_where_that_is_wanted(archive: Orthanc, tmp_path: Path) -> None:
    """Of two studies the nearer has no segmentation: the farther is the baseline."""
    patients = list_of(tmp_path / "patients.csv", "07")
    config = settings(archive, "c-get", tmp_path, retrieval={"segmented": True})
    done = run("--patients", patients, "--dry-run", "--list", tmp_path / "list.csv",
               "--config", config)  # fmt: skip
    assert done.exit_code == 0
    taken = [row for row in listed(tmp_path / "list.csv").values() if row[2] == "yes"]
    assert [row[3] for row in taken] == [
        "baseline: -10 days from the index date", "of_the_baseline: drawn on the baseline",
    ]  # fmt: skip


def test_where_to_is_said_once_and_a_moving_source_is_refused(tmp_path: Path) -> None:
    patients = list_of(tmp_path / "patients.csv", "11")
    for how in ((), ("--dry-run", "--to", tmp_path / "to"), ("--to-node", "--to", tmp_path)):
        done = run("--patients", patients, *how)
        assert done.exit_code == 1
        assert "wanted one of --to FOLDER, --to-node and --dry-run" in done.output
    config = tmp_path / "mirv.yaml"
    moving = {"name": "pacs", "method": "c-move", "ae_title": "A", "host": "127.0.0.1", "port": 1}
    for sources, said in (([], "found none"), ([moving], "found pacs with c-move")):
        config.write_text(yaml.safe_dump({"sources": sources}))
        done = run("--patients", patients, "--dry-run", "--config", config)
        assert done.exit_code == 1
        assert said in " ".join(done.output.split())


def test_one_process_at_a_time_works_on_a_folder(tmp_path: Path) -> None:
    left = tmp_path / ".mirv-retrieve-left"
    left.mkdir()
    with passage_in(tmp_path) as passage:
        assert not left.exists()
        with pytest.raises(Unavailable, match="another mirv retrieve"), passage_in(tmp_path):
            pass
    assert not passage.exists()
    with passage_in(tmp_path):
        pass
