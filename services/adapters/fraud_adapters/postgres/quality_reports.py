"""The table `quality_reports`: the outcome of each check of each run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from psycopg2.extras import Json

from fraud_core.quality.checks import Check

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


def store_checks(
    cursor: Cursor,
    contract: str,
    run_id: str,
    checks: Sequence[Check],
    window: tuple[datetime, datetime],
) -> None:
    """Store the checks of a run; those of an earlier attempt of the run are replaced."""
    for check in checks:
        cursor.execute(
            _STORE,
            {
                "contract": contract,
                "run_id": run_id,
                "name": check.name,
                "status": check.status.value,
                "severity": check.severity,
                "sentence": check.sentence,
                "expected": check.expected,
                "value": check.value,
                "bound": check.bound,
                "start": window[0],
                "end": window[1],
                "rows": check.rows,
                "details": Json(dict(check.details)),
            },
        )


def insufficient_in_a_row(cursor: Cursor, contract: str) -> dict[str, int]:
    """By check, for how many runs in a row up to the latest it had no verdict, other than expected."""
    cursor.execute(_IN_A_ROW, {"contract": contract})
    return {name: int(count) for name, count in cursor.fetchall()}


_STORE: Final = """
    INSERT INTO quality_reports (contract, run_id, check_name, checked_at, status, severity, sentence,
                                 expected, value, bound, window_from, window_to, rows, details)
    VALUES (%(contract)s, %(run_id)s, %(name)s, clock_timestamp(), %(status)s, %(severity)s, %(sentence)s,
            %(expected)s, %(value)s, %(bound)s, %(start)s, %(end)s, %(rows)s, %(details)s)
    ON CONFLICT (contract, run_id, check_name) DO UPDATE SET
        checked_at = excluded.checked_at, status = excluded.status, severity = excluded.severity,
        sentence = excluded.sentence, expected = excluded.expected, value = excluded.value,
        bound = excluded.bound,
        window_from = excluded.window_from, window_to = excluded.window_to, rows = excluded.rows,
        details = excluded.details
"""
_IN_A_ROW: Final = """
    SELECT names.check_name, blind.runs
    FROM (SELECT DISTINCT check_name FROM quality_reports
          WHERE contract = %(contract)s AND checked_at > now() - interval '1 day') names,
    LATERAL (SELECT count(*) AS runs FROM quality_reports q
             WHERE q.contract = %(contract)s AND q.check_name = names.check_name AND q.checked_at > coalesce(
                (SELECT max(k.checked_at) FROM quality_reports k
                 WHERE k.contract = %(contract)s AND k.check_name = names.check_name
                   AND (k.status <> 'insufficient' OR k.expected)), '-infinity')) blind
    WHERE blind.runs > 0
"""
