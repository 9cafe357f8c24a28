"""The table `release_counts`: what each arm of a release did, summed by replica and minute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from fraud_core.canary.evidence import SCORE_BINS, Arm

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

CONTROL: Final = "control"
CANARY: Final = "canary"
NOTHING: Final = Arm(0, 0, 0, 0, 0, (0,) * SCORE_BINS)


def add_counts(  # noqa: PLR0917
    cursor: Cursor, deployment_id: int, percent: int, arm: str, replica: str, minute: datetime, counts: Arm
) -> None:
    """Add to what this replica has counted in the minute."""
    calls, errors, slow, rows, flagged, scores = astuple(counts)
    cursor.execute(
        _ADD,
        (deployment_id, percent, arm, replica, minute, calls, errors, slow, rows, flagged, list(scores)),
    )


def read_counts(cursor: Cursor, deployment_id: int, percent: int) -> dict[str, Arm]:
    """The sums of both arms in the stage with this share of traffic; an arm without counts has zeros."""
    cursor.execute(_READ, {"id": deployment_id, "percent": percent})
    found = {name: _arm(sums, scores) for name, scores, *sums in cursor.fetchall()}
    return {arm: found.get(arm, NOTHING) for arm in (CONTROL, CANARY)}


def _arm(sums: Sequence[Any], scores: Sequence[Any]) -> Arm:
    calls, errors, slow, rows, flagged = map(int, sums)  # the server's sums are of arbitrary size
    return Arm(calls, errors, slow, rows, flagged, tuple(map(int, scores)))


_ADD: Final = """
    INSERT INTO release_counts AS known
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (deployment_id, traffic_percent, arm, replica, minute) DO UPDATE SET
        calls = known.calls + excluded.calls,
        errors = known.errors + excluded.errors,
        slow = known.slow + excluded.slow,
        rows = known.rows + excluded.rows,
        flagged = known.flagged + excluded.flagged,
        scores = (SELECT array_agg(a + b ORDER BY bin)
                  FROM unnest(known.scores, excluded.scores) WITH ORDINALITY AS bins (a, b, bin))
"""
_READ: Final = """
    WITH counts AS (
        SELECT * FROM release_counts WHERE deployment_id = %(id)s AND traffic_percent = %(percent)s
    ), histograms AS (
        SELECT arm, array_agg(total ORDER BY bin) AS scores
        FROM (
            SELECT arm, bin, sum(score) AS total
            FROM counts, unnest(scores) WITH ORDINALITY AS bins (score, bin) GROUP BY arm, bin
        ) AS totals
        GROUP BY arm
    )
    SELECT arm, histograms.scores, sum(calls), sum(errors), sum(slow), sum(rows), sum(flagged)
    FROM counts JOIN histograms USING (arm) GROUP BY arm, histograms.scores
"""
