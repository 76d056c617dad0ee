"""Commands beside the running node say what it does."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mirv.service.catalogue import Catalogue, sqlite_url
from mirv.service.catalogue.run_rows import NewRun
from mirv.service.commands.main import app


def test_jobs_list_shows_progress_and_priority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    config = tmp_path / "mirv.yaml"
    config.write_text(yaml.safe_dump({"folder": str(tmp_path)}))
    store = Catalogue(sqlite_url(tmp_path / "catalogue.sqlite"))
    for name, priority in (("a", 100), ("b", 5), ("c", 100)):
        new = NewRun(name, "1.2", f"1.2.{name}", "P", "20240101", "i", "p", "{}", None, priority)
        store.runs.queue(new, 1_700_000_000)
    store.runs.start("a", 1_700_000_001)
    store.runs.note_progress("a", 7, 24)
    store.close()
    shown = CliRunner().invoke(app, ["jobs", "list", "--config", str(config)])
    assert shown.exit_code == 0, shown.output
    assert "running, 7 of 24" in shown.output
    assert "queued, priority 5" in shown.output
    assert "priority 100" not in shown.output


def test_a_wrong_output_is_said_with_every_other_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    config = tmp_path / "mirv.yaml"
    config.write_text("outputs: {extras: [report_pdf, nope]}\nhttp: {port: 99999999}\n")
    said = CliRunner().invoke(app, ["config", "check", "--config", str(config)])
    assert said.exit_code == 1
    assert "2 fault(s)" in said.output
    assert "outputs.extras.1" in said.output and "found 'nope'" in said.output
    config.write_text("outputs: {extras: [nope]}\n")
    said = CliRunner().invoke(app, ["config", "check", "--config", str(config)])
    assert "1 fault(s)" in said.output and "outputs.extras.0" in said.output
