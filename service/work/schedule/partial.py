"""A part of what a result was made of does not take its place: it waits for the rest."""

from mirv.dicom_io.study.matching import Selection
from mirv.service.catalogue import Catalogue, RunState, Wait


def rest_of(catalogue: Catalogue, selection: Selection) -> Wait | None:
    """What a selection lacks of what its current result was made of; None when it lacks nothing.

    Lacking are only objects whose files are gone (by retention, or lost): the sender has not taken
    them back. With as many images as before, or more, no image is lacking: they may have come
    again under other UIDs. A segmentation is lacking only while there is none that is new: a new
    one may be meant to replace it.

    Parameters
    ----------
    catalogue : Catalogue
    selection : Selection

    Returns
    -------
    Wait or None
    """
    study_uid, series_uid = selection.study_uid, selection.series_uid
    results = catalogue.runs.all(
        states=(RunState.FINISHED,), study_uid=study_uid, series_uid=series_uid, current=True
    )
    for run in results:
        before = Selection.from_json(run.selection)
        images = set(before.images).difference(selection.images)
        fewer = len(selection.images) < len(before.images)
        if fewer and catalogue.instances.removed(images):
            why = _why("images", len(before.images), len(selection.images))
            return Wait(study_uid, series_uid, why, rest_of=series_uid)
        drawn, here = set(before.segmentations), set(selection.segmentations)
        if here < drawn and catalogue.instances.removed(drawn - here):
            return Wait(study_uid, series_uid, _why("segmentations", len(drawn), len(here)))
    return None


def _why(what: str, before: int, here: int) -> str:
    return (
        f"the rest of its {what}: was complete with {before} {what}, {here} are here; the others "
        "were removed by retention or lost. Its result stays until they are back"
    )
