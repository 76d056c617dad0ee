"""Commands beside the running node say what it does."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mirv.service.catalogue import Catalogue, sqlite_url
from mirv.service.catalogue.runs import NewRun
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
