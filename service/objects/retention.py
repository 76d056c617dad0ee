"""Making room: received objects go when they are old and their results are where they belong.

Index, runs, results, artifacts and audit trail stay; only the received files go, and with them
what corrections replaced or was refused as one. An object sent again is taken again.
"""

from mirv.config.settings.keeping import Retention
from mirv.dicom_io.study.matching import Selection
from mirv.service.catalogue import Catalogue, DeliveryState, InstanceRow, Jump, RunState, StudyRow
from mirv.service.catalogue.states import UNDER_WAY
from mirv.service.objects.spool import Spool
from mirv.service.runtime.log import get_logger

_DAY_S = 86_400.0

log = get_logger("retention")


def sweep(spool: Spool, catalogue: Catalogue, rule: Retention, now: float) -> int:
    """Remove what may go; how many objects went.

    A study goes when its last object is older than `keep_days`, every current run of it has
    finished, and everything sent was delivered (which, where commitment is required, means
    committed). A study without any run goes after `keep_unused_days`. What the clock jumped
    forward since the last object is not counted.

    Parameters
    ----------
    spool : Spool
    catalogue : Catalogue
    rule : Retention
    now : float
        Seconds since 1970.

    Returns
    -------
    int
    """
    if rule.keep_days is None and rule.keep_unused_days is None:
        return 0
    removed = 0
    jumps = catalogue.clock.jumps()
    in_use = _in_use(catalogue)
    for study in catalogue.studies.all():
        runs = catalogue.runs.all(study_uid=study.study_uid, current=True)
        limit = rule.keep_days if runs else rule.keep_unused_days
        if limit is None or not _is_old(study, limit * _DAY_S, jumps, now):
            continue
        if any(run.state != RunState.FINISHED for run in runs):
            continue
        undelivered = (
            row.state not in (DeliveryState.DELIVERED, DeliveryState.CANCELLED)
            for run in runs
            for row in catalogue.deliveries.all(run_id=run.run_id)
        )
        if any(undelivered):
            continue
        present = [
            row for row in catalogue.instances.all(study.study_uid) if row.removed_at is None
        ]
        if in_use.isdisjoint(row.sop_instance_uid for row in present):
            _remove(spool, catalogue, present, now)
            removed += len(present)
    if removed:
        log.info("old objects removed", objects=removed)
    return removed


def _is_old(study: StudyRow, limit_s: float, jumps: list[Jump], now: float) -> bool:
    age_s = now - study.last_received_at
    if age_s < limit_s or not jumps:
        return age_s >= limit_s  # a clock set back makes nothing older than it says
    # By number: the times of before and after a jump cannot be compared.
    jumped_s = sum(jump.seconds for jump in jumps if jump.after_seq >= study.last_seq)
    return age_s - jumped_s >= limit_s


def _in_use(catalogue: Catalogue) -> set[str]:
    """SOP Instance UIDs of what runs that have not finished are made of, in whatever study."""
    under_way = [Selection.from_json(run.selection) for run in catalogue.runs.all(states=UNDER_WAY)]
    return {uid for one in under_way for uid in (*one.images, *one.segmentations)}


def _remove(spool: Spool, catalogue: Catalogue, present: list[InstanceRow], now: float) -> None:
    for row in present:
        # Row first: a crash between leaves a file without a row, which the next check finds; the
        # other order would leave a row that promises a file.
        catalogue.instances.remove(row.sop_instance_uid, "retention", now)
        spool.remove(row.sha256)
    for sha256 in catalogue.corrections.contents({row.study_uid for row in present}):
        spool.remove(sha256, "quarantine")
