"""Each study settles by itself, whatever a segmentation names (finding H10)."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import count
from pathlib import Path

import pytest
from pydicom import dcmread

from mirv.config.settings.processing import Reading
from mirv.dicom_io.files.header import InstanceHeader
from mirv.dicom_io.phantom.patient import Phantom, write_study
from mirv.dicom_io.study.matching import MatchOutcome, Selection
from mirv.service.catalogue.received import studies as received
from mirv.service.work.schedule import settling
from tests.service.postgres import create_database, postgres
from tests.service.work.schedule.test_scheduler import QUIET, Day

_NUMBERS = count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def day(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Day]:
    url = ""
    if request.param == "postgresql":
        url = create_database(request.getfixturevalue("server"), f"day{next(_NUMBERS)}")
    made = Day(tmp_path, url)
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[Phantom]:
    folder = tmp_path_factory.mktemp("studies")
    return [
        write_study(folder / name, n_lesions=1, seed=seed, shape=(12, 64, 64), patient_id=name)
        for seed, name in enumerate(("V0", "V1", "V2", "X"))
    ]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many objects were matched together, each time."""
    numbers: list[int] = []
    real = settling.match

    def match(headers: list[InstanceHeader], reading: Reading) -> MatchOutcome:
        numbers.append(len(headers))
        return real(headers, reading)

    monkeypatch.setattr(settling, "match", match)
    return numbers


def series_of(study: Phantom) -> str:
    return str(dcmread(study.ct[0], stop_before_pixels=True).SeriesInstanceUID)


def drawn(study: Phantom, folder: Path, *others: Phantom, **tags: str) -> Path:
    """The study's segmentation as a new one in a study of its own, that names others' series too.

    Without others' instances: what it is drawn on are the images of its own study.
    """
    assert study.seg is not None
    ds, number = dcmread(study.seg), next(_NUMBERS)
    (own,) = ds.ReferencedSeriesSequence
    for other in others:
        item = deepcopy(own)
        item.SeriesInstanceUID = series_of(other)
        ds.ReferencedSeriesSequence.append(item)
    uids = {f"{what}InstanceUID": f"2.25.7{number}{at}" for at, what in enumerate(("SOP", "Study"))}
    for name, value in {**uids, **tags}.items():
        setattr(ds, name, value)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(path := folder / f"{number}.dcm")
    return path


def segmentations(day: Day, study: Phantom) -> set[str]:
    """What the study's newest result is, or will be, made of."""
    runs = day.store.runs.all(study_uid=study.identity.study_uid)
    replaced = {run.predecessor for run in runs}
    (newest,) = (run for run in runs if not run.superseded_by and run.run_id not in replaced)
    return set(Selection.from_json(newest.selection).segmentations)


def uid_of(path: Path | None) -> str:
    assert path is not None
    return str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def drip(day: Day, study_uid: str, folder: Path, source: Phantom, periods: int) -> int:
    """Objects of one study keep coming for so many quiet periods; how many runs are new."""
    new = 0
    for _ in range(2 * periods):
        day.take(drawn(source, folder, StudyInstanceUID=study_uid))
        new += day.later(QUIET / 2)
    return new


@pytest.mark.parametrize("patient_id", ["X", "V0", ""])
def test_a_segmentation_that_names_the_series_of_others_holds_up_none(
    day: Day, studies: Sequence[Phantom], tmp_path: Path, patient_id: str
) -> None:
    *victims, other = studies
    hub = drawn(other, tmp_path, *victims, StudyInstanceUID="2.25.66", PatientID=patient_id)
    day.take(hub)
    for victim in victims:
        day.take(*victim.ct, victim.seg)
    assert drip(day, "2.25.66", tmp_path, other, 2) == 3, "each settles after its own quiet time"
    day.later()
    for victim in victims:
        study_uid = victim.identity.study_uid
        assert segmentations(day, victim) == {uid_of(victim.seg)}
        assert day.store.studies.waiting(study_uid) == []
        assert day.store.studies.quality(study_uid) == []
    assert len(day.store.runs.all()) == 3, "nor when the other study has settled"
    told = [row.waits_for for row in day.store.studies.waiting("2.25.66")]
    assert told or day.store.studies.quality("2.25.66")


def test_a_study_that_never_settles_waits_for_itself_and_says_why(
    day: Day, studies: Sequence[Phantom], tmp_path: Path
) -> None:
    other = studies[-1]
    day.take(*other.ct, other.seg)
    study_uid = other.identity.study_uid
    assert drip(day, study_uid, tmp_path, other, 5) == 0
    assert day.store.studies.waiting() == []
    assert drip(day, study_uid, tmp_path, other, 10) == 0
    (row,) = day.store.studies.waiting()
    assert (row.study_uid, row.object_uid) == (study_uid, study_uid)
    assert "keep coming" in row.waits_for
    day.scheduler = day.fresh()
    assert drip(day, study_uid, tmp_path, other, 11) == 0
    assert day.store.studies.waiting() == [row], "said once"
    assert day.later() == 1
    assert row not in day.store.studies.waiting()


def test_a_study_still_receiving_joins_when_it_has_settled(
    day: Day, studies: Sequence[Phantom], tmp_path: Path
) -> None:
    study = studies[0]
    elsewhere = drawn(study, tmp_path)
    day.take(*study.ct, study.seg)
    day.later(QUIET / 2)
    day.take(elsewhere)
    assert day.later(QUIET / 2) == 1
    assert segmentations(day, study) == {uid_of(study.seg)}
    day.finish(day.current().run_id)
    assert day.later(QUIET / 2) == 1
    assert segmentations(day, study) == {uid_of(study.seg), uid_of(elsewhere)}


def test_what_has_joined_stays_while_its_study_receives_more(
    day: Day, studies: Sequence[Phantom], tmp_path: Path
) -> None:
    study = studies[0]
    elsewhere = drawn(study, tmp_path, StudyInstanceUID="2.25.55")
    day.take(*study.ct, study.seg, elsewhere)
    assert day.later() == 1
    day.finish(day.current().run_id)
    third = drawn(study, tmp_path, StudyInstanceUID=study.identity.study_uid)
    day.take(third)
    unfinished = drawn(study, tmp_path, StudyInstanceUID="2.25.55")
    day.later(QUIET / 2)
    day.take(unfinished)
    assert day.later(QUIET / 2) == 1
    joined = {uid_of(one) for one in (study.seg, elsewhere, third)}
    assert segmentations(day, study) == joined, "what has settled; nothing is dropped"
    for run in day.store.runs.all(states=("queued",)):
        day.finish(run.run_id)
    day.scheduler = day.fresh()
    assert day.later(QUIET / 2) == 1, "though nothing came since: it is not forgotten"
    assert segmentations(day, study) == {*joined, uid_of(unfinished)}


def test_nothing_is_linked_through_a_study_that_never_settled(
    day: Day, studies: Sequence[Phantom], tmp_path: Path, counted: list[int]
) -> None:
    """Two studies of one patient, which a third names; it keeps receiving."""
    one = studies[0]
    shape = (12, 64, 64)
    two = write_study(tmp_path / "two", n_lesions=1, shape=shape, patient_id="V0", time_point=1)
    day.take(*one.ct, one.seg, *two.ct, two.seg)
    hub = drawn(studies[-1], tmp_path, one, two, StudyInstanceUID="2.25.66", PatientID="V0")
    day.later(QUIET / 2)
    day.take(hub)
    day.later(QUIET / 2)
    assert counted == [len(one.ct) + 1, len(two.ct) + 1]
    day.later()
    assert counted[2:] == [len(one.ct) + len(two.ct) + 3], "linked when it has settled"


def test_what_a_sender_links_costs_no_more_than_so_much(
    day: Day,
    studies: Sequence[Phantom],
    tmp_path: Path,
    counted: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A star of studies under the patient's own ID, that come one after the other."""
    study, most = studies[0], 5
    for module in (settling, received):
        monkeypatch.setattr(module, "MOST_LINKED", most)
    day.take(*study.ct, study.seg)
    assert day.later() == 1
    for _ in range(most + 3):
        day.take(drawn(study, tmp_path))
        day.later()
    assert max(counted) <= len(study.files) + most
    assert counted[-1] == 1, "by itself"
    day.finish(day.store.runs.all(states=("queued",))[0].run_id)
    day.take(drawn(study, tmp_path, StudyInstanceUID=study.identity.study_uid))
    day.later()
    (row,) = day.store.studies.quality(study.identity.study_uid)
    assert (row.check, row.refused) == ("linked_studies", True)
