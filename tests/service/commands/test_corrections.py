"""`mirv corrections`: an operator sees what differs, accepts or refuses."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from mirv.service.catalogue import EventKind
from mirv.service.commands.main import app
from tests.service.objects.test_corrections import CORRECTED, STUDY, Desk, slices

Told = Callable[..., Result]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    made.send(*slices())
    yield made
    made.store.close()


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.setenv("COLUMNS", "250")
    config = tmp_path / "mirv.yaml"
    config.write_text(yaml.safe_dump({"folder": str(tmp_path)}))

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["corrections", *arguments, "--config", str(config)])

    return run


def test_list_show_and_accept(desk: Desk, told: Told) -> None:
    assert "nothing waits" in told("list").output
    desk.send(*slices(**CORRECTED))
    listed = told("list").output
    assert STUDY in listed and "patient_id, name" in listed and "yes" in listed
    for shown in (told("show", STUDY).output, told("show", "--patient", "SENTINEL-ID").output):
        assert "SENTINEL^NAME" in shown and "Right^Name" in shown
    done = told("accept", STUDY)
    assert (done.exit_code, done.output.strip()) == (0, "accepted: 4 objects of 1 studies")
    assert str(desk.stored().PatientID) == "RIGHT-ID"
    (by,) = {one["by"] for one in desk.events(EventKind.CORRECTED)}
    assert by.startswith("command ")
    assert "nothing waits" in told("list").output


def test_what_was_not_shown_is_not_accepted(desk: Desk, told: Told) -> None:
    """More was sent between `show` and `accept`."""
    desk.send(*slices(**CORRECTED))
    mark = told("show", STUDY).output.split("mark: ")[1].split()[0]
    desk.send(*slices(**{**CORRECTED, "PatientID": "OTHER-ID"}))
    done = told("accept", STUDY, "--mark", mark)
    assert done.exit_code == 1 and f"wanted {mark}" in done.output
    assert str(desk.stored().PatientID) != "OTHER-ID"
    mark = told("show", STUDY).output.split("mark: ")[1].split()[0]
    assert told("accept", STUDY, "--mark", mark).exit_code == 0
    assert str(desk.stored().PatientID) == "OTHER-ID"


def test_part_of_a_series_is_said_in_a_line_and_changes_nothing(desk: Desk, told: Told) -> None:
    desk.send(*slices(3, **CORRECTED))
    assert "3 of 4 images" in told("list").output
    assert "cannot be accepted: 3 of 4 images" in told("show", STUDY).output
    done = told("accept", "--patient", "SENTINEL-ID")
    assert done.exit_code == 1
    assert "3 of 4 images of series 1.2.3.0 were sent again" in done.output
    assert "Traceback" not in done.output
    assert str(desk.stored().PatientID) == "SENTINEL-ID"


def test_refuse_and_undo(desk: Desk, told: Told) -> None:
    desk.send(*slices(**CORRECTED))
    assert told("refuse", STUDY).output.strip() == "refused: 4 objects"
    assert "nothing waits" in told("list").output
    assert STUDY in told("list", "--refused").output
    assert told("refuse", "--undo", "--patient", "SENTINEL-ID").output.strip() == (
        "wait again: 4 objects"
    )
    assert STUDY in told("list", "--patient", "SENTINEL-ID").output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["accept"], "one of both"),
        (["accept", STUDY, "--patient", "P"], "one of both"),
        (["accept", "9.9"], "no pending correction of study '9.9'"),
        (["refuse", "--patient", "P"], "no pending correction of this patient"),
    ],
)
def test_what_is_meant_must_be_clear(
    desk: Desk, told: Told, arguments: list[str], said: str
) -> None:
    desk.send(*slices(**CORRECTED))
    done = told(*arguments)
    assert done.exit_code == 1
    assert said in done.output
    assert len(desk.look().rows) == 4


def test_no_sender_colours_the_terminal(desk: Desk, told: Told) -> None:
    desk.send(*slices(PatientID="[red]X[/red]", PatientName="[bold]Y^[/nope]"))
    shown = told("show", STUDY)
    assert shown.exit_code == 0
    assert "[red]X[/red]" in shown.output and "[bold]Y^[/nope]" in shown.output
