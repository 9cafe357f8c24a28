"""Stored predictions with their transactions, by filters: page by page, one alone, and in figures.

Predictions are never changed once they are committed, so the key of a page's last row (time, number) says
exactly where the next page begins: a prediction that was committed before the first page comes once, whatever
is stored meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Double,
    and_,
    cast,
    column,
    func,
    literal_column,
    or_,
    select,
    table,
    tuple_,
)

from fraud_adapters.postgres.composed import fetch
from fraud_adapters.postgres.placement import placement
from fraud_core.contract import Contract

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

BATCH: Final = "batch"  # the role of predictions that belong to a run and decide nothing

_p: Final = table(
    "predictions",
    *map(
        column,
        (
            *("prediction_id", "transaction_id", "model_version", "prediction_time"),
            *("score", "role", "run_id", "decision", "rules_fired", "feature_vector", "engine"),
            *("policy_version", "latency_ms", "traceparent"),
        ),
    ),
    column("deciding", Boolean),
    column("is_fraud_predicted", Boolean),
).alias("p")
_t: Final = table(
    "transactions",
    *map(
        column,
        (
            *("transaction_id", "amount", "class", "class_implied", "event_time", "card_id", "merchant_id"),
            *("source", "contract"),
        ),
    ),
).alias("t")
_s: Final = table(
    "shadow_predictions",
    *map(
        column,
        (
            *("transaction_id", "role", "run_id", "model_version", "score", "decision", "is_fraud_predicted"),
            *("prediction_time", "engine"),
        ),
    ),
).alias("s")


@dataclass(frozen=True, slots=True)
class PredictionFilter:
    """Which predictions are meant; what is None does not restrict.

    Attributes:
        start, end: of the prediction's time; the start is included, the end is not.
        role: without one, the deciding prediction of each transaction; `batch` means those of batch runs.
        labelled: whether the label of the transaction is known now.
    """

    start: datetime | None = None
    end: datetime | None = None
    decisions: tuple[str, ...] = ()
    fraud_predicted: bool | None = None
    model_version: str | None = None
    role: str | None = None
    run_id: str | None = None
    min_score: float | None = None
    max_score: float | None = None
    min_amount: float | None = None
    max_amount: float | None = None
    labelled: bool | None = None
    label: int | None = None
    card_id: str | None = None
    merchant_id: str | None = None
    transaction_id: str | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """The place of a prediction in the order of pages, which is from the newest to the oldest."""

    prediction_time: datetime
    prediction_id: int


@dataclass(frozen=True, slots=True)
class StoredPrediction:
    """A prediction, and what is known of its transaction; the fields are the selected columns."""

    prediction_id: int
    transaction_id: str
    prediction_time: datetime
    event_time: datetime
    score: float
    is_fraud_predicted: bool
    decision: str
    model_version: str
    engine: str
    role: str
    run_id: str | None
    policy_version: str
    rules_fired: Sequence[str]
    latency_ms: float | None
    amount: float | None
    card_id: str | None
    merchant_id: str | None
    source: str
    label: int | None
    label_implied: bool | None

    @property
    def position(self) -> Position:
        return Position(self.prediction_time, self.prediction_id)


@dataclass(frozen=True, slots=True)
class OtherPrediction:
    """What another model said of the transaction: in a batch run, or as the shadow."""

    role: str
    run_id: str | None
    model_version: str
    engine: str
    score: float
    is_fraud_predicted: bool
    decision: str
    prediction_time: datetime


@dataclass(frozen=True, slots=True)
class PredictionDetail:
    """The deciding prediction with the vector that was scored, and the transaction's fields by name."""

    prediction: StoredPrediction
    feature_vector: Sequence[float | None]
    traceparent: str | None
    contract: str
    values: dict[str, Any]
    others: Sequence[OtherPrediction]


@dataclass(frozen=True, slots=True)
class PredictionGroup:
    """The predictions of one version and role with the same verdict, decision and label."""

    model_version: str
    role: str
    decision: str
    is_fraud_predicted: bool
    label: int | None
    predictions: int
    score_sum: float
    amount_sum: float


@dataclass(frozen=True, slots=True)
class ScoredVector:
    """A deciding prediction with what is needed to make it again; NaN in the vector where one was missing."""

    transaction_id: str
    model_version: str
    engine: str
    score: float
    decision: str
    prediction_time: datetime
    feature_vector: Sequence[float]


_COLUMNS: Final[dict[str, ColumnElement[Any]]] = {
    **{field.name: _p.c[field.name] for field in fields(StoredPrediction) if field.name in _p.c},
    **{name: _t.c[name] for name in ("event_time", "card_id", "merchant_id", "source")},
    "latency_ms": cast(_p.c.latency_ms, Double),
    "amount": cast(_t.c.amount, Double),
    "label": _t.c["class"],
    "label_implied": _t.c.class_implied,
}
_SELECTED: Final = tuple(_COLUMNS[field.name] for field in fields(StoredPrediction))
_JOINED: Final = _p.join(_t, _t.c.transaction_id == _p.c.transaction_id)


def read_page(
    cursor: Cursor, which: PredictionFilter, after: Position | None, limit: int
) -> list[StoredPrediction]:
    """The next predictions from the newest to the oldest, behind `after` if it is given."""
    statement = select(*_SELECTED).select_from(_JOINED).where(*_conditions(which))
    if after is not None:
        key = tuple_(_p.c.prediction_time, _p.c.prediction_id)
        statement = statement.where(key < tuple_(after.prediction_time, after.prediction_id))
    statement = statement.order_by(_p.c.prediction_time.desc(), _p.c.prediction_id.desc()).limit(limit)
    return [StoredPrediction(*row) for row in fetch(cursor, statement)]


def read_groups(cursor: Cursor, which: PredictionFilter) -> list[PredictionGroup]:
    """How many predictions there are of each kind, with the sums of their scores and amounts."""
    keys = (_p.c.model_version, _p.c.role, _p.c.decision, _p.c.is_fraud_predicted, _t.c["class"])
    sums = (func.count(), func.sum(_p.c.score), cast(func.coalesce(func.sum(_t.c.amount), 0), Double))
    statement = select(*keys, *sums).select_from(_JOINED).where(*_conditions(which)).group_by(*keys)
    return [PredictionGroup(*row) for row in fetch(cursor, statement.order_by(*keys))]


def read_detail(cursor: Cursor, contract: Contract, transaction_id: str) -> PredictionDetail | None:
    """The deciding prediction of a transaction; None if there is none."""
    further = (_p.c.feature_vector, _p.c.traceparent, _t.c.contract)
    condition = and_(_p.c.transaction_id == transaction_id, _p.c.deciding)
    rows = fetch(cursor, select(*_SELECTED, *further).select_from(_JOINED).where(condition))
    if not rows:
        return None
    *values, vector, traceparent, schema = rows[0]
    return PredictionDetail(
        StoredPrediction(*values),
        vector,
        traceparent,
        schema,
        _fields_of(cursor, contract, transaction_id) if schema == contract.schema_id else {},
        _others(cursor, transaction_id),
    )


def read_vectors(cursor: Cursor, transaction_ids: Sequence[str]) -> list[ScoredVector]:
    """The deciding predictions of transactions; those that nobody decided are left out."""
    columns = [_p.c[field.name] for field in fields(ScoredVector)]
    of_these = _p.c.transaction_id == func.any(list(transaction_ids))
    return [ScoredVector(*row) for row in fetch(cursor, select(*columns).where(of_these, _p.c.deciding))]


def sample_vectors(cursor: Cursor, size: int, source: Random) -> list[ScoredVector]:
    """At most so many stored predictions, whatever their role, drawn at random by their numbers.

    Numbers have gaps, so more of them are drawn than are needed; a table of which hardly any number is used
    gives fewer rows.
    """
    bounds = select(func.min(_p.c.prediction_id), func.max(_p.c.prediction_id))
    [(low, high)] = fetch(cursor, bounds)
    if low is None:
        return []
    numbers = range(low, high + 1)
    drawn = source.sample(numbers, min(len(numbers), 4 * size))
    columns = [_p.c[field.name] for field in fields(ScoredVector)]
    rows = fetch(cursor, select(_p.c.prediction_id, *columns).where(_p.c.prediction_id == func.any(drawn)))
    place = {number: position for position, number in enumerate(drawn)}
    return [ScoredVector(*row) for _, *row in sorted(rows, key=lambda row: place[row[0]])[:size]]


def _fields_of(cursor: Cursor, contract: Contract, transaction_id: str) -> dict[str, Any]:
    expressions = placement(contract).expressions(contract)
    columns: list[ColumnElement[Any]] = [
        literal_column(text).label(f"field_{place}") for place, text in enumerate(expressions.values())
    ]
    rows = fetch(cursor, select(*columns).select_from(_t).where(_t.c.transaction_id == transaction_id))
    return dict(zip(expressions, rows[0], strict=True)) if rows else {}


def _others(cursor: Cursor, transaction_id: str) -> list[OtherPrediction]:
    names = [field.name for field in fields(OtherPrediction)]
    of_runs = select(*(_p.c[name] for name in names)).where(
        _p.c.transaction_id == transaction_id, ~_p.c.deciding
    )
    of_shadow = select(*(_s.c[name] for name in names)).where(_s.c.transaction_id == transaction_id)
    rows = [*fetch(cursor, of_runs), *fetch(cursor, of_shadow)]
    return sorted((OtherPrediction(*row) for row in rows), key=lambda other: other.prediction_time)


def _conditions(which: PredictionFilter) -> list[ColumnElement[bool]]:
    conditions = [_p.c.deciding if which.role != BATCH else ~_p.c.deciding]
    conditions += [expression == value for expression, value in _equalities(which) if value is not None]
    conditions += [compared for compared in _ranges(which) if compared is not None]
    if which.decisions:
        conditions.append(or_(*(_p.c.decision == decision for decision in which.decisions)))
    if which.labelled is not None:
        conditions.append(_t.c["class"].is_not(None) if which.labelled else _t.c["class"].is_(None))
    if which.fraud_predicted is not None:
        # As a bare column, in which form the partial index of frauds is recognised.
        flagged = _p.c.is_fraud_predicted
        conditions.append(flagged if which.fraud_predicted else ~flagged)
    return conditions


def _equalities(which: PredictionFilter) -> list[tuple[ColumnElement[Any], Any]]:
    return [
        (_p.c.role, which.role),
        (_p.c.run_id, which.run_id),
        (_p.c.model_version, which.model_version),
        (_p.c.transaction_id, which.transaction_id),
        (_t.c["class"], which.label),
        (_t.c.card_id, which.card_id),
        (_t.c.merchant_id, which.merchant_id),
    ]


def _ranges(which: PredictionFilter) -> list[ColumnElement[bool] | None]:
    return [
        None if which.start is None else _p.c.prediction_time >= which.start,
        None if which.end is None else _p.c.prediction_time < which.end,
        None if which.min_score is None else _p.c.score >= which.min_score,
        None if which.max_score is None else _p.c.score <= which.max_score,
        None if which.min_amount is None else _t.c.amount >= which.min_amount,
        None if which.max_amount is None else _t.c.amount <= which.max_amount,
    ]
