"""Checks of what has arrived: how much, how fresh, at what time, and what could not be processed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import sqrt
from statistics import median
from typing import Final

from fraud_core.quality.checks import Check, Status, insufficient, percent, plural, share_status
from fraud_core.quality.rules import QualityRules

ID_CONFLICT: Final = "id_conflict"


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What arrived in the window, by the database's clock `now`.

    Attributes:
        rows: transactions that arrived for a decision; history that was loaded does not count.
        earlier: the rows in the same hours of earlier days, the latest day first.
        first, last: when the first and the last transaction of all time arrived; None without any.
        ahead: rows whose event lies too far after their arrival; late: too far before it.
        delay_p50, delay_p99: seconds from event to arrival; None without rows.
    """

    now: datetime
    rows: int
    earlier: Sequence[int]
    first: datetime | None
    last: datetime | None
    ahead: int
    late: int
    delay_p50: float | None
    delay_p99: float | None


def volume(arrivals: Arrivals, rules: QualityRules) -> Check:
    """Whether as many rows arrived as usual in these hours."""
    name, rule = "volume", rules.volume
    known = [rows for rows in arrivals.earlier if rows]
    if len(known) < rule.min_days:
        age = timedelta(0) if arrivals.first is None else arrivals.now - arrivals.first
        return insufficient(
            name,
            f"{plural(arrivals.rows, 'row')} arrived; the same hours of "
            f"{plural(len(known), 'earlier day')} hold "
            f"rows to compare with, {rule.min_days} are needed.",
            rows=arrivals.rows,
            expected=age < timedelta(days=rule.min_days + 1),
        )
    usual = float(median(known))
    # A count varies by its root (Poisson); within three of them nothing has changed.
    chance = 3 * sqrt(max(usual, 1.0))
    factor = max(usual, 1.0) / max(arrivals.rows, 1e-9) if arrivals.rows < usual else arrivals.rows / usual
    beyond_chance = abs(arrivals.rows - usual) > chance
    status = (
        Status.FAILED
        if beyond_chance and factor > rule.fail
        else Status.WARNED
        if beyond_chance and factor > rule.warn
        else Status.PASSED
    )
    if arrivals.rows == 0:
        status = Status.FAILED
    return Check(
        name,
        status,
        f"{plural(arrivals.rows, 'row')} arrived, the same hours of {len(known)} earlier days had "
        f"{usual:,.0f} "
        "in the median.",
        value=float(arrivals.rows),
        bound=usual / rule.fail if arrivals.rows < usual else usual * rule.fail,
        rows=arrivals.rows,
        details={"earlier": list(arrivals.earlier), "median": usual},
    )


def freshness(arrivals: Arrivals, rules: QualityRules) -> Check:
    """Whether the latest transaction arrived a short time ago."""
    name, limit = "freshness", rules.freshness.seconds
    if arrivals.last is None:
        return insufficient(name, "No transaction has ever arrived for a decision.", expected=True)
    age = (arrivals.now - arrivals.last).total_seconds()
    return Check(
        name,
        limit.status(age),
        f"The latest transaction arrived {_duration(max(age, 0.0))} ago, at {_time(arrivals.last)}; "
        f"{_duration(limit.fail)} are allowed.",
        value=age,
        bound=limit.fail,
        rows=arrivals.rows,
    )


def skew(arrivals: Arrivals, rules: QualityRules) -> Check:
    """Whether events happened shortly before they arrived."""
    name = "clock_skew"
    if not arrivals.rows or arrivals.delay_p50 is None or arrivals.delay_p99 is None:
        return insufficient(name, "No transaction arrived in the window.", rows=0)
    skewed = arrivals.ahead + arrivals.late
    share = skewed / arrivals.rows
    return Check(
        name,
        share_status(skewed, arrivals.rows, rules.skewed),
        f"{percent(share)} of {plural(arrivals.rows, 'row')}: {arrivals.ahead:,} happened more than "
        f"{_duration(rules.ahead.total_seconds())} after they arrived (a clock is ahead), "
        f"{arrivals.late:,} more than "
        f"{_duration(rules.late.total_seconds())} before; half arrived within {arrivals.delay_p50:.3g} s, "
        f"99 % within {arrivals.delay_p99:.3g} s.",
        value=share,
        bound=rules.skewed.fail,
        rows=arrivals.rows,
        details={
            "ahead": arrivals.ahead,
            "late": arrivals.late,
            "p50": arrivals.delay_p50,
            "p99": arrivals.delay_p99,
        },
    )


def dead_letters(rows: int, by_reason: Mapping[str, int], rules: QualityRules) -> Check:
    """Whether few records could not be processed.

    Args:
        rows: transactions that the stream stored in the window; by_reason: its dead letters.
    """
    name, bad = "dead_letters", sum(by_reason.values())
    records = rows + bad
    if not records:
        return insufficient(name, "No record was consumed in the window.", rows=0)
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in by_reason.items())
    return Check(
        name,
        share_status(bad, records, rules.dead_letters),
        f"{bad:,} of {plural(records, 'record')} could not be processed{f': {reasons}' if reasons else ''}.",
        value=bad / records,
        bound=rules.dead_letters.fail,
        rows=records,
        details={"reasons": dict(by_reason)},
    )


def conflicting_ids(rows: int, by_reason: Mapping[str, int]) -> Check:
    """Whether no record carried the id of another transaction with other fields."""
    name, conflicts = "conflicting_ids", by_reason.get(ID_CONFLICT, 0)
    if not rows + sum(by_reason.values()):
        return insufficient(name, "No record was consumed in the window.", rows=0)
    return Check(
        name,
        Status.FAILED if conflicts else Status.PASSED,
        f"{plural(conflicts, 'record')} had the id of a stored transaction with other fields; the "
        "first one stays "
        "in force."
        if conflicts
        else f"No id of {plural(rows, 'stored row')} came again with other fields.",
        value=float(conflicts),
        bound=0.0,
        rows=rows,
    )


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
