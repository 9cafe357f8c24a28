"""The real-time pipeline, from the topic to the stored decision."""

from __future__ import annotations

from typing import Final

from monitoring.grafana.boards.question import (
    NOT_YET_ANNOUNCED,
    YES_NO,
    Board,
    Promql,
    Question,
    View,
    above,
    below,
    prom,
    quantiles,
)

PIPELINE: Final = Board(
    "pipeline",
    "Fraud detection – real-time pipeline",
    "Is every transaction decided, once, and in time?",
    (
        Question(
            "Transactions behind",
            "How many records wait, whoever reads them?",
            prom("max by (topic) (fraud_kafka_lag_records)", "{{topic}}"),
            levels=above(None, 1000),
            runbooks=("KafkaLag",),
        ),
        Question(
            "In the consumer group",
            "Have the followers joined?",
            prom("min by (topic) (fraud_stream_joined)", "{{topic}}"),
            names=YES_NO,
            runbooks=("StreamNotJoined",),
            missing="no follower runs",
        ),
        Question(
            "Partitions held",
            "Does every partition have a reader?",
            prom("sum by (topic) (fraud_stream_partitions)", "{{topic}}"),
            levels=below(1),
            runbooks=("StreamStalled",),
            missing="no follower runs",
        ),
        NOT_YET_ANNOUNCED,
        Question(
            "Dead letters stored",
            "How many records could not be processed and have not been mended?",
            prom("fraud_dead_letters_stored"),
            runbooks=("DeadLetters",),
        ),
        Question(
            "Starts of followers in an hour",
            "Does one fail over and over?",
            prom('sum(changes(process_start_time_seconds{job="follower"}[1h]))'),
            levels=above(1, 3),
            runbooks=("FollowerRestarts",),
            missing="no follower runs",
        ),
        Question(
            "Records committed",
            "How many records a second are stored, seen again, or cannot be processed?",
            prom(
                "sum by (topic, outcome) (rate(fraud_stream_records_total[$__rate_interval]))",
                "{{topic}} {{outcome}}",
            ),
            View.LINES,
            unit="ops",
        ),
        Question(
            "Decisions of batches",
            "What does the stream decide, whether a follower or the DAG reads it?",
            prom(
                'sum by (decision) (rate(fraud_api_scored_total{route="/predict/batch"}[$__rate_interval]))',
                "{{decision}}",
            ),
            View.LINES,
            unit="ops",
        ),
        Question(
            "Produced to committed",
            "How long does a payment wait for its decision? Of each batch the oldest record.",
            quantiles("fraud_stream_latency_seconds", "topic"),
            View.LINES,
            unit="s",
        ),
        Question(
            "Time of a batch",
            "How long does a follower take from reading a batch to its commit?",
            quantiles("fraud_stream_batch_seconds", "topic"),
            View.LINES,
            unit="s",
        ),
        Question(
            "Lag by partition",
            "Which partition is behind?",
            prom(
                "max by (topic, partition) (fraud_stream_lag_records)",
                "{{topic}}/{{partition}}",
            ),
            View.LINES,
            levels=above(None, 1000),
            runbooks=("StreamBehind", "StreamStalled"),
        ),
        Question(
            "Progress by partition",
            "Which partition does nobody read? Records a second by which its position moves.",
            prom(
                "max by (topic, partition) (deriv(fraud_stream_position[5m]))",
                "{{topic}}/{{partition}}",
            ),
            View.LINES,
            unit="ops",
            runbooks=("StreamStalled",),
        ),
        Question(
            "Records a batch",
            "Are batches large enough to be cheap?",
            prom(
                "sum by (topic) (rate(fraud_stream_batch_rows_sum[$__rate_interval]))"
                " / sum by (topic) (rate(fraud_stream_batch_rows_count[$__rate_interval]))",
                "{{topic}}",
            ),
            View.LINES,
        ),
        Question(
            "Pauses",
            "Can deciding and storing keep up with reading? How often reading was paused in an hour.",
            prom("sum by (topic) (increase(fraud_stream_backpressure_total[1h]))", "{{topic}}"),
            View.LINES,
        ),
        Question(
            "Dead letters an hour",
            "What cannot be processed, and why?",
            prom(
                "sum by (topic, reason) (increase(fraud_stream_dead_letters_total[1h]))",
                "{{topic}} {{reason}}",
            ),
            View.BARS,
            runbooks=("DeadLetters",),
        ),
        Question(
            "Failures an hour",
            "What made a follower read everything again, or lose its partitions?",
            (
                Promql(
                    "sum by (topic, cause) (increase(fraud_stream_retries_total[1h]))", "{{topic}} {{cause}}"
                ),
                Promql(
                    "sum by (topic) (increase(fraud_stream_stalled_holders_ended_total[1h]))",
                    "{{topic}} holder stood still",
                ),
            ),
            View.BARS,
            runbooks=("StalledHolder",),
        ),
        Question(
            "Alerts published",
            "How many blocked and reviewed transactions a second are announced?",
            prom("sum(rate(fraud_stream_alerts_published_total[$__rate_interval]))"),
            View.LINES,
            unit="ops",
        ),
        Question(
            "Labels that time has changed",
            "How many transactions a second count as legitimate because nobody complained?",
            prom("sum(rate(fraud_stream_classes_refreshed_total[$__rate_interval]))"),
            View.LINES,
            unit="ops",
        ),
    ),
)
