"""Drift: what 02_drift_monitoring measured against the champion's reference profile."""

from __future__ import annotations

from typing import Final

from monitoring.grafana.boards.question import (
    DRIFT_SEVERITIES,
    SEVERITIES,
    Board,
    Level,
    Question,
    View,
    above,
    prom,
    sql,
)

_OF_CONTRACT: Final = "contract IN (${contract:sqlstring})"
# The bounds of `drift.inputs` and `thresholds.data_drift` in config.yaml; a test compares them.
PSI_LEVELS: Final = (
    Level(None, "green"),
    Level(0.1, "yellow"),
    Level(0.3, "orange"),
    Level(0.5, "red"),
)

DRIFT: Final = Board(
    "drift",
    "Fraud detection – drift",
    "Does the champion still see what it was trained on, and still decide as well?",
    (
        Question(
            "Latest verdict",
            "Has the data moved, the share of frauds, or what makes a fraud?",
            prom("max by (kind) (fraud_drift_severity)", "{{kind}}"),
            names=DRIFT_SEVERITIES,
            runbooks=("DriftHigh",),
            size=(12, 4),
            missing="never measured",
        ),
        Question(
            "Age of the measurement",
            "Is drift watched?",
            prom("time() - max by (contract) (fraud_drift_checked_timestamp_seconds)", "{{contract}}"),
            unit="s",
            levels=above(7200, 10800),
            runbooks=("DriftNotMeasured",),
            size=(6, 4),
            missing="never measured",
        ),
        Question(
            "Orders to retrain",
            "Does one wait to be taken up?",
            prom("fraud_retraining_triggers_open"),
            levels=above(1, 5),
            size=(6, 4),
        ),
        Question(
            "PSI by feature and time",
            "Which features have moved, how far, and since when? The larger of last hour and last day.",
            sql(f"""
                SELECT detected_at AS time, feature AS metric, max(value) AS value FROM drift_metrics
                WHERE metric = 'psi' AND value IS NOT NULL AND {_OF_CONTRACT} AND $__timeFilter(detected_at)
                GROUP BY 1, 2 ORDER BY 1, 2
            """),
            View.GRID,
            levels=PSI_LEVELS,
            runbooks=("DriftHigh",),
            size=(24, 18),
        ),
        Question(
            "Severity by kind and time",
            "What has drifted: the inputs, the rates, or the performance?",
            sql(f"""
                SELECT detected_at AS time, kind AS metric,
                    max(array_position(ARRAY['insufficient', 'none', 'medium', 'high', 'critical'],
                        severity::text)) - 2 AS value
                FROM drift_metrics WHERE {_OF_CONTRACT} AND $__timeFilter(detected_at)
                GROUP BY 1, 2 ORDER BY 1, 2
            """),
            View.GRID,
            names=DRIFT_SEVERITIES,
            size=(24, 6),
        ),
        Question(
            "Verdicts",
            "What did each run conclude, and what did people get to read?",
            sql(f"""
                SELECT detected_at AS time, severity, details ->> 'title' AS title,
                    details ->> 'text' AS message, model_version AS champion, dag_id AS dag, run_id AS run
                FROM drift_metrics WHERE kind = 'verdict' AND {_OF_CONTRACT} AND $__timeFilter(detected_at)
                ORDER BY 1 DESC LIMIT 200
            """),
            View.TABLE,
            names=SEVERITIES,
        ),
        Question(
            "What the latest run found of each feature",
            "How has a feature moved: in its distribution, in its shape, or in what is missing?",
            sql(f"""
                SELECT feature, window_name AS "window", metric AS measure, value, threshold, severity,
                    details ->> 'moved' AS moved, rows AS "rows", dag_id AS dag, run_id AS run
                FROM drift_metrics WHERE feature IS NOT NULL AND {_OF_CONTRACT} AND detected_at = (
                    SELECT max(detected_at) FROM drift_metrics
                    WHERE feature IS NOT NULL AND {_OF_CONTRACT} AND $__timeFilter(detected_at))
                ORDER BY value DESC NULLS LAST LIMIT 300
            """),
            View.TABLE,
            names=SEVERITIES,
        ),
        Question(
            "Share of features that have drifted",
            "Is it one field, or everything?",
            sql(f"""
                SELECT detected_at AS time, window_name AS metric, value FROM drift_metrics
                WHERE metric = 'drifted_share' AND {_OF_CONTRACT} AND $__timeFilter(detected_at) ORDER BY 1
            """),
            View.LINES,
            unit="percentunit",
            levels=above(None, 0.3),
        ),
        Question(
            "Fraud rate and predicted rate",
            "Are there more frauds, or does the model only say so? Beside the reference's rate.",
            sql(f"""
                SELECT detected_at AS time, concat_ws(' ', metric, window_name) AS metric, value,
                    (details ->> 'reference')::float8 AS reference
                FROM drift_metrics WHERE metric IN ('fraud_rate', 'predicted_rate') AND value IS NOT NULL
                    AND {_OF_CONTRACT} AND $__timeFilter(detected_at) ORDER BY 1
            """),
            View.LINES,
            unit="percentunit",
        ),
        Question(
            "Performance on mature labels",
            "Has what makes a fraud changed? Recall, FPR and precision, each beside its bound.",
            sql(f"""
                SELECT detected_at AS time, metric, value, threshold AS bound FROM drift_metrics
                WHERE kind = 'concept' AND value IS NOT NULL AND {_OF_CONTRACT} AND $__timeFilter(detected_at)
                ORDER BY 1
            """),
            View.LINES,
            unit="percentunit",
        ),
        Question(
            "Rows judged",
            "Does the verdict rest on enough? Fewer than 500 decide nothing.",
            sql(f"""
                SELECT detected_at AS time, window_name AS metric, max(rows) AS value FROM drift_metrics
                WHERE kind = 'data' AND {_OF_CONTRACT} AND $__timeFilter(detected_at) GROUP BY 1, 2 ORDER BY 1
            """),
            View.LINES,
        ),
        Question(
            "Retraining",
            "What was ordered, who took it up, and what became of it?",
            sql("""
                SELECT triggered_at AS time, source, severity, state, reason, dag_id AS dag, run_id AS run,
                    details ->> 'outcome' AS outcome
                FROM retraining_triggers WHERE $__timeFilter(triggered_at) ORDER BY 1 DESC LIMIT 200
            """),
            View.TABLE,
            names=SEVERITIES,
        ),
    ),
    since="now-7d",
    refresh="1m",
    contracts_of="drift_metrics",
)
