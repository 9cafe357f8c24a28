"""What the overview reads from Postgres, as the read-only role."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

MINUTES: Final = 30  # of the charts
DRIFT_RUNS: Final = 24
_PER_MINUTE: Final = f"""
    WITH decided AS (
        SELECT date_trunc('minute', prediction_time) AS minute, count(*) AS decisions,
               percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (
                   ORDER BY extract(epoch FROM prediction_time - event_time)::double precision) AS seconds
        FROM predictions JOIN transactions USING (transaction_id)
        WHERE deciding AND prediction_time >= date_trunc('minute', now()) - interval '{MINUTES} minutes'
        GROUP BY 1
    ), minutes AS (
        SELECT generate_series(
            date_trunc('minute', now()) - interval '{MINUTES} minutes', now(), interval '1 minute') AS minute
    )
    SELECT extract(epoch FROM minute)::bigint, coalesce(decisions, 0), seconds
    FROM minutes LEFT JOIN decided USING (minute) ORDER BY 1
"""  # noqa: S608 - our own constant
_DECISIONS: Final = """
    SELECT decision, count(*), coalesce(sum(amount), 0)::double precision
    FROM predictions JOIN transactions USING (transaction_id)
    WHERE deciding AND prediction_time >= now() - interval '1 hour'
    GROUP BY 1
"""
_LATEST: Final = """
    SELECT extract(epoch FROM now() - prediction_time)::double precision, model_version
    FROM predictions WHERE deciding ORDER BY prediction_time DESC LIMIT 1
"""
_MODEL: Final = """
    SELECT version, gate_policy, gate_passed, metrics, extract(epoch FROM created_at)::bigint
    FROM model_versions WHERE name = %s AND version = %s
"""
_DRIFT: Final = f"""
    WITH runs AS (
        SELECT DISTINCT detected_at FROM drift_metrics
        WHERE kind = 'data' AND metric = 'psi' AND detected_at >= now() - interval '7 days'
        ORDER BY detected_at DESC LIMIT {DRIFT_RUNS}
    )
    SELECT extract(epoch FROM detected_at)::bigint, feature, max(value), max(threshold),
           (array_agg(severity ORDER BY value DESC NULLS LAST))[1]
    FROM drift_metrics JOIN runs USING (detected_at)
    WHERE kind = 'data' AND metric = 'psi' AND feature IS NOT NULL
    GROUP BY 1, 2 ORDER BY 1, 2
"""  # noqa: S608 - our own constants
_PERFORMANCE: Final = """
    SELECT metric, extract(epoch FROM measured_at)::bigint, value, labels
    FROM performance_metrics
    WHERE metric = ANY (%s) AND part = '' AND value IS NOT NULL AND measured_at >= now() - interval '7 days'
    ORDER BY measured_at
"""
_QUALITY: Final = """
    SELECT DISTINCT ON (check_name) check_name, status, value, bound,
           extract(epoch FROM checked_at)::bigint
    FROM quality_reports WHERE checked_at >= now() - interval '1 day'
    ORDER BY check_name, checked_at DESC
"""
_ALERTS: Final = """
    SELECT extract(epoch FROM raised_at)::bigint, source, severity, title
    FROM alerts WHERE resolved_at IS NULL
    ORDER BY raised_at DESC LIMIT 20
"""
_RELEASES: Final = """
    SELECT deployment_id, version, previous_version, state, traffic_percent, reason,
           extract(epoch FROM started_at)::bigint, extract(epoch FROM ended_at)::bigint,
           judged.details ->> 'verdict', judged.details ->> 'sentence',
           extract(epoch FROM judged.occurred_at)::bigint
    FROM deployments LEFT JOIN LATERAL (
        SELECT occurred_at, details FROM deployment_events
        WHERE deployment_events.deployment_id = deployments.deployment_id AND kind = 'judged'
            AND occurred_at >= stage_started_at
        ORDER BY id DESC LIMIT 1
    ) AS judged ON true
    WHERE name = %s AND (ended_at IS NULL OR deployment_id = (
        SELECT max(deployment_id) FROM deployments WHERE name = %s AND ended_at IS NOT NULL))
"""
_POSITIONS: Final = "SELECT partition, next_offset FROM stream_offsets WHERE topic = %s"
PERFORMANCE_METRICS: Final = ("recall", "precision", "f1", "fpr")


def per_minute(cur: Any) -> dict[str, list[float | None]]:
    """Decisions a minute of the last half hour, and the seconds from event to decision (p50, p99)."""
    cur.execute(_PER_MINUTE)
    rows = cur.fetchall()
    return {
        "at": [row[0] for row in rows],
        "decisions": [row[1] for row in rows],
        "p50_seconds": [row[2][0] if row[2] else None for row in rows],
        "p99_seconds": [row[2][1] if row[2] else None for row in rows],
    }


def decisions(cur: Any) -> dict[str, dict[str, float]]:
    """Count and amount of each decision in the last hour."""
    cur.execute(_DECISIONS)
    found = {name: {"count": count, "amount": amount} for name, count, amount in cur.fetchall()}
    return {name: found.get(name, {"count": 0, "amount": 0.0}) for name in ("approve", "review", "block")}


def latest_decision(cur: Any) -> tuple[float, str] | None:
    """The age in seconds of the latest decision and its model version; None if there is none."""
    cur.execute(_LATEST)
    row = cur.fetchone()
    return None if row is None else (max(0.0, row[0]), row[1])


def model(cur: Any, name: str, version: str) -> dict[str, Any] | None:
    """The record of a model version."""
    cur.execute(_MODEL, (name, version))
    row = cur.fetchone()
    if row is None:
        return None
    names = ("version", "gate_policy", "gate_passed", "metrics", "created_at")
    return dict(zip(names, row, strict=True))


def drift(cur: Any) -> dict[str, Any]:
    """PSI of each feature in the latest runs of drift monitoring: one row a feature, one column a run."""
    cur.execute(_DRIFT)
    rows = cur.fetchall()
    times = sorted({row[0] for row in rows})
    features: dict[str, list[dict[str, Any] | None]] = {}
    for at, feature, value, _, severity in rows:
        cells = features.setdefault(feature, [None] * len(times))
        cells[times.index(at)] = {"value": value, "severity": severity}
    return {"at": times, "features": features}


def performance(cur: Any) -> dict[str, list[dict[str, Any]]]:
    """The trend of each performance figure over seven days."""
    cur.execute(_PERFORMANCE, (list(PERFORMANCE_METRICS),))
    trend: dict[str, list[dict[str, Any]]] = {name: [] for name in PERFORMANCE_METRICS}
    for name, at, value, labels in cur.fetchall():
        trend[name].append({"at": at, "value": value, "labels": labels})
    return trend


def quality(cur: Any) -> list[dict[str, Any]]:
    """The latest outcome of each data quality check of the last day."""
    cur.execute(_QUALITY)
    names = ("check", "status", "value", "bound", "at")
    return [dict(zip(names, row, strict=True)) for row in cur.fetchall()]


def alerts(cur: Any) -> list[dict[str, Any]]:
    """The latest alerts that have not been resolved."""
    cur.execute(_ALERTS)
    names = ("at", "source", "severity", "title")
    return [dict(zip(names, row, strict=True)) for row in cur.fetchall()]


def releases(cur: Any, name: str) -> dict[str, dict[str, Any] | None]:
    """The release that runs and the one that ended last, each with the latest verdict on its stage."""
    cur.execute(_RELEASES, (name, name))
    names = (
        *("number", "version", "champion", "state", "percent", "reason", "started", "ended"),
        *("verdict", "sentence", "judged"),
    )
    found = [dict(zip(names, row, strict=True)) for row in cur.fetchall()]
    running = next((one for one in found if one["ended"] is None), None)
    return {"running": running, "last": next((one for one in found if one["ended"] is not None), None)}


def positions(cur: Any, topic: str) -> dict[int, int]:
    """The next offset of each partition that the consumer has stored."""
    cur.execute(_POSITIONS, (topic,))
    rows: Sequence[tuple[int, int]] = cur.fetchall()
    return dict(rows)
