"""Checks of what is in the tables: schema, volume, freshness, time of arrival, dead letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg2.extensions import connection as Connection  # noqa: N812

from fraud_adapters.postgres import arrivals, dead_letters, served_predictions
from fraud_adapters.postgres.arrivals import Window, WindowCounts
from fraud_core.quality import flow
from fraud_core.quality.checks import Check, insufficient
from fraud_core.quality.schema import SchemaEvidence, schema
from fraud_monitor.guarded import guarded
from fraud_monitor.run_context import RunContext


@dataclass(frozen=True, slots=True)
class Counted:
    """What was counted in the tables; a sentence where that failed."""

    window: WindowCounts | str
    earlier: Sequence[int] | str
    ends: tuple[datetime | None, datetime | None] | str
    vectors: tuple[int, int] | str
    undecided: int | str
    dead: Mapping[str, int] | str
    end: datetime

    @property
    def rows(self) -> int:
        return 0 if isinstance(self.window, str) else self.window.rows


def count(context: RunContext, connection: Connection, window: Window) -> Counted:
    """Count everything the checks of this module and the stream's need."""
    rules, contract = context.parameters.quality, context.contract

    def dead() -> Mapping[str, int]:
        with connection, connection.cursor() as cursor:
            return dead_letters.count_in_window(cursor, context.kafka().topic, window.start, window.end)

    return Counted(
        window=guarded(
            "transactions",
            lambda: arrivals.count_window(connection, contract, window, rules.ahead, rules.late),
        ),
        earlier=guarded(
            "transactions", lambda: arrivals.count_earlier(connection, window, rules.volume.days)
        ),
        ends=guarded("transactions", lambda: arrivals.first_and_last(connection)),
        vectors=guarded(
            "predictions",
            lambda: served_predictions.count_vectors(
                connection, window.start, window.end, len(contract.features)
            ),
        ),
        undecided=guarded("predictions", lambda: arrivals.count_undecided(connection, window)),
        dead=guarded("dead_letters", dead),
        end=window.end,
    )


def checks(context: RunContext, counted: Counted, champion: Sequence[str] | None) -> list[Check]:
    """The checks of this module; `champion`: the features of the champion, None if they are not known."""
    return [
        _schema(context, counted, champion),
        *_arrivals(context, counted),
        *_dead_letters(context, counted),
    ]


def _schema(context: RunContext, counted: Counted, champion: Sequence[str] | None) -> Check:
    window, vectors = counted.window, counted.vectors
    if isinstance(window, str) or isinstance(vectors, str):
        return insufficient("schema", window if isinstance(window, str) else str(vectors))
    total, odd = vectors
    evidence = SchemaEvidence(window.rows, window.foreign, window.absent, window.beyond, total, odd, champion)
    return schema(evidence, context.contract.feature_names)


def _arrivals(context: RunContext, counted: Counted) -> list[Check]:
    rules, names = context.parameters.quality, ("volume", "freshness", "clock_skew")
    window, earlier, ends = counted.window, counted.earlier, counted.ends
    if isinstance(window, str) or isinstance(earlier, str) or isinstance(ends, str):
        reason = next(one for one in (window, earlier, ends) if isinstance(one, str))
        return [insufficient(name, reason) for name in names]
    seen = flow.Arrivals(
        now=counted.end,
        rows=window.rows,
        earlier=earlier,
        first=ends[0],
        last=ends[1],
        ahead=window.ahead,
        late=window.late,
        delay_p50=window.delay_p50,
        delay_p99=window.delay_p99,
    )
    return [flow.volume(seen, rules), flow.freshness(seen, rules), flow.skew(seen, rules)]


def _dead_letters(context: RunContext, counted: Counted) -> list[Check]:
    window, dead = counted.window, counted.dead
    if isinstance(window, str) or isinstance(dead, str):
        reason = window if isinstance(window, str) else str(dead)
        return [insufficient(name, reason) for name in ("dead_letters", "conflicting_ids")]
    return [
        flow.dead_letters(window.streamed, dead, context.parameters.quality),
        flow.conflicting_ids(window.streamed, dead),
    ]
