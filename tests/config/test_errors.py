"""A fault of the input is one line and an exit code; a bug keeps its traceback (finding A5)."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner, Result

from mirv.analysis.cohort import survival
from mirv.config.errors import MirvError
from mirv.service.commands import main
from mirv.service.node import node
from mirv.service.runtime import log
from mirv.service.study import folder
from tests.peers import free_port


@pytest.fixture(autouse=True)
def _log_stays_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that serve set where the whole process logs to: here, a stream that is closed."""
    monkeypatch.setattr(log, "configure", lambda _level: None)


def run(*words: object) -> Result:
    return CliRunner().invoke(main.app, [str(word) for word in words])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Twelve patients with a time, an event and two terms."""
    path = tmp_path / "patients.csv"
    rows = {
        "patient_id": [f"P{n}" for n in range(12)],
        "t": range(1, 13),
        "e": [1, 0, 1] * 4,
        "age": [51, 67, 48, 70, 66, 59, 73, 44, 62, 58, 69, 55],
        "arm": list("ab") * 6,
    }
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def settings_file(tmp_path: Path, **content: object) -> Path:
    path = tmp_path / "mirv.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def survival_of(table: Path, *words: object) -> Result:
    out = table.parent / "out"
    given = ("--table", table, "--duration", "t", "--event", "e", "--out", out)
    return run("cohort", "survival", *given, *words)


def test_a_bug_in_an_analysis_keeps_its_traceback(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("x and y must be of equal length")

    monkeypatch.setattr(survival, "_fit", broken)
    found = survival_of(table, "--terms", "age")
    assert found.exit_code == 1
    assert type(found.exception) is ValueError
    assert "error:" not in found.output


@pytest.mark.parametrize("fault", [ValueError, OSError, RuntimeError])
def test_a_bug_of_the_node_keeps_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise fault("a bug")

    monkeypatch.setattr(node.engine, "launch", broken)
    monkeypatch.setattr(folder, "headers_of_folder", broken)
    config = settings_file(tmp_path, folder=str(tmp_path / "node"), http={"enabled": False})
    for words in (("serve",), ("process", tmp_path, "--out", tmp_path / "out")):
        found = run(*words, "--config", config)
        assert found.exit_code == 1
        assert type(found.exception) is fault


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--terms", "age,age"), "repeated_term: term 'age' is named twice"),
        (
            ("--terms", "age,arm", "--category", "arm", *(("--interaction", "age:arm") * 2)),
            "repeated_term: term 'age:arm[b]' is made twice",
        ),
        (("--terms", "age", "--event", "t"), "repeated_column: column 't' is named twice"),
        (("--terms", "weight"), "missing_column: table has no column weight"),
        (("--terms", "age", "--interaction", "age"), "--interaction 'age': wanted two names"),
        (("--where", "arm=c"), "no_patients: patients.csv: no row is left by --where"),
    ],
    ids=str,
)
def test_what_a_table_cannot_give_is_said_in_a_line(
    table: Path, words: tuple[str, ...], said: str
) -> None:
    found = survival_of(table, *words)
    assert found.exit_code == 2
    assert found.stderr.startswith(f"error: {said}"), found.stderr
    assert len(found.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("cohort mirv --features {table} --space nope", 2, "error: "),
        ("cohort correlate --table {table} --columns age,age", 2, "'age' is named twice"),
        ("cohort explore --features {table} --outcome arm --pair a,a", 2, "'a' twice"),
        ("cohort robustness --features {table}", 2, "give --features, --eroded and --dilated"),
        ("cohort response", 2, "give --volumes, or --previous and --current"),
        ("cohort variation --features store --config {nowhere}", 1, "no node here"),
        ("cohort correlate --table {table} --out {table}", 1, "File exists"),
        ("space show nope", 2, "error: no feature space 'nope'"),
        ("config check --config {wrong}", 1, "no profile 'nope'"),
        ("process {folder} --out out --profile nope", 1, "no profile 'nope'"),
        ("process {folder} --out {table}", 1, "File exists"),
        ("process {folder} --out out --config {folder}/absent.yaml", 1, "No such file"),
        ("check {folder} --csv {folder}/no/quality.csv", 1, "No such file"),
        ("config check --config {odd}", 1, "fault(s) in"),
        ("profile import {table} --name n --out n.yaml", 1, "patients.csv: found"),
        ("jobs list --config {nowhere}", 1, "no node here"),
        ("export --out {folder} --cohort {folder}/absent.txt --config {here}", 1, "No such file"),
        ("serve --config {unwritable}", 1, "File exists"),
        ("worker --config {here}", 1, "a worker needs database_url"),
        ("sr check {table}", 1, "not_dicom"),
        ("demo --out {folder}", 1, "holds something else"),
        ("demo --out {table}", 1, "Not a directory"),
        ("jobs list --config {no_database}", 1, "catalogue: file is not a database"),
        ("jobs list --config {later}", 1, "found version 9999 of a later mirv, wanted 0006"),
        ("config check --config {no_driver}", 1, "wanted sqlite:///FILE or postgresql+psycopg"),
        ("cohort robustness --dicom {folder}/absent", 1, "no file or folder"),
        ("cohort variation --features {lesions} --group-column patient_id", 2, "not_two_groups"),
        ("config check --config {numbered}", 1, "found 1, wanted names of settings"),
        ("config check --config {no_date}", 1, "not YAML"),
        ("config check --config {deep}", 1, "not YAML"),
        ("config check --config {no_name}", 1, "null byte"),
    ],
)
def test_each_fault_of_the_input_gives_its_line_and_exit_code(
    table: Path, words: str, code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = table.parent
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "1000")
    files = {
        "nowhere": {"folder": str(place / "nowhere")},
        "here": {"folder": str(place)},
        "odd": {"quiet_s": -1},
        "wrong": {"profiles": ["nope"]},
        "unwritable": {"folder": str(table)},
        "numbered": {1: 2},
        "no_driver": {"database_url": "mysql://u:hunter2@x/y"},
        "no_database": {"folder": str(place), "database_url": f"sqlite:///{table}"},
        "later": {"folder": str(place), "database_url": f"sqlite:///{place / 'later.sqlite'}"},
        "no_name": {"profiles": ["a\0b.yaml"]},
    }
    names = {"table": table, "folder": place}
    for name, content in files.items():
        names[name] = place / f"{name}.yaml"
        names[name].write_text(yaml.safe_dump(content), encoding="utf-8")
    for name, text in {"no_date": "a: 2026-13-45", "deep": "[" * 5000}.items():
        names[name] = place / f"{name}.yaml"
        names[name].write_text(text, encoding="utf-8")
    with closing(sqlite3.connect(place / "later.sqlite")) as later:
        later.execute("CREATE TABLE alembic_version (version_num TEXT)")
        later.execute("INSERT INTO alembic_version VALUES ('9999')")
        later.commit()
    names["lesions"] = place / "lesions.csv"
    names["lesions"].write_text(
        "patient_id,lesion,original_shape_Sphericity\na,1,1\na,2,2\nb,1,1\nb,2,3\n"
    )
    found = run(*(word.format(**names) for word in words.split()))
    assert found.exit_code == code, (found.output, found.exception)
    assert isinstance(found.exception, SystemExit)
    assert said in found.stderr
    assert "hunter2" not in found.stderr


@pytest.mark.parametrize(
    ("followed", "said"),
    [
        ({"url": "https://127.0.0.1:1", "trusted": "bad"}, "NO_CERTIFICATE"),
        ({"url": "http://127.0.0.1:1", "user": "u", "password_file": "bad"}, "no UTF-8 text"),
    ],
    ids=["certificate", "password"],
)
def test_what_a_followed_orthanc_lacks_is_said_in_a_line(
    tmp_path: Path, followed: dict[str, str], said: str
) -> None:
    (tmp_path / "bad").write_bytes(b"\xff\xfe")
    config = settings_file(
        tmp_path,
        folder=str(tmp_path / "node"),
        http={"enabled": False},
        listener={"port": free_port()},
        follow=[{"name": "o", **followed}],
    )
    code = "from mirv.service.commands.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", "--config", str(config)],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "1000"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert said in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


def test_every_error_of_the_project_is_in_the_tree() -> None:
    """What leaves its module is a MirvError; private ones and a lack of memory are not told."""
    import pkgutil
    from importlib import import_module

    from mirv import analysis, config, dicom_io, service

    outside = set()
    for package in (config, analysis, dicom_io, service):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations" in module.name:
                continue
            for name, found in vars(import_module(module.name)).items():
                own = isinstance(found, type) and found.__module__ == module.name
                if own and issubclass(found, Exception) and not issubclass(found, MirvError):
                    outside.add(name)
    assert {name for name in outside if not name.startswith("_")} == {"BudgetError"}
