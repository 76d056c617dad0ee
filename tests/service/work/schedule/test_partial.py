"""A part of a series that was complete before takes the place of no result (finding H4)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from pydicom import dcmread

from mirv.dicom_io.phantom.patient import Phantom, write_study
from mirv.dicom_io.study.matching import Selection
from tests.service.postgres import create_database, postgres
from tests.service.work.schedule.test_scheduler import Day, edited

N_IMAGES = 12


class Emptied(Day):
    """A day on which a study has a result, and its files are gone."""

    def __init__(self, folder: Path, study: Phantom, url: str = "") -> None:
        super().__init__(folder, url)
        self.study, self.folder = study, folder

    def analyse(self, *images: Path) -> str:
        """A result of these images."""
        self.take(*images, self.study.seg)
        assert self.later() == 1
        run_id = self.current().run_id
        self.finish(run_id)
        return run_id

    def lose(self, why: str = "retention") -> None:
        """All files go."""
        for row in self.store.instances.all():
            self.store.instances.remove(row.sop_instance_uid, why, self.now)

    def new_seg(self) -> Path:
        """Another segmentation of the study."""
        return edited(self.study.seg, self.folder / "new.dcm", ContentDate="20300101")

    def renamed(self, images: Sequence[Path]) -> list[Path]:
        """The images under other SOP Instance UIDs."""
        return [
            edited(path, self.folder / f"i{number}.dcm", SOPInstanceUID=f"2.25.99{number}")
            for number, path in enumerate(images)
        ]

    def waits(self) -> list[tuple[str, str]]:
        """(object, what it waits for)."""
        return [(row.object_uid, row.waits_for) for row in self.store.studies.waiting()]

    def images_of_newest(self) -> int:
        """How many images the run is made of that was queued last."""
        (run,) = self.store.runs.all(states=("queued",))
        return len(Selection.from_json(run.selection).images)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    folder = tmp_path_factory.mktemp("study")
    return write_study(folder, n_lesions=1, shape=(N_IMAGES, 64, 64))


@pytest.fixture(scope="module")
def series_uid(study: Phantom) -> str:
    return str(dcmread(study.ct[0], stop_before_pixels=True).SeriesInstanceUID)


@pytest.fixture
def day(study: Phantom, tmp_path: Path) -> Iterator[Emptied]:
    made = Emptied(tmp_path, study)
    yield made
    made.store.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def either(request: pytest.FixtureRequest, study: Phantom, tmp_path: Path) -> Iterator[Emptied]:
    if request.param == "sqlite":
        made = Emptied(tmp_path, study)
        yield made
        made.store.close()
        return
    with postgres() as server:
        made = Emptied(tmp_path, study, create_database(server, "day"))
        yield made
        made.store.close()


def test_a_part_waits_for_the_rest_and_goes_on_with_it(either: Emptied, series_uid: str) -> None:
    day, images = either, either.study.ct
    whole = day.analyse(*images)
    day.lose()
    day.take(*images[1:4], day.new_seg())
    assert day.later() == 0
    ((object_uid, why),) = day.waits()
    assert object_uid == series_uid
    assert f"was complete with {N_IMAGES} images, 3 are here" in why
    assert day.asked[-1][:2] == (day.study.identity.study_uid, series_uid), "the rest is asked for"
    day.take(images[4])
    day.scheduler = day.fresh()
    assert day.later() == 0
    assert f"was complete with {N_IMAGES} images, 4 are here" in day.waits()[0][1]
    assert day.current().run_id == whole
    day.take(images[0], *images[5:])
    assert day.later() == 1
    assert day.images_of_newest() == N_IMAGES
    assert day.waits() == []
    assert day.store.studies.missing_series() == []
    (queued,) = day.store.runs.all(states=("queued",))
    assert queued.predecessor == whole


@pytest.mark.parametrize("why", ["retention", "file_missing", "damaged"])
def test_whatever_took_the_rest_the_result_stays(day: Emptied, why: str) -> None:
    whole = day.analyse(*day.study.ct)
    day.lose(why)
    day.take(*day.study.ct[:-1], day.study.seg)
    assert day.later() == 0
    assert len(day.waits()) == 1
    day.take(day.study.ct[-1])
    assert day.later() == 0, "it is the same again"
    assert day.waits() == []
    assert day.current().run_id == whole


def test_a_segmentation_whose_images_are_gone_waits_for_all_of_them(
    day: Emptied, series_uid: str
) -> None:
    whole = day.analyse(*day.study.ct)
    day.lose()
    new = day.new_seg()
    day.take(new)
    assert day.later() == 0
    ((_, why),) = day.waits()
    assert series_uid in why
    assert day.asked[-1][:2] == (day.study.identity.study_uid, series_uid)
    day.take(*day.study.ct[:2])
    assert day.later() == 0
    assert "2 are here" in day.waits()[0][1]
    assert day.current().run_id == whole
    day.take(*day.study.ct[2:])
    assert day.later() == 1


@pytest.mark.parametrize(("n_come", "goes_on"), [(N_IMAGES, True), (N_IMAGES - 1, False)])
def test_images_that_come_back_under_other_uids_are_counted(
    day: Emptied, n_come: int, goes_on: bool
) -> None:
    day.analyse(*day.study.ct)
    day.lose()
    day.take(*day.renamed(day.study.ct[:n_come]), day.study.seg)
    assert day.later() == goes_on
    assert len(day.waits()) == (not goes_on)


def test_a_part_with_some_under_other_uids_waits_too(day: Emptied) -> None:
    day.analyse(*day.study.ct)
    day.lose()
    day.take(day.study.ct[0], *day.renamed(day.study.ct[1:3]), day.study.seg)
    assert day.later() == 0
    assert "3 are here" in day.waits()[0][1]


def test_a_series_that_was_never_complete_grows(day: Emptied) -> None:
    """What is compared with is the last result, not what a series might be."""
    day.analyse(*day.study.ct[:3])
    day.lose()
    day.take(*day.study.ct[:2], day.study.seg)
    assert day.later() == 0
    day.take(day.study.ct[5], day.study.ct[4])
    assert day.later() == 1
    assert day.images_of_newest() == 4


def test_a_series_that_changes_while_it_is_here_is_revised(day: Emptied) -> None:
    day.analyse(*day.study.ct)
    day.take(*day.renamed(day.study.ct[:1]))
    assert day.later() == 1
    assert day.images_of_newest() == N_IMAGES + 1


def test_a_part_of_its_segmentations_takes_the_place_of_no_result(day: Emptied) -> None:
    """One object a lesion: when one comes back, the others are not gone from the lesion set."""
    new = day.new_seg()
    day.take(new)
    whole = day.analyse(*day.study.ct)
    day.lose()
    day.take(*day.study.ct, day.study.seg)
    assert day.later() == 0
    ((_, why),) = day.waits()
    assert "was complete with 2 segmentations, 1 are here" in why
    third = edited(day.study.seg, day.folder / "third.dcm", ContentDate="20310101")
    day.take(third)
    assert day.later() == 1, "what is new is analysed"
    day.take(new)
    day.later()
    assert day.waits() == []
    assert day.store.runs.get(whole) is not None


def test_another_series_of_the_study_goes_on(day: Emptied) -> None:
    """Only the series that was complete waits."""
    day.analyse(*day.study.ct)
    day.lose()
    other = [
        edited(
            path, day.folder / f"o{n}.dcm", SOPInstanceUID=f"2.25.98{n}", SeriesInstanceUID="2.25.5"
        )
        for n, path in enumerate(day.study.ct[:3])
    ]
    day.take(day.study.ct[0], day.study.seg, *other)
    day.later()
    assert len([why for _, why in day.waits() if "was complete" in why]) == 1
