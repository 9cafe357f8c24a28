"""Model performance: what the DAGs of performance and feedback found by labels."""

from __future__ import annotations

from typing import Final

from monitoring.grafana.boards.question import Board, Named, Question, Sql, View, above, board_link, prom, sql

_OF_CONTRACT: Final = "contract IN (${contract:sqlstring})"
# Replays are verified by another job, of all versions together.
_FIGURES: Final = (
    f"FROM performance_metrics WHERE {_OF_CONTRACT} AND $__timeFilter(measured_at) AND model_version <> 'all'"
)
_FEEDBACK: Final = f"FROM feedback_metrics WHERE {_OF_CONTRACT} AND $__timeFilter(measured_at)"
_PASSED: Final = (Named("true", "passed", "green"), Named("false", "failed", "red"))


def _interval(metric: str) -> tuple[Sql, ...]:
    """A figure over time, with its 95 % interval."""
    return sql(f"""
        SELECT measured_at AS time, value AS {metric}, low, high {_FIGURES}
            AND part = '' AND metric = '{metric}' ORDER BY 1
    """)


def _over_time(*metrics: str) -> tuple[Sql, ...]:
    names = ", ".join(f"'{one}'" for one in metrics)
    return sql(f"""
        SELECT measured_at AS time, metric, value {_FIGURES} AND part = '' AND metric IN ({names}) ORDER BY 1
    """)


def _feedback(metrics: str, series: str) -> tuple[Sql, ...]:
    """Figures of 03_feedback_collection over time."""
    return sql(f"""
        SELECT measured_at AS time, {series} AS metric, value {_FEEDBACK}
            AND metric IN ({metrics}) AND value IS NOT NULL ORDER BY 1
    """)


def _latest(columns: str, metrics: str) -> tuple[Sql, ...]:
    """Figures of the parts of the latest run."""
    return sql(f"""
        SELECT {columns} {_FIGURES} AND part <> '' AND metric IN ({metrics}) AND run_id = (
            SELECT run_id {_FIGURES} ORDER BY measured_at DESC LIMIT 1)
        ORDER BY part, metric
    """)


PERFORMANCE: Final = Board(
    "performance",
    "Fraud detection – model performance",
    "Does the champion find the frauds, whom does it disturb, and what does that cost?",
    (
        Question(
            "Latest figures",
            "How good is the champion, by labels that are mature?",
            prom(
                'max by (metric) (fraud_performance_value{metric=~"recall|precision|f1|fpr"})', "{{metric}}"
            ),
            unit="percentunit",
            size=(12, 4),
            missing="no mature labels",
        ),
        Question(
            "Age of the measurement",
            "Is performance watched?",
            prom("time() - max by (contract) (fraud_performance_measured_timestamp_seconds)", "{{contract}}"),
            unit="s",
            levels=above(7200, 10800),
            runbooks=("PerformanceNotMeasured",),
            size=(4, 4),
            missing="never measured",
        ),
        Question(
            "Labels judged",
            "Do the figures rest on enough? Fewer than 1,000 decide nothing.",
            sql(f"SELECT labels {_FIGURES} ORDER BY measured_at DESC LIMIT 1"),
            size=(4, 4),
            missing="none",
        ),
        Question(
            "Versions by gate",
            "How many models were good enough to decide?",
            prom("fraud_model_versions", "{{gate}}"),
            size=(4, 4),
        ),
        Question(
            "Replays that differ",
            "Does a stored decision get the identical score again, from its recorded model and features?",
            prom('max by (contract) (fraud_performance_value{metric="replay_mismatches"})', "{{contract}}"),
            levels=above(0.5, 1),
            runbooks=("ReplayDiffers",),
            size=(4, 4),
            missing="never verified",
        ),
        Question(
            "Recall",
            "Which share of the frauds does it find? With the 95 % interval.",
            _interval("recall"),
            View.LINES,
            unit="percentunit",
            links=(board_link("drift", "Drift"),),
        ),
        Question(
            "Precision",
            "Which share of those it flags are frauds? With the 95 % interval.",
            _interval("precision"),
            View.LINES,
            unit="percentunit",
            links=(board_link("drift", "Drift"),),
        ),
        Question(
            "False positive rate",
            "Which share of legitimate customers does it disturb? With the 95 % interval.",
            _interval("fpr"),
            View.LINES,
            unit="percentunit",
        ),
        Question(
            "In money",
            "Which share of the defrauded amounts does it find, and miss?",
            _over_time("recall_amount", "fnr_amount", "precision_amount"),
            View.LINES,
            unit="percentunit",
        ),
        Question(
            "By band of amounts",
            "Does it fail on small or on large payments? The latest run.",
            _latest(
                'part AS amount, metric, value, low, high, rows AS "rows", model_version AS version,'
                " '06_model_performance_tracking' AS dag, run_id AS run",
                "'recall', 'precision', 'fpr'",
            ),
            View.TABLE,
            unit="percentunit",
            size=(12, 8),
        ),
        Question(
            "Frauds among what was decided",
            "How many frauds are approved, and is a review worth its time? The latest run.",
            _latest(
                'part AS decision, value AS fraud_rate, low, high, rows AS "rows", model_version AS version,'
                " '06_model_performance_tracking' AS dag, run_id AS run",
                "'fraud_rate'",
            ),
            View.TABLE,
            unit="percentunit",
            size=(12, 8),
        ),
        Question(
            "Decisions and truth",
            "How many frauds were found and missed, how many customers disturbed?",
            _over_time("tp", "fp", "fn"),
            View.LINES,
        ),
        Question(
            "Recall on all traffic",
            "Which share of all frauds does it find, also of those nobody reports? Estimated from the random"
            " sample of approved transactions, with its interval.",
            sql(f"""
                SELECT measured_at AS time, value AS recall_all_traffic, low, high {_FEEDBACK}
                    AND metric = 'recall_all_traffic' ORDER BY 1
            """),
            View.LINES,
            unit="percentunit",
        ),
        Question(
            "Labels known",
            "About which share of the decisions has somebody reported?",
            _feedback("'label_coverage'", "CASE part WHEN '' THEN 'all' ELSE part END"),
            View.LINES,
            unit="percentunit",
        ),
        Question(
            "Do people agree, and is a review worth its time?",
            "How often do two people say the same, and which share of the reviewed cases are frauds?",
            _feedback("'agreement', 'review_precision'", "concat_ws(' ', metric, nullif(part, ''))"),
            View.LINES,
            unit="percentunit",
        ),
        Question(
            "Hours to a label and open disputes",
            "How long does a case wait for its label, and how many labels contradict each other?",
            _feedback("'hours_to_label', 'disputes_open'", "concat_ws(' ', metric, nullif(part, ''))"),
            View.LINES,
        ),
        Question(
            "Does a score mean what it says?",
            "Is the mean score the share of frauds?",
            _over_time("mean_score", "fraud_rate", "calibration_error"),
            View.LINES,
            unit="percentunit",
        ),
        Question(
            "Ranking",
            "Do frauds get the higher scores, whatever the threshold?",
            _over_time("average_precision", "roc_auc", "brier"),
            View.LINES,
        ),
        Question(
            "Recall, estimated without labels",
            "What do the scores themselves say, weeks before labels are mature? The truth follows.",
            sql(f"""
                SELECT window_to AS time, CASE WHEN trusted THEN value END AS estimate,
                    CASE WHEN NOT trusted THEN value END AS "not confirmed by labels", low, high, truth
                FROM performance_estimates
                WHERE metric = 'recall' AND {_OF_CONTRACT} AND $__timeFilter(made_at) ORDER BY 1
            """),
            View.LINES,
            unit="percentunit",
            links=(board_link("drift", "Drift"),),
        ),
        Question(
            "Latency by engine",
            "How long does the model itself take? onnx: single requests, xgboost: batches.",
            sql(f"""
                SELECT measured_at AS time,
                    concat_ws(' ', part, replace(metric, 'latency_ms_', '')) AS metric, value
                {_FIGURES} AND metric LIKE 'latency%' ORDER BY 1
            """),
            View.LINES,
            unit="ms",
        ),
        Question(
            "Predictions a second",
            "How much was decided, on average and in the busiest minute?",
            _over_time("throughput", "throughput_peak_minute"),
            View.LINES,
            unit="ops",
        ),
        Question(
            "Versions",
            "Which models were made, by which run, and did they pass their gate?",
            sql("""
                SELECT created_at AS time, name AS model, version, gate_passed AS gate, gate_policy AS policy,
                    (metrics ->> 'recall')::float8 AS recall, (metrics ->> 'precision')::float8 AS precision,
                    mlflow_run_id AS mlflow
                FROM model_versions ORDER BY 1 DESC LIMIT 100
            """),
            View.TABLE,
            names=_PASSED,
            size=(14, 8),
        ),
        Question(
            "Who decided when",
            "Which version became champion or challenger, when, and by whom?",
            sql("""
                SELECT recorded_at AS time, name AS model, alias, version, actor FROM model_alias_history
                ORDER BY 1 DESC LIMIT 100
            """),
            View.TABLE,
            size=(10, 8),
        ),
    ),
    since="now-7d",
    refresh="1m",
    contracts_of="performance_metrics",
)
