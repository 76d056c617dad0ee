"""Spool against index: what a crash or a bad disk leaves is found and put right."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirv.dicom_io.phantom import patient
from mirv.dicom_io.standard.identity import MANUFACTURER
from mirv.service.catalogue import Catalogue, EventKind, sqlite_url
from mirv.service.catalogue.database.engine import Database
from mirv.service.objects import repair
from mirv.service.objects.intake import Intake
from mirv.service.objects.spool import Spool
from tests.service.wire import ct_slice, part10


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Catalogue]:
    opened = Catalogue(sqlite_url(tmp_path / "catalogue.sqlite"))
    yield opened
    opened.close()


@pytest.fixture
def taken(spool: Spool, store: Catalogue) -> list[str]:
    """Hashes of three objects taken in."""
    intake = Intake(spool, store)
    for number in range(3):
        assert intake.take(part10(ct_slice(number)), "test").verdict == "stored"
    return [row.sha256 for row in store.instances.all()]


def test_a_sound_spool_is_healthy(spool: Spool, store: Catalogue, taken: list[str]) -> None:
    findings = repair.check(spool, store, thorough=True, in_flight_s=0)
    assert findings == repair.Findings()
    assert findings.healthy


def test_a_file_that_lost_its_row_is_indexed(
    spool: Spool, store: Catalogue, taken: list[str]
) -> None:
    stored = spool.put((part10(ct_slice(9)),))
    assert repair.check(spool, store).unindexed == []  # young: maybe on its way
    findings = repair.check(spool, store, in_flight_s=0)
    assert findings.unindexed == [stored.sha256]
    repair.put_right(spool, store, findings)
    row = store.instances.find("1.2.3.9")
    assert row is not None
    assert (row.sha256, row.source) == (stored.sha256, "repair")
    assert repair.check(spool, store, in_flight_s=0) == repair.Findings()


def test_after_a_power_cut_what_was_acknowledged_is_indexed_again(
    spool: Spool, tmp_path: Path
) -> None:
    """Rows of received objects are not synced one by one: the files are, and know the rest."""
    before = Catalogue(sqlite_url(tmp_path / "catalogue.sqlite"))
    Intake(spool, before).take(part10(ct_slice(1)), "CT@192.0.2.1")
    before.close()
    living = Catalogue(sqlite_url(tmp_path / "catalogue.sqlite"))
    Intake(spool, living).take(part10(ct_slice(2)), "CT@192.0.2.2")
    made = patient.write_study(
        tmp_path / "study", n_lesions=1, shape=(12, 48, 48), spacing=(6.0, 3.0, 3.0)
    )
    seg = made.seg
    assert seg is not None
    Intake(spool, living).take(seg.read_bytes(), "SEG@192.0.2.3")
    own = ct_slice(3, Manufacturer=MANUFACTURER)
    Intake(spool, living).take(part10(own), "PACS@192.0.2.4")
    was = {row.sop_instance_uid: row for row in living.instances.all()}
    # What no one synced is gone: the write-ahead log.
    shutil.copy(tmp_path / "catalogue.sqlite", tmp_path / "after.sqlite")
    living.close()
    after = Catalogue(sqlite_url(tmp_path / "after.sqlite"))
    assert len(after.instances.all()) == 1
    repair.put_right(spool, after, repair.check(spool, after, in_flight_s=0))
    rows = {row.sop_instance_uid: row for row in after.instances.all()}
    assert set(rows) == set(was)
    for uid, row in rows.items():
        assert row.source == was[uid].source
        assert row.received_at == pytest.approx(was[uid].received_at, abs=5)
        assert row == replace(was[uid], received_at=row.received_at)
    told = {event.object_uid for event in after.events.all(kind=EventKind.RECEIVED)}
    assert told == set(was)
    assert repair.check(spool, after, thorough=True, in_flight_s=0) == repair.Findings()
    after.close()


def test_the_row_of_an_own_output_is_synced_where_files_know_no_sender(
    spool: Spool, store: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repair takes such a file for a result just made, so it cannot make the row again."""
    synced: list[str] = []
    write = Database.write

    def noted(database: Database) -> Any:
        synced.append("")
        return write(database)

    monkeypatch.setattr(Database, "write", noted)
    own, other = ct_slice(1, Manufacturer=MANUFACTURER), ct_slice(2)
    Intake(spool, store).take(part10(other), "PACS@192.0.2.4")
    Intake(spool, store).take(part10(own), "PACS@192.0.2.4")
    assert synced == []

    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr("os.setxattr", refuse)
    own.SOPInstanceUID, other.SOPInstanceUID = "1.2.3.3", "1.2.3.4"
    Intake(spool, store).take(part10(other), "PACS@192.0.2.4")
    assert synced == []
    Intake(spool, store).take(part10(own), "PACS@192.0.2.4")
    assert synced == [""]
    assert len(store.instances.all()) == 4


def test_what_the_power_cut_left_half_written_is_put_aside(
    spool: Spool, store: Catalogue, taken: list[str]
) -> None:
    """A name without its content: it was given before the sync, and no one was told "stored"."""
    stored = spool.put((part10(ct_slice(9)),))
    stored.path.write_bytes(b"")
    repair.put_right(spool, store, repair.check(spool, store, in_flight_s=0))
    assert [row.code for row in store.quarantine.all()] == ["unfinished"]
    assert len(store.instances.all()) == 3
    assert Intake(spool, store).take(part10(ct_slice(9)), "test").verdict == "stored"
    assert repair.check(spool, store, thorough=True, in_flight_s=0) == repair.Findings()


def test_a_file_whose_uid_is_taken_goes_to_quarantine(
    spool: Spool, store: Catalogue, taken: list[str]
) -> None:
    other = spool.put((part10(ct_slice(1, InstanceNumber=77)),))
    repair.put_right(spool, store, repair.check(spool, store, in_flight_s=0))
    assert not other.path.exists()
    assert [row.code for row in store.quarantine.all()] == ["other_content"]
    assert len(store.instances.all()) == 3


def test_an_unread_result_is_left_for_its_step(
    spool: Spool, store: Catalogue, taken: list[str]
) -> None:
    result = spool.put((b"a result record",))
    repair.put_right(spool, store, repair.check(spool, store, in_flight_s=0))
    assert result.path.exists()
    assert len(store.instances.all()) == 3


def test_a_missing_file_is_named_and_taken_when_sent_again(
    spool: Spool, store: Catalogue, taken: list[str]
) -> None:
    spool.remove(taken[1])
    findings = repair.check(spool, store)
    assert findings.missing == ["1.2.3.1"]
    assert not findings.healthy
    repair.put_right(spool, store, findings)
    assert len(store.studies.headers({"1.2.3"})) == 2
    store.studies.note_matched({"1.2.3": 3}, [], [], 1.0)
    assert Intake(spool, store).take(part10(ct_slice(1)), "test").verdict == "stored"
    assert repair.check(spool, store, thorough=True) == repair.Findings()
    assert len(store.studies.headers({"1.2.3"})) == 3
    assert [row.study_uid for row in store.studies.unmatched()] == ["1.2.3"]


def test_a_changed_file_is_found_by_its_content_and_put_aside(
    spool: Spool, store: Catalogue, taken: list[str]
) -> None:
    path = spool.path(taken[2])
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert repair.check(spool, store).healthy
    findings = repair.check(spool, store, thorough=True)
    assert findings.damaged == [taken[2]]
    repair.put_right(spool, store, findings)
    assert [row.code for row in store.quarantine.all()] == ["damaged"]
    assert Intake(spool, store).take(part10(ct_slice(2)), "test").verdict == "stored"
    assert repair.check(spool, store, thorough=True) == repair.Findings()
