"""The Prometheus metrics of a follower."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from fraud_core.record_model import Reason
from fraud_streaming.consume.commit import Committed
from fraud_streaming.consume.processor import StreamReason

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LATENCIES: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0)
_ROWS: Final = (1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000)


class Metrics:
    """The metrics of one follower."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._add_partitions()
        self._add_records()
        self._add_batches()

    def _add_partitions(self) -> None:
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        self.lag = gauge(
            "fraud_stream_lag_records",
            "Records between the stored position and the end of the partition.",
            ("topic", "partition"),
        )
        self.position = gauge("fraud_stream_position", "The stored position.", ("topic", "partition"))
        self.joined = gauge(
            "fraud_stream_joined", "1 while the consumer group has answered the latest join.", ("topic",)
        )
        self.holders_ended = counter(
            "fraud_stream_stalled_holders_ended_total",
            "Other consumers that held partitions and stood still, and lost their locks.",
            ("topic",),
        )
        self.partitions = gauge("fraud_stream_partitions", "Partitions held.", ("topic",))

    def _add_records(self) -> None:
        counter = partial(Counter, registry=self.registry)
        self.records = counter(
            "fraud_stream_records_total", "Records committed, by what became of them.", ("topic", "outcome")
        )
        self.dead_letters = counter(
            "fraud_stream_dead_letters_total", "Records that could not be processed.", ("topic", "reason")
        )
        self.retries = counter(
            "fraud_stream_retries_total",
            "Times everything was read again after a failure.",
            ("topic", "cause"),
        )
        self.paused = counter(
            "fraud_stream_backpressure_total",
            "Times reading was paused because deciding or storing could not keep up.",
            ("topic",),
        )
        self.alerts = counter("fraud_stream_alerts_published_total", "Alerts published.")
        self.classes = counter(
            "fraud_stream_classes_refreshed_total", "Transactions judged because time has passed."
        )

    def _add_batches(self) -> None:
        histogram = partial(Histogram, registry=self.registry)
        self.batch_seconds = histogram(
            "fraud_stream_batch_seconds", "From reading a batch to its commit.", ("topic",), buckets=_SECONDS
        )
        self.batch_rows = histogram(
            "fraud_stream_batch_rows", "Records in a batch.", ("topic",), buckets=_ROWS
        )
        self.latency = histogram(
            "fraud_stream_latency_seconds",
            "From a record's timestamp to its commit; of each batch the oldest record.",
            ("topic",),
            buckets=_LATENCIES,
        )

    def lane(self, topic: str) -> LaneMetrics:
        """The metrics of one topic, initialised to zero."""
        return LaneMetrics(self, topic)


class LaneMetrics:
    """The metrics of one topic."""

    def __init__(self, metrics: Metrics, topic: str) -> None:
        self._metrics = metrics
        self._topic = topic
        self._stored = metrics.records.labels(topic, "stored")
        self._replayed = metrics.records.labels(topic, "replayed")
        self._dead = metrics.records.labels(topic, "dead_lettered")
        self._batch_seconds = metrics.batch_seconds.labels(topic)
        self._batch_rows = metrics.batch_rows.labels(topic)
        self._latency = metrics.latency.labels(topic)
        self.partitions = metrics.partitions.labels(topic)
        self.paused = metrics.paused.labels(topic)
        self.joined = metrics.joined.labels(topic)
        self.holders_ended = metrics.holders_ended.labels(topic)
        # A counter that first appears as 1 has not increased.
        for reason in (*Reason, *StreamReason):
            metrics.dead_letters.labels(topic, reason)

    def committed(self, done: Committed) -> None:
        if not done.chunk.records:
            return  # the chunk only moved positions
        self._stored.inc(done.outcome.stored)
        self._replayed.inc(done.outcome.replayed)
        self._dead.inc(len(done.dead_letters))
        for letter in done.dead_letters:
            self._metrics.dead_letters.labels(self._topic, str(letter.reason)).inc()
        self._batch_seconds.observe(done.seconds)
        self._batch_rows.observe(len(done.chunk.records))
        self._latency.observe(max(0.0, float(done.latencies_ms().max()) / 1000))

    def failed(self, error: BaseException) -> None:
        self._metrics.retries.labels(self._topic, type(error).__name__).inc()

    def set_positions(self, positions: Mapping[int, int], ends: Mapping[int, int]) -> None:
        """Set position and lag of each partition; without a fetched end a partition keeps its lag."""
        for partition, at in positions.items():
            self._metrics.position.labels(self._topic, str(partition)).set(at)
        for partition, end in ends.items():
            lag = max(0, end - positions[partition])
            self._metrics.lag.labels(self._topic, str(partition)).set(lag)
