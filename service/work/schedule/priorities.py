"""Who goes first: the first rule of the settings that fits a selection gives its priority."""

from collections.abc import Sequence

from mirv.config.settings.processing import PriorityRule
from mirv.dicom_io.study.matching import Selection
from mirv.service.catalogue import Instances
from mirv.service.catalogue.run_rows import USUAL_PRIORITY


def priority_of(
    rules: Sequence[PriorityRule], instances: Instances, selection: Selection, description: str
) -> int:
    """Priority of a selection's run; lower goes first.

    Parameters
    ----------
    rules : sequence of PriorityRule
    instances : Instances
        Tells who sent the segmentations.
    description : str
        Of the image series.
    """
    if not rules:
        return USUAL_PRIORITY
    drawn = [instances.find(uid) for uid in selection.segmentations]
    senders = {row.source.partition("@")[0] for row in drawn if row is not None}
    for rule in rules:
        if (
            (rule.ae_title is None or rule.ae_title in senders)
            and (rule.modality is None or rule.modality == selection.modality)
            and (rule.description or "").casefold() in description.casefold()
        ):
            return rule.priority
    return USUAL_PRIORITY
