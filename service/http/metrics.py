"""Prometheus metrics, read from the catalogue when asked: numbers only, no patient data."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from service.spool import Spool
from service.store import Store


class _Catalogue(Collector):
    def __init__(self, store: Store, spool: Spool) -> None:
        self._store = store
        self._spool = spool

    def collect(self) -> Iterator[Metric]:
        store = self._store
        yield _by_state("mirv_runs", "Runs by state", store.runs.counts())
        yield _by_state("mirv_deliveries", "Deliveries by state", store.deliveries.counts())
        yield GaugeMetricFamily(
            "mirv_waiting_objects",
            "Objects that wait for another object",
            value=len(store.instances.waiting()),
        )
        yield GaugeMetricFamily(
            "mirv_quarantined_objects",
            "Objects put aside with a reason",
            value=len(store.instances.quarantined()),
        )
        yield GaugeMetricFamily(
            "mirv_spool_free_bytes", "Free bytes where the spool is", value=self._spool.free_bytes()
        )


def _by_state(name: str, text: str, counts: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=["state"])
    for state, count in sorted(counts.items()):
        family.add_metric([state], count)
    return family


def render_metrics(store: Store, spool: Spool) -> tuple[bytes, str]:
    """The metrics and their media type."""
    registry = CollectorRegistry()
    registry.register(_Catalogue(store, spool))
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4
