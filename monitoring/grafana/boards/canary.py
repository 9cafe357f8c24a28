"""Releases by canary: what the running one does, what was judged of it, and how the others ended."""

from __future__ import annotations

from typing import Final

from monitoring.grafana.boards.question import (
    MODEL_SERVED,
    RELEASE_RUNNING,
    Board,
    Named,
    Question,
    Sql,
    View,
    above,
    prom,
    sql,
)

_STATES: Final = (
    Named("validating", "validating", "text"),
    Named("validated", "validated", "text"),
    Named("canary", "canary", "blue"),
    Named("widened", "widened", "blue"),
    Named("promoted", "promoted", "green"),
    Named("refused", "refused", "orange"),
    Named("rolled_back", "rolled back", "red"),
    Named("withdrawn", "withdrawn", "orange"),
    Named("aborted", "aborted", "orange"),
)
_VERDICTS: Final = (
    Named("promote", "promote", "green"),
    Named("inconclusive", "inconclusive", "yellow"),
    Named("roll_back", "roll back", "red"),
)
_OUTCOMES: Final = (
    Named("passed", "passed", "green"),
    Named("insufficient", "insufficient", "yellow"),
    Named("failed", "failed", "red"),
)
# The release that is shown in detail: the one that runs, or the latest that ran.
_LATEST: Final = "(SELECT max(deployment_id) FROM deployments WHERE mode = 'canary')"
_JUDGED: Final = f"""
    SELECT occurred_at, details FROM deployment_events
    WHERE deployment_id = {_LATEST} AND kind = 'judged' ORDER BY id DESC LIMIT 1
"""


def _by_arm(value: str) -> tuple[Sql, ...]:
    """A figure of each arm, minute by minute, summed over the replicas."""
    return sql(f"""
        SELECT minute AS time, arm AS metric, {value} AS value FROM release_counts
        WHERE $__timeFilter(minute) GROUP BY 1, 2 ORDER BY 1, 2
    """)


def _share_by_arm(part: str, whole: str) -> tuple[Sql, ...]:
    return _by_arm(f"sum({part})::float8 / nullif(sum({whole}), 0)")


CANARY: Final = Board(
    "canary",
    "Fraud detection – releases",
    "Does the new version deserve the traffic it gets, and how did the releases before it end?",
    (
        RELEASE_RUNNING,
        MODEL_SERVED,
        Question(
            "Share of cards",
            "How much does a canary decide, on the replica where it decides most?",
            prom("max(fraud_api_canary_percent) / 100"),
            unit="percentunit",
            missing="the API does not answer",
        ),
        Question(
            "Failures in 15 minutes",
            "How often had the champion to decide in the canary's place?",
            prom("sum(increase(fraud_api_canary_failures_total[15m]))"),
            levels=above(1, 10),
            runbooks=("CanaryFailing",),
        ),
        Question(
            "Shadow",
            "Which share of what is decided does the shadow score?",
            prom(
                'sum(rate(fraud_api_shadow_total{outcome="scored"}[15m]))'
                " / (sum(rate(fraud_api_shadow_total[15m])) > 0)"
            ),
            unit="percentunit",
            runbooks=("ShadowBehind", "ShadowFailing"),
            missing="none",
        ),
        Question(
            "Replicas with a shadow",
            "Does every replica hold the version with the alias shadow?",
            prom("sum(fraud_api_shadow_loaded)"),
            missing="none",
        ),
        Question(
            "Releases that ended well",
            "Which share of those that ended in this period was promoted?",
            sql("""
                SELECT avg((state = 'promoted')::int)::float8 AS promoted FROM deployments
                WHERE $__timeFilter(ended_at)
            """),
            unit="percentunit",
            missing="none ended",
        ),
        Question(
            "The latest release",
            "Which version is released, where does it stand, and why?",
            sql(f"""
                SELECT started_at AS time, deployment_id AS release, name AS model, version,
                    previous_version AS champion, state, traffic_percent AS percent, extensions,
                    stage_started_at AS "stage since", reason
                FROM deployments WHERE deployment_id = {_LATEST}
            """),
            View.TABLE,
            names=_STATES,
            size=(24, 4),
        ),
        Question(
            "Verdict so far",
            "What does the evidence say of the latest release, and what follows?",
            sql(f"""
                SELECT occurred_at AS time, details ->> 'verdict' AS verdict, details ->> 'next' AS next,
                    details ->> 'sentence' AS sentence
                FROM ({_JUDGED}) AS latest
            """),
            View.TABLE,
            names=_VERDICTS,
            size=(24, 4),
            missing="not judged yet",
        ),
        Question(
            "Checks",
            "Which bounds does it keep, which not, and of which is too little known?",
            sql(f"""
                SELECT one ->> 'name' AS "check", one ->> 'outcome' AS outcome,
                    (one ->> 'value')::float8 AS value, (one ->> 'low')::float8 AS low,
                    (one ->> 'high')::float8 AS high, (one ->> 'bound')::float8 AS bound,
                    one ->> 'sentence' AS sentence
                FROM ({_JUDGED}) AS latest, jsonb_array_elements(latest.details -> 'checks') AS one
            """),
            View.TABLE,
            names=_OUTCOMES,
            size=(24, 10),
            missing="not judged yet",
        ),
        Question(
            "Transactions",
            "How many a minute does each arm decide?",
            _by_arm("sum(rows)::float8"),
            View.LINES,
        ),
        Question(
            "Share of transactions",
            "Does the canary get its share of the transactions?",
            sql("""
                SELECT minute AS time,
                    (sum(rows) FILTER (WHERE arm = 'canary'))::float8 / nullif(sum(rows), 0) AS canary,
                    (max(traffic_percent) / 100.0)::float8 AS planned
                FROM release_counts WHERE $__timeFilter(minute) GROUP BY 1 ORDER BY 1
            """),
            View.LINES,
            unit="percentunit",
        ),
        Question(
            "Flagged",
            "Does the canary flag as many as the champion?",
            _share_by_arm("flagged", "rows"),
            View.LINES,
            unit="percentunit",
        ),
        Question(
            "Errors",
            "In which share of its calls did an arm's model fail?",
            _share_by_arm("errors", "calls"),
            View.LINES,
            unit="percentunit",
            levels=above(None, 0.01),
            runbooks=("CanaryFailing",),
        ),
        Question(
            "Slow calls",
            "Which share of an arm's calls took longer than the bound on latency?",
            _share_by_arm("slow", "calls"),
            View.LINES,
            unit="percentunit",
            levels=above(None, 0.05),
        ),
        Question(
            "Shadow: transactions",
            "How many does the shadow score, leave out (shed) and fail at?",
            prom("sum by (outcome) (rate(fraud_api_shadow_total[$__rate_interval]))", "{{outcome}}"),
            View.LINES,
            unit="ops",
            runbooks=("ShadowBehind", "ShadowFailing"),
        ),
        Question(
            "Scores of both arms",
            "Do the scores of the latest release lie where the champion's do? Its share of each twentieth.",
            sql(f"""
                WITH bins AS (
                    SELECT arm, bin, max(cardinality(scores)) AS bins, sum(score) AS scores
                    FROM release_counts, unnest(scores) WITH ORDINALITY AS one (score, bin)
                    WHERE deployment_id = {_LATEST} GROUP BY arm, bin
                ), shares AS (
                    SELECT arm, bin, bins,
                        (scores / nullif(sum(scores) OVER (PARTITION BY arm), 0))::float8 AS share
                    FROM bins
                )
                SELECT to_char((bin - 1.0) / bins, 'FM0.00') || '–' || to_char(1.0 * bin / bins, 'FM0.00')
                        AS scores,
                    max(share) FILTER (WHERE arm = 'control') AS champion,
                    max(share) FILTER (WHERE arm = 'canary') AS canary
                FROM shares GROUP BY bin, bins ORDER BY bin
            """),
            View.CATEGORIES,
            unit="percentunit",
            size=(24, 9),
        ),
        Question(
            "Verdicts",
            "How did the verdict on each release come about?",
            sql("""
                SELECT occurred_at AS time, deployment_id AS release, details ->> 'verdict' AS verdict,
                    details ->> 'next' AS next, details ->> 'sentence' AS sentence
                FROM deployment_events WHERE kind = 'judged' AND $__timeFilter(occurred_at)
                ORDER BY id DESC LIMIT 200
            """),
            View.TABLE,
            names=_VERDICTS,
        ),
        Question(
            "History of releases",
            "Which versions were released, how did it end, and why?",
            sql("""
                SELECT started_at AS time, deployment_id AS release, version, previous_version AS champion,
                    state, ended_at AS ended, extract(epoch FROM ended_at - started_at)::float8 AS seconds,
                    '05_model_deployment_canary' AS dag, run_id AS run, reason
                FROM deployments WHERE $__timeFilter(started_at) ORDER BY deployment_id DESC LIMIT 100
            """),
            View.TABLE,
            names=_STATES,
        ),
    ),
    since="now-7d",
)
