"""Every metric, declared once. The `name` label is the input's, filter's or output's name.

What can be derived from the pipeline's state at any time (backlog, spool, in flight) is not counted here but collected
on a scrape, through a callback.
"""

from collections.abc import Callable, Iterable, Iterator

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

LATENCY_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800)
TARGETS_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
CONTAINER = ("name", "namespace", "pod", "container", "reason")

GAUGES = {
    "shipper_input_files": ("Open generations of log files.", ("name",)),
    "shipper_input_paused": ("1 while no output has room, so that nothing is read.", ("name",)),
    "shipper_backlog_bytes": ("Bytes on disk that this output has not confirmed (spooled ones apart).", ("name",)),
    "shipper_backlog_seconds": ("Age of the oldest record that this output has not confirmed.", ("name",)),
    "shipper_output_batch_limit_bytes": ("Size at which a batch is sent now, as the server can bear it.", ("name",)),
    "shipper_output_concurrency_limit": ("Requests that may be in flight now, as the server can bear it.", ("name",)),
    "shipper_spool_bytes": ("Compressed bytes that wait on this node's disk for their upload.", ("name",)),
    "shipper_spool_seconds": ("Age of the oldest spooled object.", ("name",)),
    "shipper_in_flight_bytes": ("Bytes of batches in memory, over all outputs.", ()),
    "shipper_memory_limit_bytes": ("The configured memory_limit.", ()),
    "shipper_kubernetes_pods": ("Pods of this node in the metadata cache.", ()),
    "shipper_kubernetes_watch_age_seconds": ("Time since the API server last said anything on the watch.", ()),
    "shipper_build_info": ("Version, and which encoder runs.", ("version", "native")),
    "shipper_config_hash": ("Hash of the configuration in force, as a number.", ()),
    "shipper_config_refused": ("1 while the last reload was refused: a restart would not start.", ()),
}


class Sample(msgspec.Struct, frozen=True):
    metric: str  # one of GAUGES
    labels: tuple[str, ...]
    value: float


class _Gauges(Collector):
    def __init__(self, read: Callable[[], Iterable[Sample]]) -> None:
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        families = {name: GaugeMetricFamily(name, text, labels=labels) for name, (text, labels) in GAUGES.items()}
        for sample in self._read():
            families[sample.metric].add_metric(sample.labels, sample.value)
        yield from (family for family in families.values() if family.samples)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        return iter(())


class Metrics:
    """One set per daemon, with a registry of its own, so that tests can run many side by side."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # else each counter has a second series, with the time of its birth
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        self.input_bytes = counter("shipper_input_bytes_total", "Bytes read for the first time.", "name")
        self.input_records = counter("shipper_input_records_total", "Records read for the first time.", "name")
        self.input_errors = counter(
            "shipper_input_errors_total", "Files that could not be read, by reason; tried again.", "name", "reason"
        )
        self.input_oddities = counter(
            "shipper_input_oddities_total",
            "Records that needed repair: truncated, parse_error, invalid_utf8, joined.",
            "name",
            "kind",
        )
        self.filter_dropped_records = counter(
            "shipper_filter_dropped_records_total", "Records dropped on purpose.", "name", "reason"
        )
        self.output_records = counter("shipper_output_records_total", "Records by fate, each once.", "name", "fate")
        self.output_bytes = counter(
            "shipper_output_bytes_total", "Bytes of documents by fate, before compression.", "name", "fate"
        )
        self.output_failure_store = counter(
            "shipper_output_failure_store_total", "Records delivered, but into the failure store.", "name"
        )
        self.output_requests = counter(
            "shipper_output_requests_total", "Requests by status: a code, `timeout` or `error`.", "name", "status"
        )
        self.output_retries = counter(
            "shipper_output_retries_total", "Batches sent again, by reason.", "name", "reason"
        )
        self.output_ambiguous_records = counter(
            "shipper_output_ambiguous_records_total",
            "Records of unanswered requests, before their repeat: found, missing, or unverified (they may double).",
            "name",
            "outcome",
        )
        self.output_request_targets = Histogram(
            "shipper_output_request_targets",
            "Different indices that a request writes to.",
            ("name",),
            buckets=TARGETS_BUCKETS,
            registry=registry,
        )
        self.output_latency = Histogram(
            "shipper_output_latency_seconds",
            "From a record's read to its ack.",
            ("name",),
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.output_errors = counter("shipper_output_errors_total", "Unexpected errors in an output: bugs.", "name")
        self.lost_bytes = counter("shipper_lost_bytes_total", "Lost bytes: 0, or a person is needed.", *CONTAINER)
        self.lost_gaps = counter("shipper_lost_gaps_total", "Losses of a size that nobody knows.", *CONTAINER)
        self.task_errors = counter(
            "shipper_task_errors_total", "Background tasks that failed and were restarted.", "task"
        )
        self.http_refused = counter(
            "shipper_http_refused_total",
            "Requests that could not be read, or had no right to what they ask for.",
            "reason",
        )
        self.config_reloads = counter(
            "shipper_config_reloads_total", "Attempts at another configuration: done, unchanged, refused.", "result"
        )
        self.kubernetes_requests = counter(
            "shipper_kubernetes_requests_total", "Requests to the Kubernetes API.", "kind", "status"
        )

    def add_gauges(self, read: Callable[[], Iterable[Sample]]) -> None:
        """`read` is called on every scrape; it must be quick, and run on the event loop's thread."""
        self.registry.register(_Gauges(read))
