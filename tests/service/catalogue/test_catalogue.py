"""The catalogue: once, all or nothing, and an audit trail that cannot be changed."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from mirv.analysis.errors import Reason, Transient
from mirv.dicom_io.standard.person import Identity
from mirv.dicom_io.study.matching import Selection
from mirv.service.catalogue import (
    MOST_LINKED,
    ArtifactRow,
    Catalogue,
    Conflict,
    EventKind,
    NewInstance,
    Wait,
    sqlite_url,
)
from mirv.service.catalogue.database import schema
from mirv.service.catalogue.database.engine import open_engine
from mirv.service.catalogue.run_rows import NewRun
from tests.peers import wait_until


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Catalogue]:
    opened = Catalogue(sqlite_url(tmp_path / "catalogue.sqlite"))
    yield opened
    opened.close()


def instance(number: int, **other: object) -> NewInstance:
    made = NewInstance(
        sop_instance_uid=f"1.2.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        study_uid="1.9",
        series_uid="1.8",
        sha256=f"{number:064x}",
        size=10,
        source="PEER@127.0.0.1",
        own_output=False,
        header=f'{{"number": {number}}}',
    )
    return replace(made, **other)  # type: ignore[arg-type]


def new_run(run_id: str = "a" * 64, series_uid: str = "1.8") -> NewRun:
    return NewRun(
        run_id=run_id,
        study_uid="1.9",
        series_uid=series_uid,
        patient_id="P",
        study_date="20200101",
        input_digest="i",
        plan_digest="p",
        selection="{}",
    )


def artifact(run_id: str, role: str = "lesion_sr") -> ArtifactRow:
    return ArtifactRow(run_id, role, 0, "1.2.3", f"2.25.{run_id[0]}.{role}", "2.25.7", "f" * 64, 5)


def finished(store: Catalogue, run: NewRun, now: float) -> None:
    assert store.runs.queue(run, now)
    assert store.runs.start(run.run_id, now)
    store.runs.note_result(run.run_id, "e" * 64)
    assert store.runs.finish(run.run_id, [artifact(run.run_id)], [("lesion_sr", "PACS")], 3, now)


def test_migrations_make_exactly_the_schema(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "catalogue.sqlite")
    Catalogue(url).close()
    database = open_engine(url)
    with database.read() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, schema.metadata) == []
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        full = 2
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == full
    database.engine.dispose()


def test_an_instance_is_indexed_once(store: Catalogue) -> None:
    assert store.arrivals.add(instance(1), 1.0)
    assert not store.arrivals.add(instance(1), 2.0)
    with pytest.raises(Conflict) as conflict:
        store.arrivals.add(instance(1, sha256="b" * 64), 3.0)
    assert conflict.value.sha256 == instance(1).sha256
    found = store.instances.find("1.2.1")
    assert found is not None
    assert (found.sha256, found.received_at) == (instance(1).sha256, 1.0)
    assert [event.kind for event in store.events.all()] == ["received"]


def test_many_threads_add_the_same_instances_once(store: Catalogue) -> None:
    added: list[bool] = []

    def add_all() -> None:
        added.extend(store.arrivals.add(instance(number), 1.0) for number in range(25))

    threads = [threading.Thread(target=add_all) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(added) == 25
    assert store.studies.all()[0].n_instances == 25


def test_what_comes_together_is_indexed_together_and_judged_alone(store: Catalogue) -> None:
    store.arrivals.add(instance(1), 1.0)
    commits: list[object] = []
    sa.event.listen(store._database.mendable, "commit", commits.append)
    outcomes: dict[str, object] = {}

    def add(name: str, new: NewInstance) -> None:
        try:
            outcomes[name] = store.arrivals.add(new, 2.0)
        except Exception as fault:  # noqa: BLE001 - what it is is what is tested
            outcomes[name] = type(fault)

    def add_all_at_once(**wanted: NewInstance) -> None:
        threads = [threading.Thread(target=add, args=one) for one in wanted.items()]
        with store.arrivals._committing:
            for thread in threads:
                thread.start()
            wait_until(lambda: len(store.arrivals._arrivals) == len(wanted), 10, "all wait")
        for thread in threads:
            thread.join()

    others = {f"new{number}": instance(number) for number in range(2, 12)}
    add_all_at_once(known=instance(1), other=instance(1, sha256="b" * 64), **others)
    assert outcomes == {"known": False, "other": Conflict, **dict.fromkeys(others, True)}
    assert len(commits) == 1
    outcomes.clear()
    add_all_at_once(impossible=instance(20, size=1 << 70), good=instance(21))
    assert outcomes == {"impossible": OverflowError, "good": True}
    assert len(store.events.all(kind=EventKind.RECEIVED)) == len(store.instances.all()) == 12


def test_a_study_is_unmatched_until_every_object_was_seen(store: Catalogue) -> None:
    store.arrivals.add(instance(1), 1.0)
    store.arrivals.add(instance(2), 5.0)
    (row,) = store.studies.unmatched()
    assert (row.n_instances, row.last_received_at, row.last_seq) == (2, 5.0, 2)
    store.studies.note_matched({"1.9": 2}, [Wait("1.9", "1.2.1", "a segmentation")], [], 6.0)
    assert store.studies.unmatched() == []
    store.arrivals.add(instance(3), 7.0)
    assert [row.n_instances for row in store.studies.unmatched(after_seq=2)] == [3]
    store.studies.note_matched({"1.9": 3}, [Wait("1.9", "1.2.1", "a segmentation")], [], 8.0)
    (waiting,) = store.studies.waiting()
    assert waiting.since == 6.0
    store.studies.note_matched({"1.9": 3}, [], [], 9.0)
    assert store.studies.waiting() == []


def test_studies_linked_by_a_segmentation_are_one_group(store: Catalogue) -> None:
    store.arrivals.add(instance(1), 1.0)
    store.arrivals.add(
        instance(2, study_uid="1.10", series_uid="1.11", referenced_series=("1.8", "1.8")), 1.0
    )
    store.arrivals.add(instance(3, study_uid="1.12", series_uid="1.13"), 1.0)
    assert store.studies.group_of("1.9") == {"1.9", "1.10"}
    assert store.studies.group_of("1.10") == {"1.9", "1.10"}
    assert store.studies.group_of("1.12") == {"1.12"}


def test_own_output_and_removed_objects_are_no_input(store: Catalogue) -> None:
    store.arrivals.add(instance(1), 1.0)
    store.arrivals.add(instance(2, own_output=True), 1.0)
    assert store.studies.headers({"1.9"}) == ['{"number": 1}']


def test_a_new_run_names_its_predecessor_and_supersedes_it_when_finished(store: Catalogue) -> None:
    old, new = new_run("a" * 64), new_run("b" * 64)
    finished(store, old, 10.0)
    assert not store.runs.queue(old, 11.0)
    assert store.runs.queue(new, 12.7)
    row = store.runs.get(new.run_id)
    assert row is not None
    assert (row.predecessor, row.created_at, row.state) == (old.run_id, 12, "queued")
    assert [run.run_id for run in store.runs.all(current=True)] == [new.run_id, old.run_id]
    store.runs.start(new.run_id, 13.0)
    store.runs.finish(new.run_id, [artifact(new.run_id)], [], 3, 14.0)
    assert [run.run_id for run in store.runs.all(current=True)] == [new.run_id]
    before = store.runs.get(old.run_id)
    assert before is not None
    assert (before.state, before.superseded_by) == ("finished", new.run_id)
    assert store.runs.artifacts(old.run_id) == [artifact(old.run_id)]


def test_an_unfinished_run_is_superseded_at_once_and_delivers_nothing(store: Catalogue) -> None:
    waiting, working, new = new_run("a" * 64), new_run("b" * 64), new_run("c" * 64)
    store.runs.queue(waiting, 1.0)
    store.runs.queue(working, 2.0)
    store.runs.start(working.run_id, 2.0)
    store.runs.queue(new, 3.0)
    assert not store.runs.start(waiting.run_id, 4.0)
    assert not store.runs.finish(working.run_id, [], [("lesion_sr", "PACS")], 3, 5.0)
    states = {run.run_id[0]: (run.state, run.reason_code) for run in store.runs.all()}
    assert states == {
        "a": ("cancelled", "superseded"),
        "b": ("finished", ""),
        "c": ("queued", ""),
    }
    assert store.deliveries.all() == []


def test_finishing_twice_registers_outputs_and_deliveries_once(store: Catalogue) -> None:
    run = new_run()
    finished(store, run, 10.0)
    again = store.runs.finish(run.run_id, [artifact(run.run_id)], [("lesion_sr", "PACS")], 3, 11.0)
    assert not again
    assert len(store.deliveries.all()) == 1
    assert [event.kind for event in store.events.all(kind=EventKind.FINISHED)] == ["finished"]


def test_finish_is_all_or_nothing(store: Catalogue) -> None:
    run = new_run()
    store.runs.queue(run, 1.0)
    store.runs.start(run.run_id, 1.0)
    twice = [artifact(run.run_id), artifact(run.run_id)]
    with pytest.raises(sa.exc.IntegrityError):
        store.runs.finish(run.run_id, twice, [], 3, 2.0)
    assert store.runs.artifacts(run.run_id) == []
    row = store.runs.get(run.run_id)
    assert row is not None
    assert row.state == "running"


def test_a_refused_run_can_be_queued_again(store: Catalogue) -> None:
    run = new_run()
    store.runs.queue(run, 1.0)
    store.runs.refuse(run.run_id, Reason("no_lesions", "found none"), 2.0)
    row = store.runs.get(run.run_id)
    assert row is not None
    assert (row.state, row.reason_code, row.workflow_id) == ("refused", "no_lesions", run.run_id)
    assert store.runs.again(run.run_id, 3.0)
    row = store.runs.get(run.run_id)
    assert row is not None
    assert (row.state, row.reason_code, row.workflow_id) == ("queued", "", f"{run.run_id}:1")
    assert not store.runs.again(run.run_id, 4.0)


def test_deliveries_wait_are_repeated_parked_and_retried(store: Catalogue) -> None:
    run = new_run()
    finished(store, run, 10.0)
    (delivery,) = store.deliveries.all()
    assert store.deliveries.due(9.0) == []
    assert store.deliveries.due(10.0) == [(run.run_id, "PACS", 0)]
    store.deliveries.retry_at(delivery.id, 20.0, 0xA700, "full")
    assert store.deliveries.due(19.0) == []
    assert store.deliveries.due(20.0) == [(run.run_id, "PACS", 1)]
    store.deliveries.park(delivery.id, 0xC000, "no", 21.0)
    assert store.deliveries.due(1e9) == []
    assert store.deliveries.retry(delivery.id, 3, 22.0)
    assert store.deliveries.due(22.0) == [(run.run_id, "PACS", 2)]
    store.deliveries.delivered(delivery.id, 0, "ok", 23.0)
    assert not store.deliveries.cancel(delivery.id, 24.0)
    row = store.deliveries.get(delivery.id)
    assert row is not None
    assert (row.state, row.attempts, row.delivered_at, row.last_status) == ("delivered", 3, 23.0, 0)


def test_what_was_cancelled_is_tried_under_another_number(store: Catalogue) -> None:
    run = new_run()
    finished(store, run, 10.0)
    (delivery,) = store.deliveries.all()
    assert store.deliveries.cancel(delivery.id, 11.0)
    assert store.deliveries.due(1e9) == []
    assert store.deliveries.retry(delivery.id, 3, 12.0)
    assert store.deliveries.due(12.0) == [(run.run_id, "PACS", 1)]


@pytest.mark.parametrize("change", ["UPDATE events SET kind = 'x'", "DELETE FROM events"])
def test_the_database_refuses_to_change_the_audit_trail(store: Catalogue, change: str) -> None:
    store.events.add(1.0, EventKind.NODE_STARTED, port=104)
    with (
        pytest.raises(sa.exc.IntegrityError, match="append-only"),
        store._database.write() as connection,
    ):
        connection.exec_driver_sql(change)
    (event,) = store.events.all()
    assert (event.kind, event.detail) == ("node_started", {"port": 104})


def test_a_locked_database_is_a_passing_fault(store: Catalogue, tmp_path: Path) -> None:
    other = open_engine(sqlite_url(tmp_path / "catalogue.sqlite"))
    impatient = store._database.engine
    with other.write():

        @sa.event.listens_for(impatient, "checkout")
        def no_patience(connection: object, *_: object) -> None:
            connection.execute("PRAGMA busy_timeout=10")  # type: ignore[attr-defined]

        with pytest.raises(Transient, match="locked"):
            store.arrivals.add(instance(1), 1.0)
    assert store.arrivals.add(instance(1), 1.0)
    other.engine.dispose()


def test_a_group_leads_on_through_the_images_both_draw_on(store: Catalogue) -> None:
    """CT in one study, two segmentations in two others: one group from wherever it is asked."""
    store.arrivals.add(instance(1, study_uid="1.91", series_uid="1.81"), 0)
    for number, study in ((2, "1.92"), (3, "1.93")):
        drawn = instance(
            number, study_uid=study, series_uid=f"1.8{number}", referenced_series=("1.81",)
        )
        store.arrivals.add(drawn, 0)
    for study in ("1.91", "1.92", "1.93"):
        assert store.studies.group_of(study) == {"1.91", "1.92", "1.93"}
    assert store.studies.group_of("1.92", apart={"1.91"}) == {"1.92"}, "nothing through it"


def test_a_segmentation_links_no_images_of_another_patient_id(store: Catalogue) -> None:
    for number, patient in enumerate("ABC"):
        one = {"study_uid": f"1.{number}", "series_uid": f"2.{number}", "patient_id": patient}
        store.arrivals.add(instance(number, **one), 0)
    named = ("2.0", "2.1", "2.2")
    for number, patient in enumerate("AX", 3):
        one = {"study_uid": f"1.{number}", "series_uid": f"2.{number}", "patient_id": patient}
        store.arrivals.add(instance(number, **one, referenced_series=named), 0)
    own = {"study_uid": "1.5", "series_uid": "2.5", "patient_id": "B", "own_output": True}
    store.arrivals.add(instance(5, **own, referenced_series=named), 0)
    groups = {f"1.{number}": store.studies.group_of(f"1.{number}") for number in range(6)}
    linked = {"1.0", "1.3"}
    assert groups == {uid: linked if uid in linked else {uid} for uid in groups}


def test_the_search_for_a_group_ends_when_it_is_too_large(store: Catalogue) -> None:
    """A chain: each study has images, and a segmentation on those of the one before."""
    n_studies = 2 * MOST_LINKED
    for number in range(n_studies):
        one = {"study_uid": f"1.{number}", "series_uid": f"2.{number}"}
        before = (f"2.{number - 1}",) if number else ()
        store.arrivals.add(instance(number, **one, referenced_series=before), 0)
    group = store.studies.group_of("1.0")
    assert group == {f"1.{number}" for number in range(MOST_LINKED + 1)}


def test_what_waits_is_noted_once_until_the_next_matching(store: Catalogue) -> None:
    store.arrivals.add(instance(1), 1.0)
    for now, why in ((2.0, "an end"), (3.0, "another")):
        store.studies.note_waiting(Wait("1.9", "1.9", why), now)
    (row,) = store.studies.waiting()
    assert (row.waits_for, row.since) == ("an end", 2.0)
    assert store.studies.missing_series() == []
    store.studies.note_matched({"1.9": 1}, [Wait("1.9", "1.8", "the rest", "1.8")], [], 4.0)
    assert [row.object_uid for row in store.studies.waiting()] == ["1.8"]
    assert store.studies.missing_series() == [("1.8", "1.9")]


def test_what_was_removed_is_taken_again_whatever_its_bytes(store: Catalogue) -> None:
    store.arrivals.add(instance(1), 0)
    store.studies.note_matched({"1.9": 1}, (), (), 1)
    store.instances.remove("1.2.1", "age", 2)
    for number in range(2, 5):
        store.arrivals.add(instance(number, study_uid="1.99"), 3)
    last = store.instances.last_seq()
    assert store.arrivals.add(instance(1, sha256="f" * 64), 4)
    assert store.instances.last_seq() > last
    assert "1.9" in {study.study_uid for study in store.studies.unmatched(last)}


def test_no_number_is_given_again_after_the_last_object_was_removed(store: Catalogue) -> None:
    """What came before a jump of the clock is told by it."""
    store.arrivals.add(instance(1, referenced_series=("1.8",)), 0)
    last = store.instances.last_seq()
    store.instances.remove("1.2.1", "age", 2)
    assert store.arrivals.add(instance(1, sha256="f" * 64, referenced_series=("1.8",)), 4)
    assert store.instances.last_seq() > last
    (row,) = store.instances.all()
    assert (row.sop_instance_uid, row.sha256, row.removed_at) == ("1.2.1", "f" * 64, None)


def test_counts_and_what_is_not_delivered_have_no_limit(store: Catalogue) -> None:
    finished(store, new_run(), 0)
    assert store.runs.counts() == {"finished": 1}
    assert store.deliveries.counts() == {"waiting": 1}
    (row,) = store.deliveries.undelivered()
    store.deliveries.delivered(row.id, 0, "", 1)
    assert store.deliveries.undelivered() == []


def test_an_error_of_the_database_names_no_patient(store: Catalogue) -> None:
    broken = replace(new_run(), patient_id="SENTINEL-PATIENT", study_date=None)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="NOT NULL") as caught:
        store.runs.queue(broken, 0)
    assert "SENTINEL-PATIENT" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "sex", "stays"),
    [
        ("interleaved_acquisitions", "M", True),
        ("interleaved_acquisitions", "F", False),
        ("several_patients", "M", False),  # the image is now of both
    ],
)
def test_a_result_is_withdrawn_within_its_person_only(
    store: Catalogue, code: str, sex: str, stays: bool
) -> None:
    """Another person's image that is refused, under the UIDs of one that retention removed."""

    def of(sex: str) -> str:
        identity = Identity("P", sex=sex)
        return Selection("1.9", "1.8", "P", "CT", (), (), (), "i", identity=identity).to_json()

    finished(store, replace(new_run(), selection=of("F")), 1)
    refused = replace(new_run("b" * 64), selection=of(sex))
    assert store.runs.withdraw(refused, Reason(code, ""), 2) is not stays
    first = store.runs.get("a" * 64)
    assert first is not None
    assert first.superseded_by == (None if stays else "b" * 64)
