"""Metrics: the names that dashboards rely on, in a form that Prometheus takes."""

import subprocess
from pathlib import Path

import pytest
from prometheus_client import Counter, Histogram, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from shipper.metrics import GAUGES, LATENCY_BUCKETS_S, Metrics, Sample

PROMISED = {
    "shipper_input_bytes_total": ("name",),
    "shipper_input_records_total": ("name",),
    "shipper_input_files": ("name",),
    "shipper_input_paused": ("name",),
    "shipper_backlog_bytes": ("name",),
    "shipper_backlog_seconds": ("name",),
    "shipper_spool_bytes": ("name",),
    "shipper_spool_seconds": ("name",),
    "shipper_filter_dropped_records_total": ("name", "reason"),
    "shipper_output_records_total": ("name", "fate"),
    "shipper_output_bytes_total": ("name", "fate"),
    "shipper_output_failure_store_total": ("name",),
    "shipper_output_requests_total": ("name", "status"),
    "shipper_output_retries_total": ("name", "reason"),
    "shipper_output_latency_seconds": ("name",),
    "shipper_lost_bytes_total": ("name", "namespace", "pod", "container", "reason"),
    "shipper_lost_gaps_total": ("name", "namespace", "pod", "container", "reason"),
    "shipper_in_flight_bytes": (),
    "shipper_memory_limit_bytes": (),
    "shipper_kubernetes_pods": (),
    "shipper_kubernetes_watch_age_seconds": (),
    "shipper_build_info": ("version", "native"),
    "shipper_config_hash": (),
    "shipper_config_refused": (),
}


def counted(metrics: Metrics) -> dict[str, MetricWrapperBase]:
    """What is counted, not read on a scrape, by name."""
    declared = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    return {one._name + ("_total" if isinstance(one, Counter) else ""): one for one in declared}


def filled() -> Metrics:
    """With a value for every metric, and labels that need escaping."""
    metrics = Metrics()
    for metric in counted(metrics).values():
        child = metric.labels(*[f'odd "{name}"\\\n' for name in metric._labelnames])
        child.observe(0.2) if isinstance(child, Histogram) else child.inc()  # type: ignore[attr-defined]
    samples = [Sample(name, tuple(f"a {label}" for label in labels), 1) for name, (_, labels) in GAUGES.items()]
    metrics.add_gauges(lambda: samples)
    return metrics


def test_every_promised_metric_is_declared_with_its_labels() -> None:
    declared = {name: tuple(metric._labelnames) for name, metric in counted(Metrics()).items()}
    declared |= {name: labels for name, (_, labels) in GAUGES.items()}
    assert {name: declared.get(name) for name in PROMISED} == PROMISED


def test_every_metric_has_a_help_text_and_is_exposed_once() -> None:
    text = generate_latest(filled().registry).decode()
    helped = [line.split()[2] for line in text.splitlines() if line.startswith("# HELP")]
    assert len(helped) == len(set(helped))
    assert set(PROMISED) <= set(helped)
    assert not [line for line in text.splitlines() if line.startswith("# HELP") and len(line.split()) < 5]
    assert "_created" not in text


def test_filled_metrics_pass_promtool(prometheus_tools: Path) -> None:
    text = generate_latest(filled().registry)
    checked = subprocess.run([prometheus_tools, "check", "metrics"], input=text, capture_output=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_gauges_are_what_the_callback_says_now() -> None:
    metrics, values = Metrics(), {"es": 5.0}
    metrics.add_gauges(lambda: [Sample("shipper_backlog_bytes", (name,), value) for name, value in values.items()])
    assert metrics.registry.get_sample_value("shipper_backlog_bytes", {"name": "es"}) == 5
    values["es"] = 7.0
    assert metrics.registry.get_sample_value("shipper_backlog_bytes", {"name": "es"}) == 7
    values.clear()
    assert metrics.registry.get_sample_value("shipper_backlog_bytes", {"name": "es"}) is None


def test_gauge_that_was_not_declared_is_a_bug() -> None:
    metrics = Metrics()
    metrics.add_gauges(lambda: [Sample("shipper_other", (), 1)])
    with pytest.raises(KeyError):
        generate_latest(metrics.registry)


def test_two_daemons_in_one_process_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.input_bytes.labels("pods").inc(3)
    assert second.registry.get_sample_value("shipper_input_bytes_total", {"name": "pods"}) is None


def test_latency_buckets_tell_a_tenth_of_a_second_from_half_an_hour() -> None:
    assert {0.1, 0.15, 0.2, 1800} <= set(LATENCY_BUCKETS_S)
    assert list(LATENCY_BUCKETS_S) == sorted(LATENCY_BUCKETS_S)
