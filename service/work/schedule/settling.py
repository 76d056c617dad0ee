"""When a study has settled, and what its objects make together."""

from dataclasses import dataclass

from mirv.config.settings.processing import Reading
from mirv.dicom_io.files.header import InstanceHeader
from mirv.dicom_io.model import QualityOutcome, QualityRow
from mirv.dicom_io.study.matching import MatchOutcome, match
from mirv.service.catalogue import Studies, StudyRow
from mirv.service.runtime.log import get_logger

log = get_logger("settling")


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """Settled studies that were matched together.

    Attributes
    ----------
    group : set of str
        The studies.
    counts : dict
        How many objects each had when it was matched.
    outcome : MatchOutcome
    dates, descriptions : tuple of str
        Study date and series description of each selection.
    """

    group: set[str]
    counts: dict[str, int]
    outcome: MatchOutcome
    dates: tuple[str, ...]
    descriptions: tuple[str, ...]

    @property
    def first_date(self) -> str:
        """The earliest of the dates."""
        return min(self.dates, default="")

    @property
    def waiting(self) -> list[tuple[str, str, str]]:
        """(study, object or series, what it waits for)."""
        return [
            (one.study_uid, one.object_uid or one.series_uid, one.waits_for)
            for one in self.outcome.waiting
        ]


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


def matched(studies: Studies, group: set[str], reading: Reading) -> Ready:
    """Match the objects of studies that segmentations link.

    Parameters
    ----------
    studies : Studies
    group : set of str
        Study Instance UIDs.
    reading : Reading

    Returns
    -------
    Ready
    """
    counts = studies.count(group)  # before the headers: none is overlooked
    texts = studies.headers(group)
    try:
        headers = [InstanceHeader.from_json(text) for text in texts]
        outcome = match(headers, reading)
    except Exception:
        # One study that cannot be matched must not stop the others; it says so and rests
        # until something new arrives for it.
        log.exception("matching failed", objects=len(texts))
        fault = tuple(matching_fault(study_uid) for study_uid in sorted(group))
        return Ready(group, counts, MatchOutcome((), (), fault), (), ())
    of = {one.sop_instance_uid: one for one in headers}
    dates = tuple(max(of[uid].study_date for uid in one.images) for one in outcome.selections)
    described = tuple(of[one.images[0]].series_description for one in outcome.selections)
    return Ready(group, counts, outcome, dates, described)


def matching_fault(study_uid: str) -> QualityRow:
    """What is said of a study whose matching met a fault of the node."""
    return QualityRow(
        study_uid=study_uid,
        check="matching_failed",
        outcome=QualityOutcome.REFUSED,
        found="a fault of the node while matching",
        detail="see the log",
    )
