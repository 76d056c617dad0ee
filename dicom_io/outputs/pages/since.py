"""What the pages say of a comparison with an earlier study, in words."""

from collections.abc import Iterator

from mirv.analysis.model import LesionChange, StudyResult
from mirv.analysis.patient.matching import changes_in_words, match_in_words


def earlier_study(result: StudyResult) -> tuple[str, ...]:
    """The earlier study's UID, and what became of the lesions: a line each, none if not compared.

    A UID has up to 64 characters: beside anything else it would be cut.
    """
    uid = result.provenance.prior_study_uid
    return (f"study {uid}", changes_in_words(result.changes)) if uid else ()


def texts_of_lesions(result: StudyResult) -> dict[str, str]:
    """What became of each lesion of this study, by tracking UID."""
    return {
        change.tracking_uid: _text(change)
        for change in result.changes
        if change.current_ml is not None
    }


def only_earlier(result: StudyResult) -> Iterator[tuple[str, str, str, str]]:
    """Name, site, volume and fate of each lesion of the earlier study alone, as far as known."""
    for change in result.changes:
        if change.current_ml is None:
            yield change.name, change.site, f"then {change.previous_ml:.3f}", _text(change)


def _text(change: LesionChange) -> str:
    if change.state == "matched" and change.change_percent is not None:
        return f"{change.change_percent:+.4g} %, by {match_in_words(change.matched_by)}"
    if change.reason is None:
        return change.state
    return f"{change.state}: {change.reason.code.replace('_', ' ')}"
