"""Deciding predictions with their transactions, page by page, the newest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


class Listing(StrEnum):
    """Which decisions a list holds: by what was predicted, or where the prediction was wrong."""

    FRAUDS = "frauds"
    NON_FRAUDS = "non_frauds"
    FALSE_POSITIVES = "false_positives"
    FALSE_NEGATIVES = "false_negatives"


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ends: the row with this time and id was its last."""

    time: datetime
    prediction_id: int


@dataclass(frozen=True, slots=True)
class DecisionFilter:
    """Which decisions of a list are shown; None means any.

    Attributes:
        text: the transaction, card or merchant with exactly this id.
        truth: `fraud`, `legitimate`, or `unknown` while nobody has said.
        since, until: of the prediction's time, `until` exclusive.
    """

    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_amount: float | None = None
    max_amount: float | None = None
    min_score: float | None = None
    max_score: float | None = None
    decision: str | None = None
    version: str | None = None
    truth: str | None = None


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """One decision in a list."""

    prediction_id: int
    transaction_id: str
    prediction_time: datetime
    event_time: datetime
    amount: float | None
    card_id: str | None
    score: float
    decision: str
    is_fraud_predicted: bool
    model_version: str
    transaction_class: int | None
    class_implied: bool | None
    case_id: int | None
    case_state: str | None

    @property
    def position(self) -> Position:
        return Position(self.prediction_time, self.prediction_id)


_SELECT: Final = """
    SELECT p.prediction_id, p.transaction_id, p.prediction_time, x.event_time, x.amount::float8, x.card_id,
        p.score, p.decision, p.is_fraud_predicted, p.model_version, x.class, x.class_implied, c.case_id,
        c.state
    FROM predictions p JOIN transactions x ON x.transaction_id = p.transaction_id
    LEFT JOIN cases c ON c.transaction_id = p.transaction_id
"""
_LISTINGS: Final = {
    Listing.FRAUDS: "p.is_fraud_predicted",
    Listing.NON_FRAUDS: "NOT p.is_fraud_predicted",
    Listing.FALSE_POSITIVES: "p.is_fraud_predicted AND x.class = 0",
    Listing.FALSE_NEGATIVES: "NOT p.is_fraud_predicted AND x.class = 1",
}
_CONDITIONS: Final = {
    "since": "p.prediction_time >= %(since)s",
    "until": "p.prediction_time < %(until)s",
    "min_amount": "x.amount >= %(min_amount)s",
    "max_amount": "x.amount <= %(max_amount)s",
    "min_score": "p.score >= %(min_score)s",
    "max_score": "p.score <= %(max_score)s",
    "decision": "p.decision = %(decision)s",
    "version": "p.model_version = %(version)s",
}
_TRUTHS: Final = {"fraud": "x.class = 1", "legitimate": "x.class = 0", "unknown": "x.class IS NULL"}
# One lookup for each index, instead of an OR that none serves.
_BY_TEXT: Final = (
    "p.transaction_id IN (SELECT transaction_id FROM transactions WHERE transaction_id = %(text)s"
    " UNION ALL (SELECT transaction_id FROM transactions WHERE card_id = %(text)s"
    " ORDER BY event_time DESC LIMIT 1000)"
    " UNION ALL (SELECT transaction_id FROM transactions WHERE merchant_id = %(text)s"
    " ORDER BY event_time DESC LIMIT 1000))"
)


def list_decisions(
    cursor: Cursor, listing: Listing, chosen: DecisionFilter, limit: int, after: Position | None = None
) -> list[DecisionRow]:
    """At most `limit` decisions that come after a position, the newest first."""
    values: dict[str, Any] = {name: getattr(chosen, name) for name in (*_CONDITIONS, "text")}
    values["limit"] = limit
    conditions = ["p.deciding", _LISTINGS[listing]]
    conditions += [text for name, text in _CONDITIONS.items() if values[name] is not None]
    if chosen.text:
        conditions.append(_BY_TEXT)
    if chosen.truth in _TRUTHS:
        conditions.append(_TRUTHS[chosen.truth])
    if after is not None:
        values |= {"after_time": after.time, "after_id": after.prediction_id}
        conditions.append("(p.prediction_time, p.prediction_id) < (%(after_time)s, %(after_id)s)")
    order = " ORDER BY p.prediction_time DESC, p.prediction_id DESC LIMIT %(limit)s"
    cursor.execute(f"{_SELECT} WHERE {' AND '.join(conditions)}{order}", values)
    return [DecisionRow(*row) for row in cursor.fetchall()]


def of_transaction(cursor: Cursor, transaction_id: str) -> DecisionRow | None:
    """The deciding prediction of a transaction."""
    cursor.execute(f"{_SELECT} WHERE p.deciding AND p.transaction_id = %s", (transaction_id,))
    row = cursor.fetchone()
    return None if row is None else DecisionRow(*row)
