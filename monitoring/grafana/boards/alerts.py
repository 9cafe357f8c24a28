"""The history of alerts: what people were told, how often, and how long it lasted."""

from __future__ import annotations

from typing import Final

from monitoring.grafana.boards.question import SEVERITIES, Board, Question, View, above, prom, sql

_LINK: Final = "nullif(details ->> 'link', '') AS link"

ALERTS: Final = Board(
    "alerts",
    "Fraud detection – alerts",
    "What were people told, did it reach them, and is it too much?",
    (
        Question(
            "Open",
            "Is there anything to do now?",
            prom("sum by (severity) (fraud_alerts_open)", "{{severity}}"),
            levels=above(None, 1),
            size=(8, 4),
        ),
        Question(
            "Wait to be sent",
            "Is something held back by quiet hours or by a channel that fails?",
            prom("sum by (severity) (fraud_alert_waiting)", "{{severity}}"),
            levels=above(1, 10),
            size=(8, 4),
        ),
        Question(
            "Not delivered",
            "Which messages did not every channel take?",
            prom("sum by (severity) (fraud_alert_undelivered)", "{{severity}}"),
            levels=above(None, 1),
            runbooks=("AlertsUndelivered",),
            size=(8, 4),
        ),
        Question(
            "Age of the sign of life",
            "Would an alert of Prometheus reach people?",
            prom("time() - (fraud_alert_heartbeat_timestamp_seconds > 0)"),
            unit="s",
            levels=above(300, 900),
            runbooks=("AlertPathDead",),
            size=(12, 4),
            missing="none yet",
        ),
        Question(
            "Age of this record",
            "Is the history below up to date?",
            prom("time() - fraud_platform_read_timestamp_seconds"),
            unit="s",
            levels=above(120, 600),
            runbooks=("AlertsNotRecorded",),
            size=(12, 4),
        ),
        Question(
            "Open alerts",
            "What is wrong, since when, and where does one look?",
            sql(f"""
                SELECT raised_at AS time, severity, title, source, occurrences, details ->> 'text' AS message,
                    {_LINK}
                FROM alerts WHERE resolved_at IS NULL
                ORDER BY array_position(ARRAY['critical', 'high', 'medium'], severity::text), 1 LIMIT 200
            """),
            View.TABLE,
            names=SEVERITIES,
        ),
        Question(
            "Firing in Prometheus",
            "Which rules fire at this moment? Watchdog always does.",
            prom('ALERTS{alertstate="firing"}'),
            View.TABLE,
        ),
        Question(
            "Alerts a day",
            "Is it noisy, and does it become worse?",
            sql("""
                SELECT date_trunc('day', raised_at) AS time, severity AS metric, count(*) AS value FROM alerts
                WHERE $__timeFilter(raised_at) GROUP BY 1, 2 ORDER BY 1, 2
            """),
            View.BARS,
        ),
        Question(
            "Time until it was over",
            "How long do problems last? The median of each day.",
            sql("""
                SELECT date_trunc('day', raised_at) AS time, severity AS metric, percentile_cont(0.5)
                    WITHIN GROUP (ORDER BY extract(epoch FROM resolved_at - raised_at)) AS value
                FROM alerts WHERE resolved_at IS NOT NULL AND $__timeFilter(raised_at)
                GROUP BY 1, 2 ORDER BY 1, 2
            """),
            View.LINES,
            unit="s",
        ),
        Question(
            "Time until people were told",
            "How late does a message go out? The longest of each day.",
            sql("""
                SELECT date_trunc('day', raised_at) AS time, severity AS metric,
                    max(extract(epoch FROM sent_at - raised_at))::float8 AS value
                FROM alerts WHERE sent_at IS NOT NULL AND $__timeFilter(raised_at) GROUP BY 1, 2 ORDER BY 1, 2
            """),
            View.LINES,
            unit="s",
        ),
        Question(
            "What comes back",
            "Which problem should be mended for good?",
            sql("""
                SELECT coalesce(details ->> 'key', dedupe_key) AS problem, max(title) AS title,
                    count(*) AS incidents, sum(occurrences) AS occurrences, max(raised_at) AS latest,
                    percentile_cont(0.5)
                        WITHIN GROUP (ORDER BY extract(epoch FROM resolved_at - raised_at)) AS seconds
                FROM alerts WHERE $__timeFilter(raised_at) GROUP BY 1 ORDER BY 3 DESC, 4 DESC LIMIT 50
            """),
            View.TABLE,
            size=(12, 8),
        ),
        Question(
            "History",
            "What happened in this period?",
            sql(f"""
                SELECT raised_at AS time, severity, title, source, occurrences, sent_at AS sent,
                    resolved_at AS resolved, {_LINK}
                FROM alerts WHERE $__timeFilter(raised_at) ORDER BY 1 DESC LIMIT 500
            """),
            View.TABLE,
            names=SEVERITIES,
            size=(24, 12),
        ),
    ),
    since="now-30d",
    refresh="1m",
)
