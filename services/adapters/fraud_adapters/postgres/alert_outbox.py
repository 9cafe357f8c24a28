"""The table `alert_outbox`: decisions that wait to be published; `store_scored` inserts them.

`take_alerts` only locks rows: the commit after `delete_alerts` removes them, and a rollback or a lost
connection releases them. Concurrent callers get different rows.
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
    """Lock up to `limit` waiting alerts that no other session has locked, the oldest first.

    Args:
        contract: the contract in force; alerts of other contracts are read from the columns of these names.
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
}  # the column of each role
# Rows are locked in a subquery of their own, so that rows locked by other sessions do not count towards the
# limit.
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
    field, placed = contract.with_role(role), placement(contract)
    if field is None or field.name in placed.columns:
        return value
    expression = placed.expressions(contract)[field.name]
    return f"CASE WHEN contract = %(schema)s THEN {expression} ELSE {value} END"
