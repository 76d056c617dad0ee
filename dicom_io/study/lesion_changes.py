"""What is said of several segmentations of one image: which counts, and what a version changed."""

import re
from collections.abc import Mapping, Sequence

from mirv.analysis.model import Mask
from mirv.dicom_io.masks.overlap import dice
from mirv.dicom_io.model import Note, QualityOutcome
from mirv.dicom_io.study.naming import Names
from mirv.dicom_io.study.quality_rows import QualityRows
from mirv.dicom_io.study.versions import LesionObject, LesionSet, Relation, Step

_WORD_OR_NUMBER = re.compile(r"[^\W\d_]+|\d+")


def counted_set(sets: Sequence[LesionSet], reader: str, rows: QualityRows) -> LesionSet:
    """The lesion set that counts, with a row for each that does not.

    Parameters
    ----------
    sets : sequence of LesionSet
        By age, at least one.
    reader : str
        The setting ``reading.reader``.
    rows : QualityRows

    Returns
    -------
    LesionSet
        The first one whose author or description has the words of `reader`; else the first.
    """
    chosen = next((own for own in sets if reader and _is_of(own, reader)), None)
    if reader and chosen is None:
        rows.add(
            Note(
                "no_such_reader",
                QualityOutcome.WARN,
                found=f"{len(sets)} lesion sets, none of the reader wanted",
                wanted="the words of the setting reading.reader in author or description",
                detail="the set that was made first counts",
            )
        )
    counted = chosen or sets[0]
    for own in sets:
        if own is not counted:
            for one in own.members:
                rows.add(_other_reader(one, own.why or counted.why), segmentation=one.uid)
    return counted


def _is_of(own: LesionSet, reader: str) -> bool:
    wanted = _words(reader)
    return bool(wanted) and any(
        wanted <= _words(f"{one.origin.author} {one.origin.description}") for one in own.members
    )


def _words(text: str) -> set[str]:
    """Words and numbers, so that reader 1 is not reader 12."""
    return set(_WORD_OR_NUMBER.findall(text[:400].casefold()))


def _other_reader(one: LesionObject, why: str) -> Note:
    return Note(
        "other_reader",
        QualityOutcome.WARN,
        found=f"{len(one.heads)} lesions of another reader: {why}",
        wanted="one reader's lesion set",
        detail="kept, and not counted; the settings reading.reader and reading.several decide",
    )


def say_steps(own: LesionSet, names: Names, voxel_ml: float, rows: QualityRows) -> None:
    """A row for each further object of a set, and for each lesion that its last version changed.

    Parameters
    ----------
    own : LesionSet
    names : Names
    voxel_ml : float
        Volume of a voxel in millilitres.
    rows : QualityRows
    """
    current = {one.uid for one in own.current}
    for step in own.steps:
        if step.relation is Relation.PART:
            rows.add(_part(step), segmentation=step.object.uid)
        elif step.relation is Relation.VERSION and step.object.uid in current:
            _say_version(step, names, voxel_ml, rows)
        elif step.relation is Relation.VERSION:
            before = {uid for older in step.replaces for uid in names[older.uid]}
            lost = len(before.difference(names[step.object.uid]))
            changed = f"{lost} lesions gone, replaced in turn"
            rows.add(_version(step, changed, gone=lost), segmentation=step.object.uid)


def latest_of_each(
    own: LesionSet, names: Names, voxel_ml: float, rows: QualityRows
) -> dict[str, list[int]]:
    """Which segments of each current object count; said where one gives way to a later one.

    Two current objects hold one tracking UID only where the settings take versions for parts.

    Parameters
    ----------
    own : LesionSet
    names : Names
    voxel_ml : float
        Volume of a voxel in millilitres.
    rows : QualityRows

    Returns
    -------
    dict of SOP Instance UID to list of int
        Places in the object's heads.
    """
    latest: dict[str, tuple[LesionObject, int]] = {}
    for one in own.current:
        for place, uid in enumerate(names[one.uid]):
            if uid in latest:
                older, was = latest[uid]
                before, after = older.segments[was].mask, one.segments[place].mask
                if before is not None and after is not None:
                    note = _superseded(before, after, dice(before, after), voxel_ml, one)
                    rows.add(note, segmentation=older.uid, lesion=uid)
            latest[uid] = one, place
    counted: dict[str, list[int]] = {one.uid: [] for one in own.current}
    for one, place in latest.values():
        counted[one.uid].append(place)
    return counted


def _part(step: Step) -> Note:
    return Note(
        "part_of_set",
        QualityOutcome.OK,
        found=step.why,
        wanted="parts of one lesion set",
        detail="counted beside the other segmentations of this image",
    )


def _version(step: Step, changed: str, *, gone: int) -> Note:
    older = ", ".join(f"{one.uid} of {one.origin.when}" for one in step.replaces)
    created = step.object.origin.created
    tie = any(not created or one.origin.created == created for one in step.replaces)
    return Note(
        "version",
        QualityOutcome.WARN if gone or tie else QualityOutcome.OK,
        found=f"{step.why}: {changed}",
        wanted="the latest version",
        detail=f"replaces {older}"
        + ("; no time tells which is later, the larger UID counts" if tie else ""),
    )


def _say_version(step: Step, names: Names, voxel_ml: float, rows: QualityRows) -> None:
    new = _masks(step.object, names)
    old = {uid: one for older in step.replaces for uid, one in _masks(older, names).items()}
    whence = {uid: older.uid for older in step.replaces for uid in names[older.uid]}
    redrawn = 0
    for uid in sorted(old.keys() & new.keys()):
        before, after = old[uid], new[uid]
        if before is None or after is None or (likeness := dice(before, after)) == 1:
            continue
        redrawn += 1
        rows.add(
            _superseded(before, after, likeness, voxel_ml, step.object),
            segmentation=whence[uid],
            lesion=uid,
        )
    gone, added = _only(old, new), _only(new, old)
    for uid, mask in gone.items():
        rows.add(_gone(mask, voxel_ml, step), segmentation=whence[uid], lesion=uid)
    for uid, mask in added.items():
        rows.add(_new(mask, voxel_ml), segmentation=step.object.uid, lesion=uid)
    changed = f"{redrawn} lesions redrawn, {len(gone)} gone, {len(added)} new"
    rows.add(_version(step, changed, gone=len(gone)), segmentation=step.object.uid)


def _masks(one: LesionObject, names: Names) -> dict[str, Mask | None]:
    return {uid: segment.mask for uid, segment in zip(names[one.uid], one.segments, strict=True)}


def _only(ours: Mapping[str, Mask | None], theirs: Mapping[str, Mask | None]) -> dict[str, Mask]:
    """Lesions that one version alone has, by UID; those that could not be used are passed over."""
    alone = sorted(ours.keys() - theirs.keys())
    return {uid: mask for uid in alone if (mask := ours[uid]) is not None}


def _superseded(
    before: Mask, after: Mask, likeness: float, voxel_ml: float, by: LesionObject
) -> Note:
    change = after.n_voxels - before.n_voxels
    return Note(
        "superseded",
        QualityOutcome.OK if likeness else QualityOutcome.WARN,  # a UID copied onto another lesion?
        found=f"Dice {likeness:.4f}, {before.n_voxels} then {after.n_voxels} voxels, change "
        f"{change * voxel_ml:+.4g} ml ({100 * change / before.n_voxels:+.1f} %)",
        wanted="the latest version",
        detail=f"replaced by {by.uid} of {by.origin.when}",
    )


def _gone(mask: Mask, voxel_ml: float, step: Step) -> Note:
    return Note(
        "lesion_gone",
        QualityOutcome.WARN,
        found=_size(mask, voxel_ml),
        wanted="in the latest version",
        detail=f"{step.object.uid} of {step.object.origin.when} no longer holds this lesion",
    )


def _new(mask: Mask, voxel_ml: float) -> Note:
    return Note(
        "lesion_new",
        QualityOutcome.OK,
        found=_size(mask, voxel_ml),
        detail="the version before did not hold this lesion",
    )


def _size(mask: Mask, voxel_ml: float) -> str:
    return f"{mask.n_voxels} voxels, {mask.n_voxels * voxel_ml:.4g} ml"
