"""Objects sent again under known UIDs with another patient or study: seen, accepted, refused."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from mirv.config.errors import BadInput
from mirv.config.settings.keeping import Retention
from mirv.dicom_io.files.header import InstanceHeader
from mirv.service.catalogue import (
    Catalogue,
    Changed,
    CorrectionState,
    EventKind,
    sqlite_url,
)
from mirv.service.catalogue.acceptances import Acceptances
from mirv.service.catalogue.run_rows import ArtifactRow
from mirv.service.objects import corrections, repair, retention
from mirv.service.objects import intake as intake_module
from mirv.service.objects.corrections import Correction, Decision
from mirv.service.objects.intake import Intake
from mirv.service.objects.spool import Spool
from tests.service.catalogue.test_catalogue import new_run
from tests.service.postgres import create_database, postgres
from tests.service.wire import CT, ct_slice, part10

STUDY = "1.2.3"
BY = Decision("test someone", 2_000_000_000.0)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "catalogue.sqlite")
    else:
        with postgres() as server:
            yield create_database(server, "corrections")


class Desk:
    """A spool and a catalogue, and who sends to them."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self.folder = folder
        self.spool = Spool(folder / "spool")
        self.store = Catalogue(url or sqlite_url(folder / "catalogue.sqlite"))
        self.intake = Intake(self.spool, self.store)

    def send(self, *objects: Dataset) -> list[str]:
        """What becomes of each."""
        return [str(self.intake.take(part10(one), "SENDER").verdict) for one in objects]

    def look(self, study_uid: str = STUDY) -> Correction:
        found = corrections.look(self.spool, self.store, study_uid)
        assert found is not None
        return found

    def accept(self, *studies: str) -> None:
        found = [self.look(uid) for uid in studies or (STUDY,)]
        corrections.accept(self.spool, self.store, found, BY)

    def stored(self, number: int = 1) -> Dataset:
        """An object as it is stored now."""
        row = self.store.instances.find(f"1.2.3.{number}")
        assert row is not None
        return dcmread(self.spool.path(row.sha256))

    def start(self) -> repair.Findings:
        """What a node does about its spool when it starts; what is amiss afterwards."""
        findings = repair.check(self.spool, self.store, in_flight_s=0)
        repair.put_right(self.spool, self.store, findings)
        return repair.check(self.spool, self.store, thorough=True, in_flight_s=0)

    def kept(self) -> set[str]:
        """SHA-256 of every file, wherever it is."""
        return {one.sha256 for area in ("objects", "quarantine") for one in self.spool.stored(area)}  # type: ignore[arg-type]

    def events(self, kind: EventKind) -> list[dict[str, Any]]:
        return [event.detail for event in self.store.events.all(kind=kind)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.store.close()


def slices(count: int = 4, **tags: Any) -> list[Dataset]:
    return [ct_slice(number, **tags) for number in range(1, count + 1)]


CORRECTED = {"PatientID": "RIGHT-ID", "PatientName": "Right^Name"}


def test_what_differs_is_shown_and_accepted_and_what_was_stored_is_kept(
    tmp_path: Path, url: str
) -> None:
    desk = Desk(tmp_path, url)
    assert desk.send(*slices()) == ["stored"] * 4
    before = desk.kept()
    assert desk.send(*slices(**CORRECTED)) == ["conflict"] * 4
    found = desk.look()
    assert [(one.field, one.before, one.after, one.objects) for one in found.changes] == [
        ("patient_id", "SENTINEL-ID", "RIGHT-ID", 4),
        ("name", "SENTINEL^NAME", "Right^Name", 4),
    ]
    assert (len(found.rows), found.n_stored, found.obstacles) == (4, 4, ())
    assert found.patient_ids == ("SENTINEL-ID",)
    last = desk.store.instances.last_seq()
    desk.accept()
    assert {str(desk.stored(number).PatientID) for number in range(1, 5)} == {"RIGHT-ID"}
    assert desk.kept() == before | {row.sha256 for row in desk.store.instances.all()}
    assert desk.store.instances.last_seq() > last  # so that the study is looked at again
    assert corrections.look(desk.spool, desk.store, STUDY) is None
    assert desk.store.quarantine.count() == 0
    told = desk.events(EventKind.CORRECTED)
    assert len(told) == 4
    assert {(one["by"], *one["fields"]) for one in told} == {("test someone", "patient_id", "name")}
    assert not {"RIGHT-ID", "SENTINEL-ID", "Right"} & set(str(told).replace("'", " ").split())
    assert desk.start() == repair.Findings()
    assert str(desk.stored().PatientID) == "RIGHT-ID"
    desk.store.close()


def test_the_accepted_is_known_and_the_old_is_a_correction_again(desk: Desk) -> None:
    desk.send(*slices())
    desk.send(*slices(**CORRECTED))
    desk.accept()
    assert desk.send(*slices(**CORRECTED)) == ["known"] * 4
    assert desk.send(*slices()) == ["conflict"] * 4
    (change, *_) = desk.look().changes
    assert (change.before, change.after) == ("RIGHT-ID", "SENTINEL-ID")
    desk.accept()
    assert str(desk.stored().PatientID) == "SENTINEL-ID"
    assert desk.send(*slices(**CORRECTED)) == ["conflict"] * 4
    assert len(desk.look().rows) == 4
    assert desk.start() == repair.Findings()


def test_of_two_corrections_the_later_waits_and_both_are_kept(desk: Desk) -> None:
    desk.send(*slices())
    desk.send(*slices(PatientID="FIRST"))
    desk.send(*slices(PatientID="SECOND"))
    assert {change.after for change in desk.look().changes} == {"SECOND"}
    assert len(desk.kept()) == 12
    desk.send(*slices(PatientID="FIRST"))  # the latest of all
    assert {change.after for change in desk.look().changes} == {"FIRST"}
    assert len(desk.kept()) == 12


def test_part_of_a_series_is_not_accepted_and_the_rest_makes_it_whole(desk: Desk) -> None:
    desk.send(*slices())
    desk.send(*slices(3, **CORRECTED))
    assert desk.look().obstacles[0].startswith("3 of 4 images of series 1.2.3.0 were sent again")
    with pytest.raises(BadInput, match="3 of 4 images of series"):
        desk.accept()
    assert desk.start() == repair.Findings()
    assert {str(desk.stored(number).PatientID) for number in range(1, 5)} == {"SENTINEL-ID"}
    desk.send(*slices(**CORRECTED)[3:])
    desk.accept()
    assert {str(desk.stored(number).PatientID) for number in range(1, 5)} == {"RIGHT-ID"}


def test_halves_under_two_identities_become_one(desk: Desk) -> None:
    """The rest came under the right ID at once: only the first half is to be decided."""
    desk.send(*slices(2))
    assert desk.send(*slices(**CORRECTED)) == ["conflict"] * 2 + ["stored"] * 2
    assert (len(desk.look().rows), desk.look().obstacles) == (2, ())
    desk.accept()
    assert {str(desk.stored(number).PatientID) for number in range(1, 5)} == {"RIGHT-ID"}


def test_another_series_of_the_study_must_not_stay_another_persons(desk: Desk) -> None:
    other = [ct_slice(number, SeriesInstanceUID="1.2.3.100") for number in (11, 12)]
    desk.send(*slices(), *other)
    desk.send(*slices(**CORRECTED))
    assert desk.look().obstacles[0].startswith("0 of 2 images of series 1.2.3.100 were sent again")
    for one in other:
        one.PatientID, one.PatientName = "RIGHT-ID", "Right^Name"
    desk.send(*other)
    assert desk.look().obstacles == ()


def test_a_study_sent_again_as_two_persons_is_not_accepted(desk: Desk) -> None:
    desk.send(*slices())
    desk.send(*slices(2, **CORRECTED), *slices(PatientID="THIRD")[2:])
    assert desk.look().obstacles


@pytest.mark.parametrize("new", [{"StudyInstanceUID": "9.9"}, {"SeriesInstanceUID": "9.9.0"}])
def test_objects_move_to_another_study_or_series(desk: Desk, new: dict[str, str]) -> None:
    desk.send(*slices())
    desk.send(*slices(3, **new))
    moved = "StudyInstanceUID" in new
    assert bool(desk.look().obstacles) == moved
    desk.send(*slices(**new))
    (change,) = desk.look().changes
    assert (change.field, change.after) == ("study_uid" if moved else "series_uid", *new.values())
    desk.accept()
    (study,) = desk.store.studies.all()
    assert study.study_uid == ("9.9" if moved else STUDY)
    assert {row.series_uid for row in desk.store.instances.all()} == {
        "1.2.3.0" if moved else "9.9.0"
    }


def test_other_pixels_are_said_and_one_slice_alone_may_be_accepted(desk: Desk) -> None:
    desk.send(*slices())
    desk.send(
        ct_slice(2, PixelData=bytes(511) + b"\1"), ct_slice(3, ImagePositionPatient=[0, 0, 9])
    )
    assert [(one.field, one.before, one.after) for one in desk.look().changes] == [
        ("pixels", "", ""),
        ("other", "", ""),
    ]
    desk.accept()
    assert desk.stored(2).PixelData[-1] == 1


def test_refused_waits_no_more_though_sent_again_and_can_be_reopened(desk: Desk) -> None:
    desk.send(*slices())
    desk.send(*slices(**CORRECTED))
    assert corrections.refuse(desk.store, [desk.look()], BY) == 4
    assert desk.send(*slices(**CORRECTED)) == ["conflict"] * 4
    assert corrections.waiting(desk.spool, desk.store) == []
    assert len(desk.kept()) == 8
    assert [one["by"] for one in desk.events(EventKind.CORRECTION_REFUSED)] == [BY.by] * 4
    assert desk.start() == repair.Findings()
    refused = corrections.waiting(desk.spool, desk.store, CorrectionState.REFUSED)
    assert corrections.reopen(desk.store, refused, BY) == 4
    desk.accept()
    assert str(desk.stored().PatientID) == "RIGHT-ID"


def test_all_studies_of_a_patient_are_accepted_together_or_none(desk: Desk) -> None:
    studies = {uid: {"StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.0"} for uid in "78"}
    made = {
        uid: [ct_slice(n, **tags) for n in (int(uid), int(uid) + 10)]
        for uid, tags in studies.items()
    }
    desk.send(*made["7"], *made["8"])
    for one in (*made["7"], *made["8"]):
        one.PatientID, one.PatientName = "MERGED", "Right^Name"
    desk.send(*made["7"], made["8"][0])
    chosen = corrections.of_patient(desk.store, "SENTINEL-ID")
    assert sorted(chosen) == ["7", "8"]
    with pytest.raises(BadInput, match="study 8: 1 of 2 images"):
        desk.accept(*chosen)
    assert str(desk.stored(7).PatientID) == "SENTINEL-ID"
    desk.send(made["8"][1])
    desk.accept(*chosen)
    assert {str(desk.stored(number).PatientID) for number in (7, 17, 8, 18)} == {"MERGED"}


def test_what_came_since_it_was_looked_at_is_not_accepted_blindly(desk: Desk) -> None:
    desk.send(*slices())
    desk.send(*slices(**CORRECTED))
    seen = desk.look()
    desk.send(*slices(1, PatientID="LATER"))
    with pytest.raises(Changed):
        corrections.accept(desk.spool, desk.store, [seen], BY)
    assert {str(desk.stored(number).PatientID) for number in range(1, 5)} == {"SENTINEL-ID"}
    assert desk.start() == repair.Findings()


@pytest.mark.parametrize("point", ["before", "after"])
def test_a_crash_between_the_steps_leaves_all_or_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Killed before the rows change, or before the files follow them; then the node starts."""
    desk.send(*slices())
    desk.send(*slices(**CORRECTED))
    files = desk.kept()
    accept: Callable[..., None] = Acceptances.accept

    def dies(self: Acceptances, *told: Any) -> None:
        if point == "after":
            accept(self, *told)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Acceptances, "accept", dies)
        patched.setattr(corrections, "set_aside", lambda *_: None)
        desk.accept()
    assert desk.start() == repair.Findings()
    assert desk.kept() == files
    if point == "before":
        assert str(desk.stored().PatientID) == "SENTINEL-ID"
        assert desk.send(*slices(**CORRECTED)) == ["conflict"] * 4
        desk.accept()
    assert {str(desk.stored(number).PatientID) for number in range(1, 5)} == {"RIGHT-ID"}
    assert corrections.waiting(desk.spool, desk.store) == []
    assert desk.send(*slices(**CORRECTED)) == ["known"] * 4
    assert desk.start() == repair.Findings()


def test_a_catalogue_of_before_the_acceptance_finds_what_was_replaced(desk: Desk) -> None:
    """Restored from a backup: what was stored then is stored again, and the correction waits."""
    desk.send(*slices())
    desk.send(*slices(**CORRECTED))
    desk.store.close()
    backup = (desk.folder / "catalogue.sqlite").read_bytes()
    desk.store = Catalogue(sqlite_url(desk.folder / "catalogue.sqlite"))
    desk.accept()
    desk.store.close()
    for leftover in desk.folder.glob("catalogue.sqlite*"):
        leftover.unlink()
    (desk.folder / "catalogue.sqlite").write_bytes(backup)
    desk.store = Catalogue(sqlite_url(desk.folder / "catalogue.sqlite"))
    assert desk.start() == repair.Findings()
    assert str(desk.stored().PatientID) == "SENTINEL-ID"
    desk.accept()
    assert str(desk.stored().PatientID) == "RIGHT-ID"


def test_without_a_catalogue_the_files_tell_what_was_accepted(desk: Desk) -> None:
    desk.send(*slices())
    desk.send(*slices(**CORRECTED))
    desk.accept()
    desk.store.close()
    for lost in desk.folder.glob("catalogue.sqlite*"):
        lost.unlink()
    desk.store = Catalogue(sqlite_url(desk.folder / "catalogue.sqlite"))
    assert desk.start() == repair.Findings()
    assert {str(desk.stored(number).PatientID) for number in range(1, 5)} == {"RIGHT-ID"}


def test_a_correction_whose_file_is_damaged_is_not_accepted(desk: Desk) -> None:
    desk.send(*slices())
    desk.send(*slices(**CORRECTED))
    row = desk.look().rows[0]
    desk.spool.path(row.sha256, "quarantine").write_bytes(b"rotten")
    with pytest.raises(BadInput, match="sent again"):
        desk.accept()
    assert desk.start() == repair.Findings()
    desk.send(*slices(**CORRECTED))
    desk.accept()
    assert desk.start() == repair.Findings()


@pytest.mark.parametrize(("place", "step"), [(intake_module, "differences"), (Spool, "put_aside")])
def test_what_is_accepted_while_another_sends_it_stays_stored(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, place: object, step: str
) -> None:
    """The other sender has found a conflict, and moves its file only after the acceptance."""
    desk.send(*slices())
    desk.send(*slices(**CORRECTED))
    waiting: Callable[..., object] = getattr(place, step)

    def late(*told: object) -> object:
        monkeypatch.undo()
        desk.accept()
        return waiting(*told)

    monkeypatch.setattr(place, step, late)
    assert desk.send(*slices(1, **CORRECTED)) == ["known"]
    assert desk.start() == repair.Findings()
    assert str(desk.stored().PatientID) == "RIGHT-ID"
    assert corrections.waiting(desk.spool, desk.store) == []


def test_what_a_run_made_keeps_its_file(desk: Desk) -> None:
    """An output that came back is stored under one name with the output itself."""
    desk.send(*slices(1))
    (row,) = desk.store.instances.all()
    desk.store.runs.queue(new_run("a" * 64), 1)
    made = ArtifactRow("a" * 64, "lesion_sr", 0, CT, row.sop_instance_uid, "1", row.sha256, 1)
    desk.store.runs.finish("a" * 64, [made], [], 1, 2)
    desk.send(*slices(1, **CORRECTED))
    desk.accept()
    assert desk.spool.path(row.sha256).is_file()
    assert desk.start() == repair.Findings()


def test_retention_removes_what_was_replaced_with_its_study_and_keeps_what_waits(
    desk: Desk,
) -> None:
    desk.send(*slices())
    desk.send(*slices(**CORRECTED))
    desk.accept()
    desk.send(*slices(1, PatientID="WAITS"))
    desk.send(*slices(PatientID="REFUSED")[1:])
    corrections.refuse(desk.store, [_only(desk.look(), desk, "REFUSED")], BY)
    rule = Retention(keep_unused_days=1)
    assert retention.sweep(desk.spool, desk.store, rule, BY.now + 3e6) == 4
    (left,) = desk.kept()
    assert left == desk.look().rows[0].sha256
    desk.accept()  # what was removed comes back with its correction
    assert str(desk.stored().PatientID) == "WAITS"
    assert desk.start() == repair.Findings()


def _only(found: Correction, desk: Desk, patient_id: str) -> Correction:
    rows = tuple(
        row
        for row in found.rows
        if patient_id in str(dcmread(desk.spool.path(row.sha256, "quarantine")).PatientID)
    )
    return replace(found, rows=rows)


def test_what_carries_no_issuer_keeps_the_one_of_its_source_when_accepted(desk: Desk) -> None:
    """Also of content that was compared with what another correction has replaced since."""
    desk.intake = Intake(desk.spool, desk.store, issuer_of=lambda source: "HERE")
    desk.send(*slices())
    desk.send(*slices(**CORRECTED))
    corrections.refuse(desk.store, [desk.look()], BY)
    desk.send(*slices(**{**CORRECTED, "PatientID": "OTHER-ID"}))
    desk.accept()
    refused = corrections.look(desk.spool, desk.store, STUDY, CorrectionState.REFUSED)
    assert refused is not None
    corrections.reopen(desk.store, [refused], BY)
    desk.accept()
    assert str(desk.stored().PatientID) == "RIGHT-ID"
    issuers = {InstanceHeader.from_json(one).issuer for one in desk.store.studies.headers([STUDY])}
    assert issuers == {"HERE"}
