"""Corrections of stored objects: what the archive sent again under the same UIDs, and otherwise.

A corrected patient or study comes as other content of known objects, which is put aside. Here it
is shown beside what is stored, and taken in or refused as someone decides. What was stored is
kept in quarantine, unaltered; the catalogue says what replaced it.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

from mirv.analysis.errors import Unsuitable
from mirv.config.errors import BadInput
from mirv.dicom_io.files.header import InstanceHeader, read_header
from mirv.dicom_io.standard.person import Identity, Sameness, compare
from mirv.dicom_io.study.matching import Selection
from mirv.service.catalogue import (
    Acceptance,
    Catalogue,
    CorrectionRow,
    CorrectionState,
    NewInstance,
    RunRow,
    Withdrawal,
)
from mirv.service.objects.intake import UNTOLD, Intake, set_aside
from mirv.service.objects.same_object import Difference, differences
from mirv.service.objects.spool import Spool, StoredObject, content_digest

_SHOWN = ("study_uid", "series_uid", "study_date")
_LONGEST_SHOWN = 200
_MOST_CHANGES = 20
"""Pairs of values of one field that are told apart: a sender's many must not fill the page."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a correction says of one field, and what is stored; "" where it has no one value.

    Attributes
    ----------
    field : Difference
    before, after : str
    objects : int
        How many objects it is of.
    """

    field: Difference
    before: str
    after: str
    objects: int


@dataclass(frozen=True, slots=True)
class Correction:
    """All that waits to be decided of one study. For people who may know its patient.

    Attributes
    ----------
    study_uid : str
        As stored.
    patient_ids : tuple of str
        Of the stored objects that are corrected.
    rows : tuple of CorrectionRow
        One for each object.
    n_stored : int
        Objects of the study that are stored.
    changes : tuple of Change
    left_out : tuple of str
        SOP Instance UIDs of segmentations that were not sent again though their images become
        another person's or another series': refused (``other_patient``), or waiting, until they
        are.
    obstacles : tuple of str
        Why it cannot be accepted; empty when it can.
    """

    study_uid: str
    patient_ids: tuple[str, ...]
    rows: tuple[CorrectionRow, ...]
    n_stored: int
    changes: tuple[Change, ...]
    left_out: tuple[str, ...]
    obstacles: tuple[str, ...]

    @property
    def mark(self) -> str:
        """Digest of what is stored and what is to take its place: what a decision is about."""
        pairs = (f"{row.stored_sha256} {row.sha256}\n" for row in self.rows)
        return hashlib.sha256("".join(pairs).encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True)
class Decision:
    """Who decides, and when.

    Attributes
    ----------
    by : str
        For the audit trail.
    now : float
        Seconds since 1970.
    """

    by: str
    now: float


@dataclass(frozen=True, slots=True)
class _Place:
    """Whose an object is, and of which study."""

    identity: Identity
    study_uid: str


@dataclass(frozen=True, slots=True)
class _Then:
    """The usable objects of a study and its neighbours, now and after acceptance.

    Attributes
    ----------
    now, then : mapping of SOP Instance UID to InstanceHeader
    moved : tuple of str
        UIDs of those whose person or study changes.
    """

    now: Mapping[str, InstanceHeader]
    then: Mapping[str, InstanceHeader]
    moved: tuple[str, ...]


def waiting(
    spool: Spool,
    catalogue: Catalogue,
    state: CorrectionState = CorrectionState.PENDING,
    limit: int | None = None,
) -> list[Correction]:
    """Corrections in a state, by study, the latest first.

    Parameters
    ----------
    spool : Spool
    catalogue : Catalogue
    state : CorrectionState
    limit : int, optional
        So many studies at most.

    Returns
    -------
    list of Correction
    """
    studies = catalogue.corrections.studies(state, limit)
    found = (look(spool, catalogue, study_uid, state) for study_uid in studies)
    return [one for one in found if one is not None]


def of_patient(
    catalogue: Catalogue, patient_id: str, state: CorrectionState = CorrectionState.PENDING
) -> list[str]:
    """Studies with corrections in a state, of whose stored objects one has this Patient ID.

    Parameters
    ----------
    catalogue : Catalogue
    patient_id : str
    state : CorrectionState

    Returns
    -------
    list of str
        Study Instance UIDs.
    """
    return [
        study_uid
        for study_uid in catalogue.corrections.studies(state)
        if any(
            InstanceHeader.from_json(row.stored_header).patient_id == patient_id
            for row in catalogue.corrections.of_studies((study_uid,), state)
        )
    ]


def look(
    spool: Spool,
    catalogue: Catalogue,
    study_uid: str,
    state: CorrectionState = CorrectionState.PENDING,
) -> Correction | None:
    """What is corrected in one study, and whether it can be accepted.

    Parameters
    ----------
    spool : Spool
    catalogue : Catalogue
    study_uid : str
        As stored.
    state : CorrectionState

    Returns
    -------
    Correction or None
        None when there is nothing in this state.
    """
    rows = _described(spool, catalogue, study_uid, state)
    if not rows:
        return None
    then = _after(catalogue, study_uid, rows)
    return Correction(
        study_uid=study_uid,
        patient_ids=tuple(sorted({_stored(row).patient_id for row in rows})),
        rows=tuple(rows),
        n_stored=catalogue.studies.count((study_uid,)).get(study_uid, 0),
        changes=_changes(rows),
        left_out=_left_out(then),
        obstacles=_obstacles(then),
    )


def accept(
    spool: Spool, catalogue: Catalogue, corrections: Sequence[Correction], decision: Decision
) -> None:
    """Let corrections take the place of what is stored; of all these studies or of none.

    Repeatable: whatever is left by a crash is put right at the next start, before or after the
    one transaction in which the catalogue changes.

    Parameters
    ----------
    spool : Spool
    catalogue : Catalogue
    corrections : sequence of Correction
        As of `look`.
    decision : Decision

    Raises
    ------
    BadInput
        One cannot be accepted, or its content is damaged or gone.
    Changed
        Something is stored, waits or runs that was not looked at.
    """
    if faults := [
        f"study {one.study_uid}: {obstacle}" for one in corrections for obstacle in one.obstacles
    ]:
        raise BadInput("; ".join(faults))
    rows = [row for one in corrections for row in one.rows]
    intake = Intake(spool, catalogue)
    accepted = [Acceptance(row, _entry(intake, spool, row)) for row in rows]
    for row in rows:
        _check_whole(spool, row)
    try:
        for row in rows:
            spool.bring_back(row.sha256)
        studies = frozenset(
            {one.row.study_uid for one in accepted} | {one.new.study_uid for one in accepted}
        )
        runs = catalogue.acceptances.runs(_with_neighbours(catalogue, studies))
        seen = (_with_neighbours(catalogue, studies), frozenset(run.run_id for run in runs))
        withdrawn = _withdrawals(catalogue, runs, accepted)
        catalogue.acceptances.accept(accepted, withdrawn, seen, decision.by, decision.now)
    finally:  # also after a refusal: who is stored stays
        outputs = catalogue.runs.contents()
        for row in rows:
            for sha256 in {row.sha256, row.stored_sha256} - outputs:
                set_aside(spool, catalogue, sha256, row.sop_instance_uid)


def refuse(catalogue: Catalogue, corrections: Iterable[Correction], decision: Decision) -> int:
    """Let corrections wait no more; their content is kept until retention removes their study.

    Parameters
    ----------
    catalogue : Catalogue
    corrections : iterable of Correction
    decision : Decision

    Returns
    -------
    int
        How many objects.
    """
    rows = [row for one in corrections for row in one.rows]
    return catalogue.corrections.refuse(rows, decision.by, decision.now)


def reopen(catalogue: Catalogue, corrections: Iterable[Correction], decision: Decision) -> int:
    """Let refused corrections wait again.

    Parameters
    ----------
    catalogue : Catalogue
    corrections : iterable of Correction
    decision : Decision

    Returns
    -------
    int
        How many objects.
    """
    rows = [row for one in corrections for row in one.rows]
    return catalogue.corrections.reopen(rows, decision.by, decision.now)


# What differs


def _described(
    spool: Spool, catalogue: Catalogue, study_uid: str, state: CorrectionState
) -> list[CorrectionRow]:
    """Rows that say in what they differ from what is stored now."""
    rows = catalogue.corrections.of_studies((study_uid,), state)
    stale = [row for row in rows if row.header is None or row.against != row.stored_sha256]
    if not stale:
        return rows
    for row in stale:
        _describe(spool, catalogue, row)
    rows = catalogue.corrections.of_studies((study_uid,), state)
    return [row for row in rows if row.header is not None]


def _describe(spool: Spool, catalogue: Catalogue, row: CorrectionRow) -> None:
    stored = spool.path(row.stored_sha256)
    try:
        content = spool.path(row.sha256, "quarantine").read_bytes()
        told = row.header or read_header(content, row.sha256).to_json()  # with its default issuer
    except (OSError, Unsuitable):
        catalogue.corrections.forget(row)
        return
    differs = differences(stored.read_bytes(), content) if stored.is_file() else UNTOLD
    catalogue.corrections.describe(row, told, differs)


def _stored(row: CorrectionRow) -> InstanceHeader:
    return InstanceHeader.from_json(row.stored_header)


def _corrected(row: CorrectionRow) -> InstanceHeader:
    return InstanceHeader.from_json(row.header or row.stored_header)


def _changes(rows: Sequence[CorrectionRow]) -> tuple[Change, ...]:
    shown = {field.name for field in fields(Identity)} | set(_SHOWN)
    counted: dict[Difference, Counter[tuple[str, str]]] = defaultdict(Counter)
    for row in rows:
        before, after = _stored(row), _corrected(row)
        for name in filter(None, (row.differs or "").split(",")):
            field, values = Difference(name), ("", "")
            if name in shown:
                values = _value(before, name), _value(after, name)
            counted[field][values] += 1
    return tuple(
        Change(field, *values, objects)
        for field in Difference
        if field in counted
        for values, objects in counted[field].most_common(_MOST_CHANGES)
    )


def _value(header: InstanceHeader, name: str) -> str:
    holder = header if name in _SHOWN else header.identity
    return str(getattr(holder, name))[:_LONGEST_SHOWN]


# Whether it can be accepted


def _with_neighbours(catalogue: Catalogue, studies: Iterable[str]) -> frozenset[str]:
    return frozenset(
        other for study_uid in studies for other in catalogue.studies.group_of(study_uid)
    )


def _after(catalogue: Catalogue, study_uid: str, rows: Sequence[CorrectionRow]) -> _Then:
    inputs = [row for row in rows if not row.own_output]
    new = {row.sop_instance_uid: _corrected(row) for row in inputs}
    studies = {study_uid} | {header.study_uid for header in new.values()}
    texts = catalogue.studies.headers(_with_neighbours(catalogue, studies))
    now = {one.sop_instance_uid: one for one in map(InstanceHeader.from_json, texts)}
    # An object whose file retention removed comes back with its correction.
    now = {row.sop_instance_uid: _stored(row) for row in inputs} | now
    moved = tuple(uid for uid, header in new.items() if _place(header) != _place(now[uid]))
    return _Then(now, now | new, moved)


def _place(header: InstanceHeader) -> _Place:
    return _Place(header.identity, header.study_uid)


def _obstacles(then: _Then) -> tuple[str, ...]:
    """Series that would be of two persons or studies, or of another person than their study."""
    targets = Counter(_place(then.then[uid]) for uid in then.moved)
    touched = {
        (then.now[uid].study_uid, then.now[uid].series_uid)
        for uid in then.moved
        if then.now[uid].is_image
    }
    faults = {}
    for key, images in _series(then.now).items():
        places = Counter(_place(then.then[one.sop_instance_uid]) for one in images)
        if key in touched and len(places) > 1:
            (there, _), *_ = (places & targets).most_common() or places.most_common()
            faults[key[1]] = (places[there], len(images))
    for key, images in _series(then.then).items():
        of_study = [place for place in targets if place.study_uid == key[0]]
        others = [
            one
            for one in images
            for place in of_study
            if compare(one.identity, place.identity).sameness is Sameness.OTHER
        ]
        if others and key[1] not in faults:
            sent = sum(_place(one) in targets for one in images)
            faults[key[1]] = (sent, len(images))
    return tuple(
        f"{sent} of {images} images of series {series_uid} were sent again, wanted all under one "
        "person and study"
        for series_uid, (sent, images) in sorted(faults.items())
    )


def _series(
    headers: Mapping[str, InstanceHeader],
) -> dict[tuple[str, str], list[InstanceHeader]]:
    series: dict[tuple[str, str], list[InstanceHeader]] = defaultdict(list)
    for one in headers.values():
        if one.is_image:
            series[one.study_uid, one.series_uid].append(one)
    return series


def _left_out(then: _Then) -> tuple[str, ...]:
    """Segmentations of images that become another person's, or of another series."""
    changed = {
        uid: header
        for uid, header in then.then.items()
        if header.is_image and header != then.now[uid]
    }
    series = {then.now[uid].series_uid: header for uid, header in changed.items()}
    named = []
    for uid, one in then.then.items():
        if not one.is_segmentation or one != then.now[uid]:
            continue
        drawn_on = [changed[other] for other in one.referenced_instances if other in changed]
        drawn_on += [series[other] for other in one.referenced_series if other in series]
        if any(_parted(one, image) for image in drawn_on):
            named.append(uid)
    return tuple(sorted(named))


def _parted(segmentation: InstanceHeader, image: InstanceHeader) -> bool:
    """Whether a segmentation is of another person than an image, or names another series."""
    known = segmentation.referenced_series
    return compare(segmentation.identity, image.identity).sameness is Sameness.OTHER or (
        bool(known) and image.series_uid not in known
    )


# Accepting


def _check_whole(spool: Spool, row: CorrectionRow) -> None:
    aside = spool.path(row.sha256, "quarantine")
    if not aside.is_file() or content_digest(aside) != row.sha256:
        raise BadInput(
            f"object {row.sop_instance_uid}: its correction is damaged or gone, wanted the file "
            f"{row.sha256} in quarantine: let it be sent again"
        )


def _entry(intake: Intake, spool: Spool, row: CorrectionRow) -> NewInstance:
    file = StoredObject(spool.path(row.sha256), row.sha256, row.size)
    return intake.index_entry(_corrected(row), file, row.source)


def _withdrawals(
    catalogue: Catalogue, runs: Sequence[RunRow], accepted: Sequence[Acceptance]
) -> list[Withdrawal]:
    """Runs of what is corrected, each with where its images are then."""
    moved = {one.row.sop_instance_uid: one.new for one in accepted}
    found = []
    for run in runs:
        selection = Selection.from_json(run.selection)
        if moved.keys().isdisjoint((*selection.images, *selection.segmentations)):
            continue
        places = set()
        for uid in selection.images:
            one = moved.get(uid) or catalogue.instances.find(uid)
            if one is not None:
                places.add((one.study_uid, one.series_uid))
        found.append(Withdrawal(run.run_id, frozenset(places)))
    return found
