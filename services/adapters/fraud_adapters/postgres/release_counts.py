"""What each arm of a release did, and what is known of the truth about it.

The table `release_counts` holds sums by replica and minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from fraud_core.canary.evidence import SCORE_BINS, Arm, Labelled, LiveLabels

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

CONTROL: Final = "control"
CANARY: Final = "canary"
NOTHING: Final = Arm(0, 0, 0, 0, 0, (0,) * SCORE_BINS)


def store_counts(  # noqa: PLR0917
    cursor: Cursor, deployment_id: int, percent: int, arm: str, replica: str, minute: datetime, counts: Arm
) -> None:
    """Store the sums of what the replica has counted in the minute; a repetition changes nothing."""
    calls, errors, slow, rows, flagged, scores = astuple(counts)
    cursor.execute(
        _STORE,
        (deployment_id, percent, arm, replica, minute, calls, errors, slow, rows, flagged, list(scores)),
    )


def read_counts(cursor: Cursor, deployment_id: int, percent: int) -> dict[str, Arm]:
    """The sums of both arms in the stage with this share of traffic; an arm without counts has zeros."""
    cursor.execute(_READ, {"id": deployment_id, "percent": percent})
    found = {name: _arm(sums, scores) for name, scores, *sums in cursor.fetchall()}
    return {arm: found.get(arm, NOTHING) for arm in (CONTROL, CANARY)}


def read_labels(cursor: Cursor, deployment_id: int) -> LiveLabels | None:
    """The labels about the current stage's traffic; None while there are none."""
    cursor.execute(
        "SELECT role, frauds, caught, legitimate, false_alarms FROM release_labels(%s)", (deployment_id,)
    )
    found = {role: Labelled(*map(int, counts)) for role, *counts in cursor.fetchall()}
    if not found:
        return None
    nothing = Labelled(0, 0, 0, 0)
    return LiveLabels(control=found.get("champion", nothing), canary=found.get("canary", nothing))


def _arm(sums: Sequence[Any], scores: Sequence[Any]) -> Arm:
    calls, errors, slow, rows, flagged = map(int, sums)  # the server's sums are of arbitrary size
    return Arm(calls, errors, slow, rows, flagged, tuple(map(int, scores)))


_STORE: Final = """
    INSERT INTO release_counts AS known
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (deployment_id, traffic_percent, arm, replica, minute) DO UPDATE SET
        (calls, errors, slow, rows, flagged, scores) = (
            excluded.calls, excluded.errors, excluded.slow, excluded.rows, excluded.flagged, excluded.scores)
    WHERE known.calls < excluded.calls
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
