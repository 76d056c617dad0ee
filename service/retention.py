"""Making room: received objects go when they are old and their results are where they belong.

Index, runs, results, artifacts and audit trail stay; only the received files go. An object sent
again is taken again.
"""

from config.settings import Retention
from service.log import get_logger
from service.spool import Spool
from service.store import Store

_DAY_S = 86_400.0

log = get_logger("retention")


def sweep(spool: Spool, store: Store, wanted: Retention, now: float) -> int:
    """Remove what may go; how many objects went.

    A study goes when its last object is older than `keep_days`, every current run of it has
    finished, and everything sent was delivered (which, where commitment is required, means
    committed). A study without any run goes after `keep_unused_days`.
    """
    if wanted.keep_days is None and wanted.keep_unused_days is None:
        return 0
    removed = 0
    for study in store.instances.studies(limit=1_000_000):
        age_days = (now - study.last_received_at) / _DAY_S
        runs = store.runs.all(study_uid=study.study_uid, current=True)
        limit = wanted.keep_days if runs else wanted.keep_unused_days
        if limit is None or age_days < limit:
            continue
        if any(run.state != "finished" for run in runs):
            continue
        undelivered = (
            row.state not in ("delivered", "cancelled")
            for run in runs
            for row in store.deliveries.all(run_id=run.run_id)
        )
        if any(undelivered) or _feeds_another(store, study.study_uid):
            continue
        removed += _remove(spool, store, study.study_uid, now)
    if removed:
        log.info("old objects removed", objects=removed)
    return removed


def _feeds_another(store: Store, study_uid: str) -> bool:
    """Whether a segmentation links this study with one whose run has not finished."""
    others = store.instances.group_of(study_uid) - {study_uid}
    return any(
        run.state in ("queued", "running")
        for other in others
        for run in store.runs.all(study_uid=other, current=True)
    )


def _remove(spool: Spool, store: Store, study_uid: str, now: float) -> int:
    present = [row for row in store.instances.all(study_uid) if row.removed_at is None]
    for row in present:
        # Row first: a crash between leaves a file without a row, which the next check finds; the
        # other order would leave a row that promises a file.
        store.instances.remove(row.sop_instance_uid, "retention", now)
        spool.remove(row.sha256)
    return len(present)
