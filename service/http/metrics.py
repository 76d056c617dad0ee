"""Prometheus metrics, read from the catalogue when asked: numbers only, no patient data."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from mirv.service.catalogue import Catalogue, DeliveryState, RunState
from mirv.service.objects.spool import Spool
from mirv.service.runtime.state import Following, NodeState


class _NodeCollector(Collector):
    def __init__(self, catalogue: Catalogue, spool: Spool, state: NodeState) -> None:
        self._catalogue = catalogue
        self._spool = spool
        self._state = state

    def collect(self) -> Iterator[Metric]:
        catalogue = self._catalogue
        yield _by_state("mirv_runs", "Runs by state", catalogue.runs.counts())
        yield _by_state("mirv_deliveries", "Deliveries by state", catalogue.deliveries.counts())
        yield GaugeMetricFamily(
            "mirv_waiting_objects",
            "Objects that wait for another object",
            value=len(catalogue.studies.waiting()),
        )
        yield GaugeMetricFamily(
            "mirv_quarantined_objects",
            "Objects put aside with a reason",
            value=catalogue.quarantine.count(),
        )
        yield GaugeMetricFamily(
            "mirv_spool_free_bytes", "Free bytes where the spool is", value=self._spool.free_bytes()
        )
        yield from self._progress()
        yield from self._flow()

    def _progress(self) -> Iterator[Metric]:
        done = GaugeMetricFamily(
            "mirv_run_lesions_done",
            "Lesions extracted of a run at work, counted once a profile",
            labels=["run"],
        )
        total = GaugeMetricFamily("mirv_run_lesions", "Lesions of a run at work", labels=["run"])
        for run in self._catalogue.runs.all(states=(RunState.RUNNING,), limit=100):
            if run.lesions_total is not None:
                done.add_metric([run.run_id[:12]], run.lesions_done or 0)
                total.add_metric([run.run_id[:12]], run.lesions_total)
        yield done
        yield total

    def _flow(self) -> Iterator[Metric]:
        state = self._state
        yield GaugeMetricFamily(
            "mirv_backlog",
            "Runs queued or at work, and studies that have not settled",
            value=state.backlog,
        )
        yield GaugeMetricFamily(
            "mirv_fetching_paused",
            "1 while nothing is fetched: backlog or disk",
            value=bool(state.paused),
        )
        for name, text, number in _FOLLOWING:
            family = GaugeMetricFamily(name, text, labels=["source"])
            for source, following in sorted(state.following.items()):
                family.add_metric([source], number(following))
            yield family


_FOLLOWING: tuple[tuple[str, str, Callable[[Following], float]], ...] = (
    ("mirv_follow_position", "Last change of a followed Orthanc dealt with", lambda f: f.position),
    ("mirv_follow_last", "Last change a followed Orthanc has", lambda f: f.last),
    (
        "mirv_follow_contact_seconds",
        "When a followed Orthanc last answered, seconds since 1970",
        lambda f: f.contact_at,
    ),
    ("mirv_follow_objects", "Objects fetched from a followed Orthanc", lambda f: f.objects),
    (
        "mirv_follow_postponed",
        "Changes of a followed Orthanc of which something could not be had yet",
        lambda f: f.postponed,
    ),
)


def _by_state(
    name: str, text: str, counts: dict[RunState, int] | dict[DeliveryState, int]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=["state"])
    for state, count in sorted(counts.items()):
        family.add_metric([state], count)
    return family


def render_metrics(catalogue: Catalogue, spool: Spool, state: NodeState) -> tuple[bytes, str]:
    """The metrics and their media type.

    Returns
    -------
    content : bytes
        In the text format of Prometheus.
    media_type : str
    """
    registry = CollectorRegistry()
    registry.register(_NodeCollector(catalogue, spool, state))
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4
