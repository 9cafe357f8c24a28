"""Data quality: the checks that 04_data_quality makes every hour."""

from __future__ import annotations

from typing import Final

from monitoring.grafana.boards.question import (
    OUTCOMES,
    QUALITY_STATES,
    Board,
    Question,
    View,
    above,
    prom,
    sql,
)

_OF_CONTRACT: Final = "contract IN (${contract:sqlstring})"
_RUN: Final = "'04_data_quality' AS dag, run_id AS run"


def _count(state: int) -> str:
    return f"count by (contract) (fraud_quality_status == {state}) or vector(0)"


QUALITY: Final = Board(
    "quality",
    "Fraud detection – data quality",
    "Is what arrives complete, timely and as it should be?",
    (
        Question(
            "Failed",
            "How many checks failed in the latest run?",
            prom(_count(2), "{{contract}}"),
            levels=above(None, 1),
            runbooks=("QualityFailed",),
            size=(6, 4),
        ),
        Question(
            "Warned",
            "How many are beyond their lower bound?",
            prom(_count(1), "{{contract}}"),
            levels=above(1, 1000),
            size=(6, 4),
        ),
        Question(
            "Insufficient",
            "About how many can nothing be said?",
            prom(_count(-1), "{{contract}}"),
            levels=above(1, 1000),
            size=(6, 4),
        ),
        Question(
            "Age of the latest report",
            "Is quality watched?",
            prom("time() - max by (contract) (fraud_quality_checked_timestamp_seconds)", "{{contract}}"),
            unit="s",
            levels=above(7200, 10800),
            runbooks=("DagOverdue",),
            size=(6, 4),
            missing="never checked",
        ),
        Question(
            "Checks by time",
            "Which check fails, and since when?",
            sql(f"""
                SELECT window_to AS time, check_name AS metric,
                    array_position(ARRAY['insufficient', 'passed', 'warned', 'failed'], status::text) - 2
                        AS value
                FROM quality_reports WHERE {_OF_CONTRACT} AND $__timeFilter(checked_at) ORDER BY 1, 2
            """),
            View.GRID,
            names=QUALITY_STATES,
            size=(24, 12),
        ),
        Question(
            "The latest run",
            "What does each check say, and on how much does it rest?",
            sql(f"""
                SELECT check_name AS "check", status, severity, sentence, value, bound, rows AS "rows",
                    checked_at AS time, {_RUN}
                FROM (SELECT DISTINCT ON (check_name) * FROM quality_reports
                      WHERE {_OF_CONTRACT} AND $__timeFilter(checked_at)
                      ORDER BY check_name, checked_at DESC) latest
                ORDER BY array_position(ARRAY['failed', 'warned', 'insufficient', 'passed'], status::text), 1
            """),
            View.TABLE,
            names=OUTCOMES,
            size=(24, 12),
        ),
        Question(
            "What failed",
            "When did which check fail, and with what sentence?",
            sql(f"""
                SELECT checked_at AS time, check_name AS "check", severity, status, sentence, value, bound,
                    {_RUN}
                FROM quality_reports WHERE status = 'failed' AND {_OF_CONTRACT} AND $__timeFilter(checked_at)
                ORDER BY 1 DESC LIMIT 200
            """),
            View.TABLE,
            names=OUTCOMES,
        ),
        Question(
            "How near to the bound",
            "Which check will fail next? Its value as a share of its bound.",
            sql(f"""
                SELECT window_to AS time, check_name AS metric, value / bound AS value FROM quality_reports
                WHERE bound > 0 AND value IS NOT NULL AND {_OF_CONTRACT} AND $__timeFilter(checked_at)
                ORDER BY 1, 2
            """),
            View.LINES,
            unit="percentunit",
            levels=above(0.8, 1),
        ),
        Question(
            "Rows judged",
            "Did transactions arrive, and enough of them to judge?",
            sql(f"""
                SELECT window_to AS time, max(rows) AS value FROM quality_reports
                WHERE {_OF_CONTRACT} AND $__timeFilter(checked_at) GROUP BY 1 ORDER BY 1
            """),
            View.LINES,
        ),
        Question(
            "Records that could not be processed",
            "How many lie in the table dead_letters?",
            prom("fraud_dead_letters_stored"),
            View.LINES,
            runbooks=("DeadLetters",),
        ),
        Question(
            "Checks without a verdict",
            "In how many runs of this period could a check say nothing, although time alone would not help?",
            sql(f"""
                SELECT check_name AS "check", count(*) AS runs, max(sentence) AS sentence,
                    max(checked_at) AS latest
                FROM quality_reports WHERE status = 'insufficient' AND NOT expected AND {_OF_CONTRACT}
                    AND $__timeFilter(checked_at)
                GROUP BY 1 ORDER BY 2 DESC
            """),
            View.TABLE,
            size=(12, 8),
        ),
    ),
    since="now-2d",
    refresh="1m",
    contracts_of="quality_reports",
)
