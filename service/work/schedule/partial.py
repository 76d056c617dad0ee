"""A series that was complete before and of which only a part is here does not replace a result."""

from mirv.dicom_io.study.matching import Selection
from mirv.service.catalogue import Catalogue, RunState


def rest_of(catalogue: Catalogue, selection: Selection) -> str:
    """What a selection lacks of the images that its current result was made of; "" for nothing.

    Only images that were here and whose files are gone (by retention, or lost) are lacking: those
    the sender has not taken back. With as many images as before, or more, nothing is lacking:
    they may have come again under other UIDs.

    Parameters
    ----------
    catalogue : Catalogue
    selection : Selection

    Returns
    -------
    str
        For people.
    """
    here = len(selection.images)
    results = catalogue.runs.all(
        states=(RunState.FINISHED,),
        study_uid=selection.study_uid,
        series_uid=selection.series_uid,
        current=True,
    )
    for run in results:
        before = Selection.from_json(run.selection).images
        if here >= len(before):
            continue
        gone = catalogue.instances.removed(selection.study_uid, selection.series_uid)
        if gone.intersection(before):
            return (
                f"the rest of its images: was complete with {len(before)} images, {here} are here; "
                "the others were removed by retention or lost. Its result stays until they are back"
            )
    return ""
