"""When a study has settled, and what its objects make together."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from mirv.config.settings.processing import Reading
from mirv.dicom_io.files.header import InstanceHeader
from mirv.dicom_io.model import Note, QualityOutcome, QualityRow
from mirv.dicom_io.study.matching import MatchOutcome, Selection, match
from mirv.dicom_io.study.quality_rows import row_of
from mirv.service.catalogue import MOST_LINKED, Studies, StudyRow, Wait
from mirv.service.runtime.log import get_logger

log = get_logger("settling")


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """Studies that were matched together.

    Attributes
    ----------
    group : set of str
        The studies.
    counts : dict
        Of each that has settled, how many objects it had when it was matched. What is said of
        the others stays as it was at their own last matching.
    last_seq : int
        Number of the last of their objects.
    outcome : MatchOutcome
    dates, descriptions : tuple of str
        Study date and series description of each selection.
    refused_dates : tuple of str
        Study date of each refused one.
    """

    group: set[str]
    counts: dict[str, int]
    last_seq: int
    outcome: MatchOutcome
    dates: tuple[str, ...]
    descriptions: tuple[str, ...]
    refused_dates: tuple[str, ...] = ()

    @property
    def first_date(self) -> str:
        """The earliest of the dates."""
        return min(self.dates, default="")

    @property
    def waiting(self) -> list[Wait]:
        """What waits in the studies that have settled."""
        return [
            Wait(one.study_uid, one.object_uid or one.series_uid, one.waits_for)
            for one in self.outcome.waiting
            if one.study_uid in self.counts
        ]

    @property
    def quality(self) -> list[QualityRow]:
        """What there is to say of the studies that have settled."""
        return [row for row in self.outcome.quality if row.study_uid in self.counts]


def is_settled(row: StudyRow, quiet_s: float, now: float) -> bool:
    """Whether nothing came for long enough.

    Parameters
    ----------
    row : StudyRow
    quiet_s : float
        Seconds.
    now : float
        Seconds since 1970.

    Returns
    -------
    bool
    """
    # A time far ahead is from before the clock was set back: it says nothing.
    age = now - row.last_received_at
    return age >= quiet_s or age < -quiet_s


def matched(
    studies: Studies,
    study_uid: str,
    linked: set[str],
    receiving: Mapping[str, int],
    reading: Reading,
) -> Ready:
    """Match the objects of a settled study and of those that segmentations link it with.

    Parameters
    ----------
    studies : Studies
    study_uid : str
    linked : set of str
        Studies, this one among them; with more than `MOST_LINKED` it is matched by itself.
    receiving : mapping of study UID to int
        Studies that have not settled again: of these the first so many objects count, which were
        there when they last had.
    reading : Reading

    Returns
    -------
    Ready
    """
    group = linked if len(linked) <= MOST_LINKED else {study_uid}
    # Before the headers: none is overlooked.
    counts = studies.count(group - receiving.keys())
    last_seq = studies.last_seq(counts)
    texts = studies.headers(group, receiving)
    try:
        headers = [InstanceHeader.from_json(text) for text in texts]
        outcome = match(headers, reading)
    except Exception:
        # One study that cannot be matched must not stop the others; it says so and rests
        # until something new arrives for it.
        log.exception("matching failed", objects=len(texts))
        fault = tuple(matching_fault(study_uid) for study_uid in sorted(group))
        return Ready(group, counts, last_seq, MatchOutcome((), (), fault), (), ())
    if group is not linked:
        outcome = replace(outcome, quality=(*outcome.quality, _linked_with_too_many(study_uid)))
    of = {one.sop_instance_uid: one for one in headers}

    def dates_of(selections: Iterable[Selection]) -> tuple[str, ...]:
        return tuple(max(of[uid].study_date for uid in one.images) for one in selections)

    described = tuple(of[one.images[0]].series_description for one in outcome.selections)
    dates = dates_of(outcome.selections)
    refused_dates = dates_of(selection for selection, _ in outcome.refused)
    return Ready(group, counts, last_seq, outcome, dates, described, refused_dates)


def _linked_with_too_many(study_uid: str) -> QualityRow:
    note = Note(
        "linked_studies",
        QualityOutcome.REFUSED,
        f"more than {MOST_LINKED} studies that segmentations link",
        f"at most {MOST_LINKED}",
        "the study is matched by itself: what other studies have for it is not used",
    )
    return row_of(note, study_uid, "")


def matching_fault(study_uid: str) -> QualityRow:
    """What is said of a study whose matching met a fault of the node."""
    return QualityRow(
        study_uid=study_uid,
        check="matching_failed",
        outcome=QualityOutcome.REFUSED,
        found="a fault of the node while matching",
        detail="see the log",
    )
