"""Spool against index: what a crash or a bad disk leaves is found and put right."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service import doctor
from service.intake import Intake
from service.spool import Spool
from service.store import Store, sqlite_url
from tests.service.wire import ct_slice, part10


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(sqlite_url(tmp_path / "catalogue.sqlite"))
    yield opened
    opened.close()


@pytest.fixture
def taken(spool: Spool, store: Store) -> list[str]:
    """Hashes of three objects taken in."""
    intake = Intake(spool, store)
    for number in range(3):
        assert intake.take(part10(ct_slice(number)), "test").verdict == "stored"
    return [row.sha256 for row in store.instances.all()]


def test_a_sound_spool_is_healthy(spool: Spool, store: Store, taken: list[str]) -> None:
    findings = doctor.check(spool, store, thorough=True, in_flight_s=0)
    assert findings == doctor.Findings()
    assert findings.healthy


def test_a_file_that_lost_its_row_is_indexed(spool: Spool, store: Store, taken: list[str]) -> None:
    stored = spool.put((part10(ct_slice(9)),))
    assert doctor.check(spool, store).unindexed == []  # young: maybe on its way
    findings = doctor.check(spool, store, in_flight_s=0)
    assert findings.unindexed == [stored.sha256]
    doctor.repair(spool, store, findings)
    row = store.instances.find("1.2.3.9")
    assert row is not None
    assert (row.sha256, row.source) == (stored.sha256, "repair")
    assert doctor.check(spool, store, in_flight_s=0) == doctor.Findings()


def test_a_file_whose_uid_is_taken_goes_to_quarantine(
    spool: Spool, store: Store, taken: list[str]
) -> None:
    other = spool.put((part10(ct_slice(1, InstanceNumber=77)),))
    doctor.repair(spool, store, doctor.check(spool, store, in_flight_s=0))
    assert not other.path.exists()
    assert [row.code for row in store.instances.quarantined()] == ["other_content"]
    assert len(store.instances.all()) == 3


def test_an_unread_result_is_left_for_its_step(
    spool: Spool, store: Store, taken: list[str]
) -> None:
    result = spool.put((b"a result record",))
    doctor.repair(spool, store, doctor.check(spool, store, in_flight_s=0))
    assert result.path.exists()
    assert len(store.instances.all()) == 3


def test_a_missing_file_is_named_and_taken_when_sent_again(
    spool: Spool, store: Store, taken: list[str]
) -> None:
    spool.remove(taken[1])
    findings = doctor.check(spool, store)
    assert findings.missing == ["1.2.3.1"]
    assert not findings.healthy
    doctor.repair(spool, store, findings)
    assert len(store.instances.headers({"1.2.3"})) == 2
    store.instances.note_matched({"1.2.3": 3}, [], [], 1.0)
    assert Intake(spool, store).take(part10(ct_slice(1)), "test").verdict == "stored"
    assert doctor.check(spool, store, thorough=True) == doctor.Findings()
    assert len(store.instances.headers({"1.2.3"})) == 3
    assert [row.study_uid for row in store.instances.unmatched()] == ["1.2.3"]


def test_a_changed_file_is_found_by_its_content_and_put_aside(
    spool: Spool, store: Store, taken: list[str]
) -> None:
    path = spool.path(taken[2])
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert doctor.check(spool, store).healthy
    findings = doctor.check(spool, store, thorough=True)
    assert findings.damaged == [taken[2]]
    doctor.repair(spool, store, findings)
    assert [row.code for row in store.instances.quarantined()] == ["damaged"]
    assert Intake(spool, store).take(part10(ct_slice(2)), "test").verdict == "stored"
    assert doctor.check(spool, store, thorough=True) == doctor.Findings()
