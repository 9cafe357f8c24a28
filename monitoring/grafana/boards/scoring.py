"""The scoring API and the gateway in front of it."""

from __future__ import annotations

from typing import Final

from monitoring.grafana.boards.question import (
    ERROR_SHARE,
    MODEL_SERVED,
    YES_NO,
    Board,
    Question,
    View,
    above,
    below,
    prom,
    quantiles,
)

SCORING: Final = Board(
    "scoring",
    "Fraud detection – scoring API",
    "Does the API answer, correctly and fast enough?",
    (
        MODEL_SERVED,
        Question(
            "Errors",
            "Which share of its answers in five minutes were server errors?",
            prom(ERROR_SHARE),
            unit="percentunit",
            levels=above(0.001, 0.01),
            runbooks=("ApiErrors",),
        ),
        Question(
            "p95 of /predict",
            "Is one prediction fast enough for a payment that waits?",
            prom(
                "histogram_quantile(0.95, sum by (le)"
                ' (rate(fraud_api_request_seconds_bucket{route="/predict"}[5m])))'
            ),
            unit="s",
            levels=above(0.1, 0.2),
            runbooks=("ApiSlow",),
            missing="no requests",
        ),
        Question(
            "Dependencies",
            "Does the API reach what it needs?",
            prom("min by (part) (fraud_api_dependency_up)", "{{part}}"),
            names=YES_NO,
            levels=below(1),
            runbooks=("DependencyDown",),
            size=(8, 4),
        ),
        Question(
            "Waiting to be stored",
            "Does Postgres keep up?",
            prom("sum(fraud_api_writer_waiting)"),
            levels=above(100, 1000),
        ),
        Question(
            "Transactions scored",
            "How much is there to do, from the stream (/predict/batch) and from single requests?",
            prom("sum by (route) (rate(fraud_api_scored_total[$__rate_interval]))", "{{route}}"),
            View.LINES,
            unit="ops",
        ),
        Question(
            "Share blocked or reviewed",
            "Has something changed? A jump is drift, an attack or a new model.",
            prom(
                'sum by (decision) (rate(fraud_api_scored_total{decision!="approve"}[$__rate_interval]))'
                " / on () group_left () sum(rate(fraud_api_scored_total[$__rate_interval]))",
                "{{decision}}",
            ),
            View.LINES,
            unit="percentunit",
        ),
        Question(
            "Time of /predict",
            "How long does a payment wait?",
            quantiles("fraud_api_request_seconds", where='{route="/predict"}'),
            View.LINES,
            unit="s",
            levels=above(0.1, 0.2),
            runbooks=("ApiSlow",),
        ),
        Question(
            "Time of /predict/batch",
            "How long does the stream wait for a batch?",
            quantiles("fraud_api_request_seconds", where='{route="/predict/batch"}'),
            View.LINES,
            unit="s",
        ),
        Question(
            "Answers",
            "What is asked, and how is it answered?",
            prom(
                "sum by (route, status) (rate(fraud_api_requests_total[$__rate_interval]))",
                "{{route}} {{status}}",
            ),
            View.LINES,
            unit="reqps",
            runbooks=("ApiErrors",),
        ),
        Question(
            "Already decided",
            "How many transactions a second were sent again, and got the decision that was stored?",
            prom("sum(rate(fraud_api_replayed_total[$__rate_interval]))"),
            View.LINES,
            unit="ops",
        ),
        Question(
            "Rows a database transaction",
            "Do requests share their commits?",
            prom(
                "sum(rate(fraud_api_writer_rows_sum[$__rate_interval]))"
                " / sum(rate(fraud_api_writer_rows_count[$__rate_interval]))"
            ),
            View.LINES,
        ),
        Question(
            "Versions refused in an hour",
            "Why was a model not taken over?",
            prom("sum by (reason) (increase(fraud_api_model_refused_total[1h]))", "{{reason}}"),
            View.BARS,
            runbooks=("ModelRefused",),
        ),
        Question(
            "Memory",
            "Does a process grow?",
            prom('process_resident_memory_bytes{job=~"api|follower"}', "{{job}} {{instance}}"),
            View.LINES,
            unit="bytes",
        ),
        Question(
            "Processor time",
            "How many cores are used?",
            prom(
                'rate(process_cpu_seconds_total{job=~"api|follower"}[$__rate_interval])',
                "{{job}} {{instance}}",
            ),
            View.LINES,
        ),
        Question(
            "Files and connections",
            "Will the process run out of them?",
            prom(
                'process_open_fds{job=~"api|follower"} / process_max_fds{job=~"api|follower"}',
                "{{job}} {{instance}}",
            ),
            View.LINES,
            unit="percentunit",
            levels=above(0.5, 0.8),
        ),
        Question(
            "Gateway: answers",
            "What do clients get, including what never reached the API?",
            prom("sum by (code) (rate(traefik_service_requests_total[$__rate_interval]))", "{{code}}"),
            View.LINES,
            unit="reqps",
        ),
        Question(
            "Gateway: time",
            "How long do clients wait?",
            quantiles("traefik_service_request_duration_seconds"),
            View.LINES,
            unit="s",
        ),
        Question(
            "Gateway: open connections",
            "Who holds connections open?",
            prom("sum by (entrypoint) (traefik_open_connections)", "{{entrypoint}}"),
            View.LINES,
        ),
    ),
)
