"""What quality says of a comparison with an earlier study."""

from collections.abc import Sequence
from dataclasses import replace

from mirv.analysis.model import LesionChange, StudyResult
from mirv.analysis.patient.matching import changes_in_words
from mirv.dicom_io.model import QualityOutcome, QualityRow, StudyInput

_NAMES_SHOWN = 5


def as_compared(study: StudyInput, result: StudyResult) -> StudyInput:
    """A study whose quality rows also say what it was compared with, and what was not matched.

    Parameters
    ----------
    study : StudyInput
        As it was read.
    result : StudyResult
        Of this study.

    Returns
    -------
    StudyInput
        The same study where nothing was compared.
    """
    return replace(study, quality=(*study.quality, *_rows(study, result)))


def _rows(study: StudyInput, result: StudyResult) -> list[QualityRow]:
    earlier = result.provenance
    if not earlier.prior_study_uid:
        return []
    image = study.evidence.images[0]
    where = {"study_uid": str(image.StudyInstanceUID), "series_uid": str(image.SeriesInstanceUID)}
    told = QualityRow(
        **where,
        check="comparison",
        outcome=QualityOutcome.OK,
        found=changes_in_words(result.changes),
        detail=f"since the study {earlier.prior_study_uid} of {earlier.prior_study_date}",
    )
    by_reason: dict[str, list[LesionChange]] = {}
    for one in result.changes:
        if one.state == "unmatched" and one.reason is not None:
            by_reason.setdefault(one.reason.code, []).append(one)
    return [told] + [
        QualityRow(
            **where,
            check=code,
            outcome=QualityOutcome.WARN,
            found=_found(lesions),
            wanted="tracking UIDs that both studies have, or names that tell lesions apart",
            detail="matched with no lesion of the other study: "
            + (lesions[0].reason.detail if lesions[0].reason else ""),
        )
        for code, lesions in by_reason.items()
    ]


def _found(lesions: Sequence[LesionChange]) -> str:
    """How many lesions of which study, and some of their names."""
    before = sum(one.previous_ml is not None for one in lesions)
    names = ", ".join(repr(one.name[:64]) for one in lesions[:_NAMES_SHOWN])
    more = ", ..." if len(lesions) > _NAMES_SHOWN else ""
    return f"{before} of the earlier study, {len(lesions) - before} of this one: {names}{more}"
