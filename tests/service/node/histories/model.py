"""What the results must hold, from what the senders drew alone: no DICOM, no code of the node.

Where node and folder share a fault they agree; this does not.
"""

from mirv.service.catalogue import Catalogue, RunState
from mirv.service.objects.results import read_result
from mirv.service.objects.spool import Spool
from tests.service.node.histories import world
from tests.service.node.histories.history import Received
from tests.service.node.histories.world import STUDIES, Drawing

_AUTHORS = {"seg": "first", "untracked": "first", "reader": "other", "rt": "none"}

Lesions = dict[str, float]
"""Label to number of voxels."""


def lesions_wanted(received: Received) -> dict[str, Lesions]:
    """The lesions of each study's current result; of none, an empty one.

    A study is left out while only some of its slices are there.

    Parameters
    ----------
    received : Received

    Returns
    -------
    dict of str to Lesions
        By the study's name.
    """
    wanted = {}
    for name in STUDIES:
        here = {world.uid_of(one) for one in world.images(name)} & received.valid.keys()
        drawn = sorted(
            (drawing.version, uid, drawing)
            for uid, (of, drawing) in received.drawn.items()
            if of == name
        )
        if name in received.mixed:
            wanted[name] = {}
        elif len(here) in (0, world.SLICES):
            wanted[name] = _counted([one for *_, one in drawn]) if here else {}
    return wanted


def _counted(drawings: list[Drawing]) -> Lesions:
    """What the first reader's drawings leave, in the order they were made.

    Each takes the place of those it has a lesion in common with, and is added to the others. A SEG
    is preferred to any RTSTRUCT.
    """
    counted = list[Drawing]()
    preferred = [one for one in drawings if one.kind != "rt"] or drawings
    for one in preferred:
        if _AUTHORS[one.kind] != _AUTHORS[preferred[0].kind]:
            continue
        counted = [other for other in counted if not _numbers(other) & _numbers(one)]
        counted.append(one)
    return {
        f"Lesion {number + 1}": float(world.voxels(one.lesions[number]))
        for one in counted
        for number in _numbers(one)
    }


def _numbers(drawing: Drawing) -> set[int]:
    return {number for number, variant in enumerate(drawing.lesions) if variant}


def lesions_found(store: Catalogue, spool: Spool) -> dict[str, Lesions]:
    """The lesions of each study's current results, as `lesions_wanted` has them."""
    found: dict[str, Lesions] = {name: {} for name in STUDIES}
    names = {one.identity.study_uid: name for name, one in STUDIES.items()}
    voxel_ml = world.GEOMETRY.voxel_volume_ml
    for run in store.runs.all(states=(RunState.FINISHED,), current=True):
        if run.study_uid not in names or run.result_sha256 is None:
            continue  # of another history on the same node
        lesions = found[names[run.study_uid]]
        assert not lesions, f"two current results of {names[run.study_uid]}"
        for one in read_result(spool, run.result_sha256).result.lesions:
            assert one.label not in lesions, f"{one.label} twice"
            lesions[one.label] = round(one.volume_ml / voxel_ml, 6)
    return found
