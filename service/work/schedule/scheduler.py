"""What to do next: settled studies become runs, due deliveries become tries.

`tick` is told the time, so a test can be at any hour; nothing here waits.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mirv.analysis.errors import Reason, Transient
from mirv.dicom_io.study.matching import Selection
from mirv.service.catalogue import Catalogue, EventKind, RunRow, RunState, Wait
from mirv.service.catalogue.run_rows import USUAL_PRIORITY, NewRun
from mirv.service.catalogue.states import UNDER_WAY
from mirv.service.runtime.log import get_logger
from mirv.service.study.plan import Plan, run_digest, run_digest_again
from mirv.service.work.schedule.partial import rest_of
from mirv.service.work.schedule.persons import KnownPersons
from mirv.service.work.schedule.settling import Ready, is_settled, matched, matching_fault

# So many runs may finish between a finish's number and its commit: workers finish one at a time.
_OUT_OF_ORDER = 500

_LONG = 10  # quiet periods without one quiet period: then it is said that objects keep coming

log = get_logger("scheduler")


def _all_alike(_selection: Selection, _description: str) -> int:
    return USUAL_PRIORITY


def _as_they_are(_workflow_id: str, _priority: int) -> None:
    """Nothing is queued anywhere."""


@dataclass(frozen=True, slots=True)
class Rules:
    """When what is due, and what goes first.

    Attributes
    ----------
    quiet_s : float
        A study is settled after this long without news.
    compare_with_prior : bool
        Measure the response since the patient's latest earlier study.
    rank : callable
        Priority of a selection, given its image series' description; lower goes first.
    fetch_again_s : float
        A new round of asking begins after so long.
    longest_wait_s : float
        No delivery waits for longer, whatever the clock did since.
    """

    quiet_s: float
    compare_with_prior: bool = True
    rank: Callable[[Selection, str], int] = _all_alike
    fetch_again_s: float = 900
    longest_wait_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Starters:
    """What the scheduler starts work with; each is harmless when repeated.

    Attributes
    ----------
    run : callable
        Queues the workflow of a run.
    delivery : callable
        Queues one try of (run, destination, tries so far). False when it could not: asked again at
        the next tick.
    fetch : callable, optional
        Queues asking for (study, series, round) that a segmentation waits for. False when it could
        not: asked again at the next tick. None: there is no one to ask.
    prior : callable, optional
        Queues looking elsewhere for an earlier study, told (run, study, round), of which none is
        here; round 0 is the first.
    hasten : callable
        Lets a queued (workflow, priority) go earlier.
    """

    run: Callable[[RunRow], None]
    delivery: Callable[[str, str, int], bool | None]
    fetch: Callable[[str, str, int], bool | None] | None = None
    prior: Callable[[str, str, int], None] | None = None
    hasten: Callable[[str, int], None] = _as_they_are


class Scheduler:
    """Looks at the catalogue and starts what is ready.

    Parameters
    ----------
    catalogue : Catalogue
    plan : Plan
        What is computed for every selection.
    rules : Rules
    start : Starters

    Attributes
    ----------
    open_studies : int
        Studies with news at the last tick that had not settled.
    """

    def __init__(self, catalogue: Catalogue, plan: Plan, rules: Rules, start: Starters) -> None:
        self._catalogue = catalogue
        self._plan = plan
        self._rules = rules
        self._start = start
        self.open_studies = 0
        self._seen_seq = 0
        self._receiving_since: dict[str, float] = {}
        self._persons = KnownPersons(catalogue)
        self._finishes = set[int]()
        self._newcomers = set[str]()
        self._replanned = False
        self._prior_round: int | None = None
        self._asked: set[tuple[str, int]] = set()
        self._started: set[str] = set()
        self._tried: set[tuple[str, str, int]] = set()

    def tick(self, now: float) -> int:
        """Do what is due at this time; how many runs are new.

        Parameters
        ----------
        now : float
            Seconds since 1970.

        Returns
        -------
        int
        """
        self._replan(now)
        new = self._match_settled(now) + self._revise(now) + self._revise_after_corrections(now)
        self._start_queued()
        self._start_due(now)
        self._ask_for_missing(now)
        self._look_again_for_priors(now)
        return new

    # Studies

    def _match_settled(self, now: float) -> int:
        last_seq = self._catalogue.instances.last_seq()
        open_studies = self._catalogue.studies.unmatched(self._seen_seq)
        receiving = {
            row.study_uid: row.n_matched
            for row in open_studies
            if not is_settled(row, self._rules.quiet_s, now)
        }
        self._say_who_keeps_coming(receiving, now)
        ready = self._ready([row.study_uid for row in open_studies], receiving)
        self._persons.expect(each for one in ready for each in one.outcome.selections)
        done = {uid for one in ready for uid in one.counts}
        new = 0
        # By date, so that an earlier study of a patient is known when the later one is queued.
        for one in sorted(ready, key=lambda one: one.first_date):
            try:
                if self._awaits_prior(one):
                    done -= one.group
                else:
                    new += self._take(one, now)
            except Transient:
                raise
            except Exception:
                # As above: it says so and rests; the others go on.
                log.exception("queueing failed", studies=len(one.group))
                fault = tuple(matching_fault(study_uid) for study_uid in sorted(one.counts))
                self._catalogue.studies.note_matched(
                    one.counts, (), fault, now, last_seq=one.last_seq
                )
        self.open_studies = len(receiving)
        still_open = [row.last_seq for row in open_studies if row.study_uid not in done]
        self._seen_seq = min([last_seq, *(seq - 1 for seq in still_open)])
        return new

    def _ready(self, open_studies: Sequence[str], receiving: Mapping[str, int]) -> list[Ready]:
        """Every open study that has settled, matched with those that have and are linked with it.

        One that is still receiving holds up no other: it takes part as it was when it last had
        settled, and joins anew when it settles again.
        """
        studies = self._catalogue.studies
        never_settled = {uid for uid, n_matched in receiving.items() if not n_matched}
        ready: list[Ready] = []
        done = set[str]()
        for study_uid in open_studies:
            if study_uid in done or study_uid in receiving:
                continue
            linked = studies.group_of(study_uid, never_settled)
            one = matched(studies, study_uid, linked, receiving, self._plan.reading)
            ready.append(one)
            done |= one.group
        return ready

    def _say_who_keeps_coming(self, receiving: Mapping[str, int], now: float) -> None:
        quiet_s = self._rules.quiet_s
        why = f"{quiet_s:g} s without a new object: its objects keep coming"
        since = {uid: self._receiving_since.get(uid, now) for uid in receiving}
        for study_uid, first in since.items():
            if now - first >= _LONG * quiet_s:
                self._catalogue.studies.note_waiting(Wait(study_uid, study_uid, why), now)
                since[study_uid] = math.inf  # it is said
        self._receiving_since = since

    def _awaits_prior(self, one: Ready) -> bool:
        """True while an earlier study of the patient is at work: its result is wanted first.

        What is waited for goes no later than who waits.
        """
        if not self._rules.compare_with_prior:
            return False
        awaits = False
        each = zip(one.outcome.selections, one.dates, one.descriptions, strict=True)
        for selection, date, description in each:
            earlier = self._catalogue.comparisons.under_way_before(selection.patient_id, date)
            if self._persons.sort_out(selection, earlier).same:
                awaits = True
                rank = self._rules.rank(selection, description)
                self._catalogue.comparisons.hasten_prior(
                    selection.patient_id, date, rank, self._start.hasten
                )
        return awaits

    def _take(self, one: Ready, now: float) -> int:
        new, waiting = 0, one.waiting
        each = zip(one.outcome.selections, one.dates, one.descriptions, strict=True)
        for selection, date, description in each:
            if (rest := rest_of(self._catalogue, selection)) is not None:
                waiting.append(rest)
            else:
                rank = self._rules.rank(selection, description)
                new += self._queue(selection, date, now, rank)
        self._withdraw(one, now)
        waiting = [wait for wait in waiting if wait.study_uid in one.counts]
        self._catalogue.studies.note_matched(
            one.counts, waiting, one.quality, now, last_seq=one.last_seq
        )
        log.info(
            "study settled",
            objects=sum(one.counts.values()),
            runs=new,
            waiting=len(waiting),
            refused=len(one.quality),
        )
        return new

    def _withdraw(self, one: Ready, now: float) -> None:
        """Results of images that are no longer one series hold no more."""
        for (selection, row), date in zip(one.outcome.refused, one.refused_dates, strict=True):
            run_id = self._not_replaced(run_digest(selection.input_digest, self._plan))
            new = self._new_run(selection, date, run_id)
            self._catalogue.runs.withdraw(new, Reason(row.check, row.detail), now)

    def _queue(self, selection: Selection, study_date: str, now: float, priority: int) -> bool:
        prior = self._prior(selection, study_date) if self._rules.compare_with_prior else None
        run_id = self._not_replaced(
            run_digest(selection.input_digest, self._plan, prior.run_id if prior else "")
        )
        new = self._catalogue.runs.queue(
            replace(
                self._new_run(selection, study_date, run_id),
                prior=prior.run_id if prior else None,
                priority=priority,
            ),
            now,
        )
        if new and self._rules.compare_with_prior:
            self._newcomers.add(selection.patient_id)
            self._say_who_was_left_out(selection, study_date, run_id, now)
        lonely = new and self._rules.compare_with_prior and prior is None
        if lonely and self._start.prior is not None:
            if self._earlier(selection, study_date):
                return new  # there are several, and which is meant is not ours to guess
            self._start.prior(run_id, selection.study_uid, 0)
        return new

    def _not_replaced(self, digest: str) -> str:
        """A run's identity: where that run was replaced, what was then is now again, as a new one.

        A correction may be taken back, or an earlier study that a run was compared with turn out
        to be another person's.
        """
        run_id, times = digest, 0
        while (known := self._catalogue.runs.get(run_id)) and known.superseded_by is not None:
            times += 1
            run_id = run_digest_again(digest, times)
        return run_id

    def _new_run(self, selection: Selection, study_date: str, run_id: str) -> NewRun:
        return NewRun(
            run_id=run_id,
            study_uid=selection.study_uid,
            series_uid=selection.series_uid,
            patient_id=selection.patient_id,
            study_date=study_date,
            input_digest=selection.input_digest,
            plan_digest=self._plan.digest,
            selection=selection.to_json(),
        )

    def _prior(self, selection: Selection, study_date: str) -> RunRow | None:
        """The one run of the patient's latest earlier study in this modality.

        None when that date has several (a chest and an abdomen, say): which is meant is not ours
        to guess.
        """
        alike = [
            run
            for run in self._earlier(selection, study_date)
            if Selection.from_json(run.selection).modality == selection.modality
        ]
        latest = [run for run in alike if run.study_date == alike[0].study_date]
        return latest[0] if len(latest) == 1 else None

    def _earlier(self, selection: Selection, study_date: str) -> list[RunRow]:
        """Finished runs of earlier studies of its person."""
        found = self._catalogue.comparisons.earlier(selection.patient_id, study_date)
        return self._persons.sort_out(selection, found).same

    def _say_who_was_left_out(
        self, selection: Selection, study_date: str, run_id: str, now: float
    ) -> None:
        """Note which earlier studies under its Patient ID were left out, and what contradicts."""
        found = self._catalogue.comparisons.earlier(selection.patient_id, study_date)
        left = self._persons.sort_out(selection, found)
        of = {"study_uid": selection.study_uid, "run_id": run_id}
        add = self._catalogue.events.add
        if left.others:
            others = sorted({run.study_uid for run in left.others})
            differing = sorted(left.differing)
            add(now, EventKind.PRIOR_OF_ANOTHER, **of, studies=others, differing=differing)
        if left.unsure:
            unsure = sorted({run.study_uid for run in left.unsure})
            add(now, EventKind.PRIOR_UNSURE, **of, studies=unsure)

    def _revise(self, now: float) -> int:
        """Queue studies again that what is new of their patient gives another earlier study.

        It came, or came anew, or a newcomer tells that it is another person's.
        """
        if not self._rules.compare_with_prior:
            return 0
        # By number, not by time: the clock may have been set back. PostgreSQL may show a lower
        # number after a higher one, so we look again at the last ones.
        last = max(self._finishes, default=0)
        finishes = self._catalogue.comparisons.finishes(last - _OUT_OF_ORDER)
        news = finishes - self._finishes
        if not (news or self._newcomers):
            return 0
        since = min(news) - 1 if news else last
        concerned = [
            run
            for run in self._catalogue.comparisons.comparable(since, self._newcomers)
            if run.state in (*UNDER_WAY, RunState.FINISHED) and self._has_another_prior(run)
        ]
        waiting = [run for run in concerned if self._earlier_at_work(run)]
        new = sum(
            self._queue(Selection.from_json(run.selection), run.study_date, now, run.priority)
            for run in concerned
            if run not in waiting
        )
        self._finishes = finishes  # now, so that a catalogue that is away loses none
        self._newcomers = {run.patient_id for run in waiting}
        return new

    def _earlier_at_work(self, run: RunRow) -> bool:
        """True while an earlier study of the person is at work: a run is revised once, after it."""
        earlier = self._catalogue.comparisons.under_way_before(run.patient_id, run.study_date)
        return bool(self._persons.sort_out(Selection.from_json(run.selection), earlier).same)

    def _revise_after_corrections(self, now: float) -> int:
        """Queue again what is compared with a result that a correction withdrew."""
        if not self._rules.compare_with_prior:
            return 0
        new = 0
        for run in self._catalogue.comparisons.with_withdrawn_priors():
            if not self._earlier_at_work(run):
                selection = Selection.from_json(run.selection)
                new += self._queue(selection, run.study_date, now, run.priority)
        return new

    def _has_another_prior(self, run: RunRow) -> bool:
        # Under another version each run has another identity: that alone revises nothing.
        prior = self._prior(Selection.from_json(run.selection), run.study_date)
        return run.prior != (prior.run_id if prior else None)

    def _replan(self, now: float) -> None:
        """Queue anew what was begun under other profiles or rules: a run's identity names them."""
        if self._replanned:
            return
        begun = (*UNDER_WAY, RunState.REFUSED)
        for run in self._catalogue.runs.all(states=begun, current=True):
            # A worker may have come to it first, and refused it for its plan alone.
            left = run.state != RunState.REFUSED or run.reason_code == "plan_changed"
            if left and run.plan_digest != self._plan.digest:
                selection = Selection.from_json(run.selection)
                self._queue(selection, run.study_date, now, run.priority)
        self._replanned = True

    # Work

    def _start_queued(self) -> None:
        queued = {
            run.workflow_id: run for run in self._catalogue.runs.all(states=(RunState.QUEUED,))
        }
        for workflow_id, run in queued.items():
            if workflow_id not in self._started:
                self._start.run(run)
        self._started = set(queued)

    def _ask_for_missing(self, now: float) -> None:
        if self._start.fetch is None:
            return
        this_round = int(now // self._rules.fetch_again_s)
        self._asked = {asked for asked in self._asked if asked[1] == this_round}
        for series_uid, study_uid in self._catalogue.studies.missing_series():
            if (series_uid, this_round) in self._asked:
                continue
            if self._start.fetch(study_uid, series_uid, this_round) is not False:
                self._asked.add((series_uid, this_round))

    def _look_again_for_priors(self, now: float) -> None:
        this_round = int(now // self._rules.fetch_again_s)
        if self._start.prior is None or this_round == self._prior_round:
            return
        for run_id, study_uid in self._catalogue.priors.unanswered():
            self._start.prior(run_id, study_uid, this_round)
        self._prior_round = this_round

    def _start_due(self, now: float) -> None:
        due = self._catalogue.deliveries.due(now, self._rules.longest_wait_s)
        new = [one for one in due if one not in self._tried]
        refused = {one for one in new if self._start.delivery(*one) is False}
        self._tried = set(due) - refused
