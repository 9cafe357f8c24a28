"""Checks of the stream: that what was produced was stored and decided, once, and how much still waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final

from fraud_core.quality.checks import Check, Status, insufficient, percent, plural, share_status
from fraud_core.quality.rules import QualityRules

_SHOWN: Final = 5  # lost records that are named


@dataclass(frozen=True, slots=True)
class TopicProgress:
    """A consumed topic.

    Attributes:
        positions: the stored next offset by partition; None if nothing was read, or if it is of a deleted
            topic of the same name.
        ends: the end of the log by partition; earliest: the oldest offset in it.
        idle_seconds: how long ago a position moved; None if none ever did.
    """

    topic: str
    positions: Mapping[int, int | None]
    earliest: Mapping[int, int]
    ends: Mapping[int, int]
    idle_seconds: float | None
    recreated: bool = False

    @property
    def lag(self) -> int:
        """Records between the positions and the ends."""
        starts = {
            partition: self.earliest[partition] if position is None else position
            for partition, position in self.positions.items()
        }
        return sum(max(0, end - starts.get(partition, 0)) for partition, end in self.ends.items())


@dataclass(frozen=True, slots=True)
class Trace:
    """What became of the latest records that were read from the log before the stored position.

    Attributes:
        records: how many were followed; repeated: how many had the id of an earlier one of them.
        dead: kept as dead letters; stored: with a transaction; decided: with a deciding prediction too.
        lost: ids, or offsets of records without one, that are neither stored nor dead letters; at most a few.
        lost_count: how many those are.
    """

    records: int
    repeated: int
    dead: int
    stored: int
    decided: int
    lost_count: int
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TracedRecord:
    """A record of the log; `transaction_id` is None if it has none that can be read."""

    partition: int
    offset: int
    transaction_id: str | None


def trace_of(records: Sequence[TracedRecord], dead: Set[tuple[int, int]], found: Mapping[str, bool]) -> Trace:
    """Follow records to what became of them.

    Args:
        records: in the order of the log; dead: partition and offset of each dead letter.
        found: the ids that are stored, and whether each has a deciding prediction.
    """
    seen: set[str] = set()
    counts = {"repeated": 0, "dead": 0, "stored": 0, "decided": 0}
    lost: list[str] = []
    for record in records:
        identifier = record.transaction_id
        if (record.partition, record.offset) in dead:
            counts["dead"] += 1
        elif identifier is None or identifier not in found:
            lost.append(identifier or f"offset {record.offset} of partition {record.partition}")
        else:
            counts["repeated"] += identifier in seen
            counts["stored"] += 1
            counts["decided"] += found[identifier]
            seen.add(identifier)
    return Trace(len(records), lost_count=len(lost), lost=tuple(lost[:_SHOWN]), **counts)


def completeness(
    trace: Trace | None, undecided: int, rows: int, topic: TopicProgress | None, why: str = ""
) -> Check:
    """Whether every record that was consumed is stored and decided.

    Args:
        trace: None if the log cannot be read, then `why` is the reason.
        undecided: live transactions of the window without a deciding prediction, of `rows`.
    """
    name = "completeness"
    if undecided or (trace is not None and (trace.lost_count or trace.stored > trace.decided)):
        return _incomplete(name, trace, undecided, rows)
    if topic is not None and topic.recreated:
        return Check(
            name,
            Status.FAILED,
            f"The topic {topic.topic} was deleted and created again: the stored position belongs to "
            "the old one.",
            rows=rows,
        )
    if trace is None:
        return insufficient(name, why or "The topic cannot be read.", rows=rows)
    if not trace.records:
        return insufficient(name, "No record was consumed that is still in the log.", rows=rows)
    return Check(
        name,
        Status.PASSED,
        f"Of {plural(trace.records, 'record')} before the position {trace.stored:,} are stored and decided, "
        f"{trace.dead:,} are dead letters, {trace.repeated:,} came again, none is lost; "
        f"all {plural(rows, 'row')} of the window are decided.",
        value=0.0,
        bound=0.0,
        rows=trace.records,
        details=_trace_details(trace, undecided),
    )


def _incomplete(name: str, trace: Trace | None, undecided: int, rows: int) -> Check:
    parts = []
    if undecided:
        parts.append(f"{undecided:,} of {plural(rows, 'row')} of the window have no decision")
    missing = undecided
    if trace is not None and trace.lost_count:
        parts.append(
            f"{trace.lost_count:,} of {plural(trace.records, 'record')} before the position are "
            "neither stored nor "
            f"dead letters ({', '.join(trace.lost)})"
        )
        missing += trace.lost_count
    if trace is not None and (open_ones := trace.stored - trace.decided) > 0:
        parts.append(f"{open_ones:,} records are stored without a decision")
        missing += open_ones
    return Check(
        name,
        Status.FAILED,
        f"{'; '.join(parts)}.",
        value=float(missing),
        bound=0.0,
        rows=trace.records if trace else rows,
        details={} if trace is None else _trace_details(trace, undecided),
    )


def _trace_details(trace: Trace, undecided: int) -> dict[str, object]:
    return {
        "records": trace.records,
        "stored": trace.stored,
        "decided": trace.decided,
        "dead_letters": trace.dead,
        "repeated": trace.repeated,
        "lost": trace.lost_count,
        "undecided": undecided,
    }


def duplicates(
    trace: Trace | None, repeated_rows: int, rows: int, rules: QualityRules, why: str = ""
) -> Check:
    """Whether few records came again with the same id, and few rows have the very same features.

    Rows with the same features only warn: in a contract of few values they may be different transactions.
    """
    name = "duplicates"
    if trace is None and not rows:
        return insufficient(name, why or "The topic cannot be read.", rows=0)
    records, again = (0, 0) if trace is None else (trace.records, trace.repeated)
    if not records and not rows:
        return insufficient(name, "No record and no row to look at.", rows=0)
    status = share_status(again, records, rules.duplicates)
    alike = share_status(repeated_rows, rows, rules.duplicates)
    if status is Status.PASSED and alike is not Status.PASSED:
        status = Status.WARNED
    return Check(
        name,
        status,
        f"{percent(again / max(records, 1))} of {plural(records, 'record')} came again with the same id; "
        f"{percent(repeated_rows / max(rows, 1))} of {plural(rows, 'row')} repeat the features of "
        "another one.",
        value=again / max(records, 1),
        bound=rules.duplicates.fail,
        rows=records or rows,
        details={"repeated_records": again, "repeated_rows": repeated_rows},
    )


def kafka_lag(topics: tuple[TopicProgress, ...], rules: QualityRules) -> Check:
    """Whether few records wait."""
    lag = sum(topic.lag for topic in topics)
    shown = ", ".join(f"{topic.lag:,} in {topic.topic}" for topic in topics)
    return Check(
        "kafka_lag",
        rules.lag.status(lag),
        f"{plural(lag, 'record')} wait: {shown}; {rules.lag.fail:,.0f} are allowed.",
        value=float(lag),
        bound=rules.lag.fail,
        details={topic.topic: topic.lag for topic in topics},
    )


def position(topics: tuple[TopicProgress, ...], rules: QualityRules) -> Check:
    """Whether the position moves while records wait."""
    name, allowed = "pipeline_position", rules.position_age.total_seconds()
    if all(topic.idle_seconds is None and not topic.lag for topic in topics):
        return insufficient(name, "Nothing was produced or consumed yet.", expected=True)
    stuck = [
        topic
        for topic in topics
        if topic.lag and (topic.idle_seconds is None or topic.idle_seconds > allowed)
    ]
    moved = [topic.idle_seconds for topic in topics if topic.idle_seconds is not None]
    if not stuck:
        return Check(
            name,
            Status.PASSED,
            f"The position moved {min(moved):.0f} s ago."
            if moved
            else "Records wait for the first consumer.",
            value=max((topic.idle_seconds or 0.0 for topic in topics if topic.lag), default=0.0),
            bound=allowed,
        )
    worst = max(stuck, key=lambda topic: topic.idle_seconds or float("inf"))
    since = (
        "was never moved" if worst.idle_seconds is None else f"has not moved for {worst.idle_seconds:,.0f} s"
    )
    return Check(
        name,
        Status.FAILED,
        f"{plural(worst.lag, 'record')} of {worst.topic} wait and the position {since}: is a "
        "consumer running?",
        value=worst.idle_seconds,
        bound=allowed,
        details={topic.topic: {"lag": topic.lag, "idle_seconds": topic.idle_seconds} for topic in topics},
    )
