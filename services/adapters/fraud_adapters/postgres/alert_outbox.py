"""Decisions that wait to be published as alerts: `store_scored` puts them in, who publishes takes them out.

Taken rows are locked, not gone: only the commit after `delete_alerts` removes them, and a rollback or a lost
connection gives them back. Others who take meanwhile get other rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from fraud_adapters.postgres.placement import placement
from fraud_core.contract import Contract

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class Alert:
    """A transaction that was blocked or sent to review, and the decision that did it.

    `amount`, `card_id` and `merchant_id` are the fields of that role; None where the contract or the
    transaction has none.
    """

    transaction_id: str
    contract: str
    event_time: datetime
    amount: float | None
    card_id: str | None
    merchant_id: str | None
    decision: str
    score: float
    is_fraud_predicted: bool
    model_version: str
    policy_version: str
    prediction_time: datetime
    traceparent: str | None


def take_alerts(cur: Cursor, contract: Contract, limit: int) -> list[Alert]:
    """Lock up to `limit` waiting alerts that nobody else has taken, the oldest first.

    Args:
        contract: the one in force; of a transaction of another one the columns of these names count.
    """
    fields = ", ".join(_field(contract, role, column) for role, column in _ROLES.items())
    cur.execute(_TAKE.format(fields=fields), {"schema": contract.schema_id, "limit": limit})
    return [Alert(*row) for row in cur.fetchall()]


def delete_alerts(cur: Cursor, alerts: Sequence[Alert]) -> None:
    """Remove alerts that have been published."""
    cur.execute(_DELETE, ([alert.transaction_id for alert in alerts],))


def alerts_waiting(cur: Cursor) -> int:
    """How many alerts have not been published."""
    cur.execute("SELECT count(*) FROM alert_outbox")
    row: tuple[Any, ...] | None = cur.fetchone()
    return int(row[0]) if row else 0


Role = Literal["amount", "card", "merchant"]
_ROLES: Final[dict[Role, str]] = {
    "amount": "amount",
    "card": "card_id",
    "merchant": "merchant_id",
}  # of a field: its column
# Taken apart from what is read about them: only so is nobody else's row counted in the limit.
_TAKE: Final = """
    WITH taken AS MATERIALIZED (
        SELECT transaction_id, created_at FROM alert_outbox ORDER BY created_at, transaction_id
        LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )
    SELECT transaction_id, contract, event_time, {fields}, decision, score, is_fraud_predicted,
           model_version, policy_version, prediction_time, traceparent
    FROM taken JOIN transactions USING (transaction_id) JOIN predictions USING (transaction_id)
    WHERE deciding ORDER BY taken.created_at, transaction_id
"""
_DELETE: Final = "DELETE FROM alert_outbox WHERE transaction_id = ANY (%s)"


def _field(contract: Contract, role: Role, column: str) -> str:
    value = f"{column}::float8" if role == "amount" else column
    field, where = contract.with_role(role), placement(contract)
    if field is None or field.name in where.columns:
        return value
    own = where.expressions(contract)[field.name]
    return f"CASE WHEN contract = %(schema)s THEN {own} ELSE {value} END"
