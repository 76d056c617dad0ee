"""Quality rows as they come up, and what the settings make of them."""

from collections.abc import Iterable
from dataclasses import replace

from mirv.analysis.errors import Unsuitable
from mirv.config.settings.processing import Quality
from mirv.dicom_io.model import Note, QualityOutcome, QualityRow

_DOUBTFUL = frozenset({QualityOutcome.WARN, QualityOutcome.UNKNOWN})


def row_of(
    note: Note, study_uid: str, series_uid: str, *, object_uid: str = "", lesion: str = ""
) -> QualityRow:
    """The row of one check.

    Parameters
    ----------
    note : Note
    study_uid, series_uid : str
        Of the image.
    object_uid : str
        The segmentation or instance it speaks of, "" for the series.
    lesion : str
        Tracking UID, "" when it is not about one lesion.

    Returns
    -------
    QualityRow
    """
    return QualityRow(
        study_uid=study_uid,
        series_uid=series_uid,
        object_uid=object_uid,
        lesion=lesion,
        check=note.check,
        outcome=note.outcome,
        found=note.found,
        wanted=note.wanted,
        detail=note.detail,
    )


def with_action(note: Note, quality: Quality) -> Note:
    """The note as the settings see it: a doubt that they name is a refusal."""
    if note.outcome in _DOUBTFUL and note.check in quality.refuse:
        return replace(note, outcome=QualityOutcome.REFUSED)
    return note


class QualityRows:
    """Quality rows of one image and its segmentations as they come up.

    Parameters
    ----------
    study_uid, series_uid : str
        Of the image.
    rows : iterable of QualityRow
        What is known before it is read.
    """

    def __init__(self, study_uid: str, series_uid: str, rows: Iterable[QualityRow]) -> None:
        self.study_uid, self.series_uid = study_uid, series_uid
        self.rows = list(rows)

    def add(self, note: Note, *, segmentation: str = "", lesion: str = "") -> None:
        """Add a row about the image, a segmentation (SOP Instance UID) or a tracking UID."""
        self.rows.append(
            row_of(note, self.study_uid, self.series_uid, object_uid=segmentation, lesion=lesion)
        )

    def enforce(self, quality: Quality) -> None:
        """Refuse the study for any doubt or refusal the settings name.

        Parameters
        ----------
        quality : Quality

        Raises
        ------
        Unsuitable
            ``quality_<check>`` of the first.
        """
        wanted = _DOUBTFUL | {QualityOutcome.REFUSED}
        require(
            replace(row, outcome=QualityOutcome.REFUSED)
            for row in self.rows
            if row.check in quality.refuse and row.outcome in wanted
        )


def require(rows: Iterable[QualityRow]) -> None:
    """Refuse a study when a check the settings name has failed.

    Parameters
    ----------
    rows : iterable of QualityRow

    Raises
    ------
    Unsuitable
        ``quality_<check>`` of the first refusal.
    """
    for row in rows:
        if row.refused:
            raise Unsuitable(
                f"quality_{row.check}",
                f"found {row.found or 'nothing'}, wanted {row.wanted} (series {row.series_uid})",
            )
