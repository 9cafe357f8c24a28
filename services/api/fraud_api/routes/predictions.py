"""Stored predictions: pages with filters, figures, one with everything, and its label."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal, Self

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from fraud_adapters.postgres import labels
from fraud_adapters.postgres.labels import PersonReport
from fraud_adapters.postgres.prediction_queries import (
    Position,
    PredictionDetail,
    PredictionFilter,
    PredictionGroup,
    StoredPrediction,
    read_detail,
    read_groups,
    read_page,
)
from fraud_api.access import Labeller, Reader
from fraud_api.dependencies import ApiService, QueryDatabase
from fraud_api.openapi import problems
from fraud_api.problems import Problem
from fraud_core import cursors
from fraud_core.decision import Decision
from fraud_core.identifiers import uuid7
from fraud_core.metrics import Confusion
from fraud_core.moments import parse_moment

router = APIRouter(prefix="/predictions", tags=["predictions"])

MAX_PAGE: Final = 1000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TEXT: Final = r"^[\x20-\x7e]+$"
NOT_DECIDED: Final = "No prediction decides a transaction with this id."

TransactionId = Annotated[str, Path(min_length=1, max_length=50, pattern=_TEXT)]
Moment = Annotated[
    datetime,
    BeforeValidator(parse_moment),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Filters(BaseModel):
    """Which predictions are meant. Without a `role`, the deciding one of each transaction."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    start: Moment | None = Field(default=None, alias="from", description="made at this time or later")
    end: Moment | None = Field(default=None, alias="to", description="made before this time")
    decision: list[Decision] = Field(
        default=[], max_length=3, description="one of them, if several are given"
    )
    is_fraud_predicted: bool | None = Field(
        default=None, description="whether the score reaches the threshold"
    )
    model_version: Annotated[str, Field(max_length=20, pattern=_TEXT)] | None = None
    role: Literal["champion", "canary", "batch"] | None = Field(
        default=None, description="batch: those of batch runs, which decide nothing"
    )
    run_id: Annotated[str, Field(max_length=100, pattern=_TEXT)] | None = Field(
        default=None, description="of a batch run"
    )
    min_score: Finite | None = None
    max_score: Finite | None = None
    min_amount: Finite | None = None
    max_amount: Finite | None = None
    labelled: bool | None = Field(default=None, description="whether the label is known now")
    label: Annotated[int, Field(ge=0, le=1)] | None = Field(
        default=None, description="what is known now; 1 is fraud"
    )
    card_id: Text | None = None
    merchant_id: Text | None = None
    transaction_id: Annotated[str, Field(max_length=50, pattern=_TEXT)] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for low, high in (
            (self.start, self.end),
            (self.min_score, self.max_score),
            (self.min_amount, self.max_amount),
        ):
            if low is not None and high is not None and low > high:  # type: ignore[operator]
                raise ValueError("the beginning of a range lies above its end")
        return self

    def to_filter(self) -> PredictionFilter:
        values = {name: getattr(self, name) for name in _SAME_NAMES}
        return PredictionFilter(
            **values, decisions=tuple(map(str, self.decision)), fraud_predicted=self.is_fraud_predicted
        )


_SAME_NAMES: Final = tuple(
    name for name in Filters.model_fields if name not in {"decision", "is_fraud_predicted"}
)


class PageFilters(Filters):
    """The filters, and which page of what they select."""

    limit: int = Field(default=50, ge=1, le=MAX_PAGE, description="rows of a page")
    cursor: Annotated[str, Field(max_length=cursors.MAX_LENGTH)] | None = Field(
        default=None, description="`next_cursor` of the page before, with the same filters"
    )


class PredictionSummary(BaseModel):
    """A stored prediction, and what is known of its transaction."""

    model_config = ConfigDict(protected_namespaces=())

    transaction_id: str
    prediction_time: datetime
    event_time: datetime
    score: float
    is_fraud_predicted: bool
    decision: str
    flag: str
    model_version: str
    engine: str
    role: str
    run_id: str | None
    policy_version: str
    rules_fired: list[str]
    latency_ms: float | None
    amount: float | None
    card_id: str | None
    merchant_id: str | None
    source: str = Field(description="stream, api, or simulator for history that was written directly")
    label: int | None = Field(description="what is known now; 1 is fraud, null that nothing is known")
    label_implied: bool | None = Field(description="nobody reported it within the time for reports")

    @classmethod
    def of(cls, stored: StoredPrediction) -> Self:
        # Much faster than `asdict`, which copies every value.
        values = {name: getattr(stored, name) for name in _SHOWN}
        return cls(**values, flag=Decision(stored.decision).flag)


_SHOWN: Final = tuple(name for name in PredictionSummary.model_fields if name != "flag")


class PredictionPage(BaseModel):
    """Predictions from the newest to the oldest."""

    predictions: list[PredictionSummary]
    next_cursor: str | None = Field(description="null where this page is the last one")


class Quality(BaseModel):
    """The verdicts at the threshold against the labels that are known now; null where nothing is to be
    divided by."""

    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    recall: float | None
    precision: float | None
    f1: float | None
    false_positive_rate: float | None
    accuracy: float | None


class Figures(BaseModel):
    """Figures of a set of predictions."""

    predictions: int
    frauds_predicted: int
    fraud_rate: float | None = Field(description="the share of frauds among the predictions")
    mean_score: float | None
    amount: float
    amount_of_frauds_predicted: float
    decisions: dict[str, int]
    labelled: int = Field(description="transactions whose label is known now")
    frauds_labelled: int
    quality: Quality = Field(description="of the labelled ones")


class _VersionInRole(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    model_version: str
    role: str


class VersionFigures(Figures, _VersionInRole):
    """Figures of the predictions of one model version in one role."""


class PredictionStatistics(Figures):
    """Figures of all selected predictions, and of each model version in each role."""

    versions: list[VersionFigures]


class OtherModel(BaseModel):
    """What another model said of the transaction, in a batch run or as the shadow; it decided nothing."""

    model_config = ConfigDict(protected_namespaces=())

    role: str
    run_id: str | None
    model_version: str
    engine: str
    score: float
    is_fraud_predicted: bool
    decision: str
    prediction_time: datetime


class PredictionDocument(PredictionSummary):
    """The deciding prediction of a transaction with all that is stored of it."""

    traceparent: str | None
    contract: str
    transaction: dict[str, Any] = Field(
        description="the contract's fields; empty if it was stored under another one"
    )
    features: dict[str, float | None] = Field(
        description="what the model saw; null where a value was missing"
    )
    others: list[OtherModel]


class LabelRequest(BaseModel):
    """What a person found out about a transaction."""

    model_config = ConfigDict(extra="forbid", strict=True)

    label: Annotated[int, Field(ge=0, le=1, description="1 is fraud")]
    note: Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]+$")] | None = Field(
        default=None, description="kept in the audit log, and with the case if there is one"
    )


class LabelAnswer(BaseModel):
    """The report as the ledger has it, and what holds now."""

    transaction_id: str
    label: int
    label_id: str
    source: Literal["analyst"]
    reported_by: str
    reported_at: datetime
    stored: bool = Field(description="false where this client had reported the same before")
    class_now: int | None = Field(
        description="what holds now; a source with more precedence may say otherwise"
    )
    closed_case: int | None = Field(description="the case that this report closed or decided anew")


def page_of(
    database: QueryDatabase, filters: PageFilters, route: str, which: PredictionFilter
) -> PredictionPage:
    """The page that the filters name; raises Problem 422 for a cursor that is not one of this query."""
    query = f"{route} {which}"
    after = None
    if filters.cursor is not None:
        try:
            micros, number = cursors.decode(filters.cursor, query, width=2)
            after = Position(_EPOCH + timedelta(microseconds=micros), number)
        except (cursors.InvalidCursor, OverflowError) as error:
            raise Problem(422, str(error)) from None
    # One more than the page holds shows whether it is the last one.
    rows = database.run(lambda cursor: read_page(cursor, which, after, filters.limit + 1))
    page = rows[: filters.limit]
    further = len(rows) > filters.limit
    return PredictionPage(
        predictions=[PredictionSummary.of(row) for row in page],
        next_cursor=cursors.encode(_key(page[-1].position), query) if further else None,
    )


def _key(position: Position) -> tuple[int, int]:
    return (position.prediction_time - _EPOCH) // timedelta(microseconds=1), position.prediction_id


Page = Annotated[PageFilters, Query()]


@router.get("", summary="Predictions by filters, the newest first")
def list_predictions(_: Reader, database: QueryDatabase, filters: Page) -> PredictionPage:
    """One page; `next_cursor` leads to the next one.

    A prediction that was stored when the first page was answered comes once, whatever is stored meanwhile.
    """
    return page_of(database, filters, "all", filters.to_filter())


@router.get("/frauds", summary="Predicted frauds by filters, the newest first")
def list_frauds(_: Reader, database: QueryDatabase, filters: Page) -> PredictionPage:
    """As `/predictions`, with scores that reach the threshold of their model."""
    return page_of(database, filters, "frauds", replace(filters.to_filter(), fraud_predicted=True))


@router.get("/non-frauds", summary="Predictions that are not of frauds by filters, the newest first")
def list_non_frauds(_: Reader, database: QueryDatabase, filters: Page) -> PredictionPage:
    """As `/predictions`, with scores below the threshold of their model."""
    return page_of(database, filters, "non-frauds", replace(filters.to_filter(), fraud_predicted=False))


@router.get("/stats", summary="Figures of the predictions that filters select")
def summarise_predictions(
    _: Reader, database: QueryDatabase, filters: Annotated[Filters, Query()]
) -> PredictionStatistics:
    """Counts, amounts, and the verdicts against the labels known now: of all, and by model version."""
    groups = database.run(lambda cursor: read_groups(cursor, filters.to_filter()))
    versions = dict.fromkeys((group.model_version, group.role) for group in groups)
    return PredictionStatistics(
        **_figures(groups),
        versions=[
            VersionFigures(
                model_version=version,
                role=role,
                **_figures(
                    [group for group in groups if (group.model_version, group.role) == (version, role)]
                ),
            )
            for version, role in versions
        ],
    )


@router.get("/{transaction_id}", summary="The decision about a transaction", responses=problems(404))
def get_prediction(
    _: Reader, backend: ApiService, database: QueryDatabase, transaction_id: TransactionId
) -> PredictionDocument:
    """The deciding prediction with the transaction, the features and what other models said."""
    contract = backend.contract
    detail = database.run(lambda cursor: read_detail(cursor, contract, transaction_id))
    if detail is None:
        raise Problem(404, NOT_DECIDED)
    return _document(detail, contract.feature_names)


@router.put(
    "/{transaction_id}/label", summary="Report what is true of a transaction", responses=problems(400, 404)
)
def set_label(
    identity: Labeller, database: QueryDatabase, transaction_id: TransactionId, report: LabelRequest
) -> LabelAnswer:
    """Into the ledger as an analyst's report by this client, with the case and the audit log in one
    transaction.

    A repetition changes nothing; another label by the same client is a new report, and the later one counts.
    """
    return store_label(database, transaction_id, report, identity.client_id)


def store_label(
    database: QueryDatabase, transaction_id: str, report: LabelRequest, reporter: str
) -> LabelAnswer:
    """Store a report; raises Problem 404 if the transaction is unknown."""
    # Made here and once, so that a transaction that is tried again stores the same label.
    new_id = uuid7(time.time_ns() // 1_000_000, os.urandom(10))
    of_person = PersonReport(new_id, transaction_id, report.label, report.note, reporter)
    result = database.run(lambda cursor: labels.set_label(cursor, of_person))
    if result is None:
        raise Problem(404, "There is no transaction with this id.")
    return LabelAnswer(
        transaction_id=transaction_id,
        label=report.label,
        source="analyst",
        reported_by=reporter,
        **asdict(result),
    )


def _document(detail: PredictionDetail, names: Sequence[str]) -> PredictionDocument:
    vector = detail.feature_vector
    features = dict(zip(names, map(_finite, vector), strict=True)) if len(names) == len(vector) else {}
    return PredictionDocument(
        **PredictionSummary.of(detail.prediction).model_dump(),
        traceparent=detail.traceparent,
        contract=detail.contract,
        transaction=detail.values,
        features=features,
        others=[OtherModel(**asdict(other)) for other in detail.others],
    )


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _figures(groups: Sequence[PredictionGroup]) -> dict[str, Any]:
    def total(of: Callable[[PredictionGroup], float], among: Iterable[PredictionGroup] = groups) -> Any:
        return sum(of(group) for group in among)

    count = total(_count)
    flagged = [group for group in groups if group.is_fraud_predicted]
    known = [group for group in groups if group.label is not None]
    decisions: Counter[str] = Counter({str(decision): 0 for decision in Decision})
    for group in groups:
        decisions[group.decision] += group.predictions
    return {
        "predictions": count,
        "frauds_predicted": total(_count, flagged),
        "fraud_rate": total(_count, flagged) / count if count else None,
        "mean_score": total(lambda group: group.score_sum) / count if count else None,
        "amount": round(total(_amount), 2),
        "amount_of_frauds_predicted": round(total(_amount, flagged), 2),
        "decisions": dict(decisions),
        "labelled": total(_count, known),
        "frauds_labelled": total(_count, [group for group in known if group.label == 1]),
        "quality": _quality(known),
    }


def _count(group: PredictionGroup) -> int:
    return group.predictions


def _amount(group: PredictionGroup) -> float:
    return group.amount_sum


def _quality(known: Sequence[PredictionGroup]) -> Quality:
    cells: Counter[tuple[bool, int | None]] = Counter()
    for group in known:
        cells[group.is_fraud_predicted, group.label] += group.predictions
    counts = Confusion(tp=cells[True, 1], fp=cells[True, 0], tn=cells[False, 0], fn=cells[False, 1])
    return Quality(
        true_positives=counts.tp,
        false_positives=counts.fp,
        true_negatives=counts.tn,
        false_negatives=counts.fn,
        recall=counts.recall,
        precision=counts.precision,
        f1=counts.f1,
        false_positive_rate=counts.fpr,
        accuracy=counts.accuracy,
    )
