"""What mature labels say: the champion's performance, the share of frauds, and about earlier estimates."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from psycopg2.extensions import connection as Connection  # noqa: N812

from fraud_adapters.postgres import performance_estimates
from fraud_adapters.postgres.labelled_predictions import (
    LabelledHour,
    LabelledWindow,
    labelled_hours,
    labelled_windows,
)
from fraud_adapters.postgres.performance_estimates import OpenEstimate
from fraud_core.drift.concept import proportions
from fraud_core.metrics import Confusion
from fraud_monitor.run_context import RunContext

_NOTHING: Final = Confusion(0, 0, 0, 0)
_HOURS_OF_RATE: Final = 24
_COMPARED_A_RUN: Final = 200  # estimates


@dataclass(frozen=True, slots=True)
class LabelledEvidence:
    """Outcomes of the champion's predictions.

    Attributes:
        performance: the newest labelled ones that hold enough frauds.
        since, until: of the hours they are from; None if there are none.
        rated: those of the newest hours whose labels are complete, of which the share of frauds is known.
        rate_unknown: why it is not known, if there are no such hours.
    """

    performance: Confusion
    since: datetime | None
    until: datetime | None
    rated: Confusion
    rate_unknown: str | None


def read_evidence(context: RunContext, version: str, now: datetime) -> LabelledEvidence:
    """The outcomes of a version's predictions whose label is mature."""
    drift = context.parameters.drift
    with closing(context.database()) as connection:
        hours = labelled_hours(connection, version, now - drift.concept.within, now)
    judged = newest_with(hours, drift.concept.frauds)
    complete = complete_hours(hours, drift.target.labelled_share)
    unknown = None
    if not complete:
        unknown = (
            f"no hour has mature labels for {drift.target.labelled_share:.0%} of its transactions"
            if hours
            else "the champion has decided nothing yet"
        )
    return LabelledEvidence(
        performance=total(judged),
        since=judged[-1].start if judged else None,
        until=judged[0].start + timedelta(hours=1) if judged else None,
        rated=total(complete),
        rate_unknown=unknown,
    )


def newest_with(hours: Sequence[LabelledHour], frauds: int) -> list[LabelledHour]:
    """The newest hours with labels, as many as hold that number of frauds."""
    chosen: list[LabelledHour] = []
    for hour in hours:
        if sum(one.counts.tp + one.counts.fn for one in chosen) >= frauds:
            break
        if hour.counts.total:
            chosen.append(hour)
    return chosen


def complete_hours(hours: Sequence[LabelledHour], share: float) -> list[LabelledHour]:
    """The newest day's worth of hours in which at least this share of the predictions has a mature label.

    In younger hours mostly frauds are known, because they are reported while silence must last.
    """
    complete = [hour for hour in hours if hour.counts.total >= share * hour.rows]
    return complete[:_HOURS_OF_RATE]


def total(hours: Sequence[LabelledHour]) -> Confusion:
    counts = [(one.counts.tp, one.counts.fp, one.counts.tn, one.counts.fn) for one in hours]
    return Confusion(*map(sum, zip(*counts, strict=True))) if counts else _NOTHING


def compare_estimates(context: RunContext, now: datetime) -> int:
    """Compare earlier estimates with the truth, where it is known by now; returns how many.

    An estimate whose labels are still incomplete after twice the longest time that a label takes is given up.
    """
    share, longest = context.parameters.drift.target.labelled_share, longest_wait(context)
    compared = 0
    with closing(context.database()) as connection:
        with connection, connection.cursor() as cursor:
            waiting = performance_estimates.open_estimates(cursor, now, _COMPARED_A_RUN)
        known = _truths(connection, waiting, now)
        with connection, connection.cursor() as cursor:
            for one in waiting:
                window = known.get((one.version, one.start, one.end))
                counts = window.counts if window else _NOTHING
                complete = window is not None and counts.total >= share * window.rows
                if not complete and now - one.end < 2 * longest:
                    continue
                truth = _value(counts, one.metric) if complete else None
                performance_estimates.store_truth(cursor, one.identifier, now, truth, counts.total)
                compared += complete
    return compared


def _truths(
    connection: Connection, waiting: Sequence[OpenEstimate], now: datetime
) -> dict[tuple[str, datetime, datetime], LabelledWindow]:
    """The outcomes of the windows that estimates wait for, by version and window."""
    return {
        (version, window.start, window.end): window
        for version in {one.version for one in waiting}
        for window in labelled_windows(
            connection,
            version,
            sorted({(one.start, one.end) for one in waiting if one.version == version}),
            now,
        )
    }


def longest_wait(context: RunContext) -> timedelta:
    """How long it takes until a transaction's label is mature at the latest."""
    labels = context.parameters.labels
    return max(labels.implied_after, *(source.maturity for source in labels.sources.values()))


def _value(counts: Confusion, metric: str) -> float | None:
    return next(one.value for one in proportions(counts) if one.metric == metric)
