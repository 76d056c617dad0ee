"""What to do next: settled studies become runs, due deliveries become tries.

`tick` is told the time, so a test can be at any hour; nothing here waits.
"""

from collections.abc import Callable, Iterable

from analysis.errors import Transient
from dicom_io.header import InstanceHeader
from dicom_io.matching import MatchOutcome, Selection, match
from dicom_io.model import QualityRow
from service.log import get_logger
from service.pipeline import Plan, run_digest
from service.store import RunRow, Store, StudyRow
from service.store.runs import NewRun

log = get_logger("scheduler")


class Scheduler:
    """Looks at the catalogue and starts what is ready.

    Parameters
    ----------
    store : Store
    plan : Plan
        What is computed for every selection.
    quiet_s : float
        A study is settled after this long without news.
    start_run : callable
        Queues the workflow of a run; harmless when repeated.
    start_delivery : callable
        Queues one try of (run, destination, tries so far); harmless when repeated.
    """

    def __init__(
        self,
        store: Store,
        plan: Plan,
        quiet_s: float,
        start_run: Callable[[RunRow], None],
        start_delivery: Callable[[str, str, int], None],
    ) -> None:
        self._store = store
        self._plan = plan
        self._quiet_s = quiet_s
        self._start_run = start_run
        self._start_delivery = start_delivery
        self._seen_seq = 0
        self._started: set[str] = set()
        self._tried: set[tuple[str, str, int]] = set()

    def tick(self, now: float) -> int:
        """Do what is due at this time; how many runs are new."""
        new = self._match_settled(now)
        self._start_queued()
        self._start_due(now)
        return new

    # Studies

    def _match_settled(self, now: float) -> int:
        last_seq = self._store.instances.last_seq()
        open_studies = self._store.instances.unmatched(self._seen_seq)
        new, done = 0, set[str]()
        unsettled = {row.study_uid for row in open_studies if not self._settled(row, now)}
        for row in open_studies:
            if row.study_uid in done:
                continue
            group = self._store.instances.group_of(row.study_uid)
            if group & unsettled:
                continue
            new += self._match(group, now)
            done |= group
        still_open = [row.last_seq for row in open_studies if row.study_uid not in done]
        self._seen_seq = min([last_seq, *(seq - 1 for seq in still_open)])
        return new

    def _settled(self, row: StudyRow, now: float) -> bool:
        # A time far ahead is from before the clock was set back: it says nothing.
        age = now - row.last_received_at
        return age >= self._quiet_s or age < -self._quiet_s

    def _match(self, group: set[str], now: float) -> int:
        counts = self._store.instances.count(group)  # before the headers: none is overlooked
        texts = self._store.instances.headers(group)
        try:
            headers = [InstanceHeader.from_json(text) for text in texts]
            outcome = match(headers, self._plan.reading)
            new = sum(self._queue(selection, headers, now) for selection in outcome.selections)
        except Transient:
            raise
        except Exception:
            # One study that cannot be matched must not stop the others; it says so and rests
            # until something new arrives for it.
            log.exception("matching failed", objects=len(texts))
            fault = [_matching_fault(study_uid) for study_uid in sorted(group)]
            self._store.instances.note_matched(counts, (), fault, now)
            return 0
        self._store.instances.note_matched(counts, _waiting(outcome), outcome.quality, now)
        log.info(
            "study settled",
            objects=len(texts),
            runs=new,
            waiting=len(outcome.waiting),
            refused=len(outcome.quality),
        )
        return new

    def _queue(self, selection: Selection, headers: Iterable[InstanceHeader], now: float) -> bool:
        dates = {one.study_date for one in headers if one.sop_instance_uid in selection.images}
        return self._store.runs.queue(
            NewRun(
                run_id=run_digest(selection.input_digest, self._plan),
                study_uid=selection.study_uid,
                series_uid=selection.series_uid,
                patient_id=selection.patient_id,
                study_date=max(dates, default=""),
                input_digest=selection.input_digest,
                plan_digest=self._plan.digest,
                selection=selection.to_json(),
            ),
            now,
        )

    # Work

    def _start_queued(self) -> None:
        queued = {run.workflow_id: run for run in self._store.runs.all(states=("queued",))}
        for workflow_id, run in queued.items():
            if workflow_id not in self._started:
                self._start_run(run)
        self._started = set(queued)

    def _start_due(self, now: float) -> None:
        due = self._store.deliveries.due(now)
        for run_id, destination, attempts in due:
            if (run_id, destination, attempts) not in self._tried:
                self._start_delivery(run_id, destination, attempts)
        self._tried = set(due)


def _waiting(outcome: MatchOutcome) -> list[tuple[str, str, str]]:
    return [
        (one.study_uid, one.object_uid or one.series_uid, one.waits_for) for one in outcome.waiting
    ]


def _matching_fault(study_uid: str) -> QualityRow:
    return QualityRow(
        study_uid=study_uid,
        series_uid="",
        object_uid="",
        lesion="",
        check="matching_failed",
        outcome="refused",
        found="a fault of the node while matching",
        wanted="",
        detail="see the log",
    )
