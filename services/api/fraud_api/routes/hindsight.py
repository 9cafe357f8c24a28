"""Why a stored decision was made, and whether its recorded model still makes it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from fraud_adapters.postgres.prediction_queries import ScoredVector
from fraud_api.access import Reader
from fraud_api.dependencies import ApiService
from fraud_api.hindsight import MOST_REASONS, explanation_document
from fraud_api.openapi import problems
from fraud_api.routes.predictions import TransactionId

router = APIRouter(prefix="/predictions", tags=["predictions"])


class Reason(BaseModel):
    """One feature's part in a score."""

    feature: str
    value: float | None = Field(description="null where it was missing")
    contribution: float = Field(description="to the log-odds of fraud")
    direction: Literal["raises", "lowers"]
    share_below: float | None = Field(
        description="at least so many of the training rows, as a share, have a lower value"
    )
    share_above: float | None = Field(description="… a higher value")
    sentence: str


class Explanation(BaseModel):
    """Reasons for a score. base + all contributions, those of `rest` included, is `log_odds`."""

    available: bool
    problem: str | None = Field(default=None, description="why there is no explanation")
    method: Literal["tree_shap", "reference_shapley"] | None = None
    of: str | None = Field(default=None, description="which output of which kind of model is explained")
    base: float | None = Field(default=None, description="log-odds of fraud without any feature")
    log_odds: float | None = Field(default=None, description="of the score")
    reasons: list[Reason] | None = Field(default=None, description="the strongest first")
    rest: float | None = Field(default=None, description="what all other features contribute together")


class _Decision(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    transaction_id: str
    model_version: str
    engine: str
    prediction_time: datetime
    decision: str


class ExplainedDecision(Explanation, _Decision):
    """A stored decision, with the reasons for its score."""

    score: float


class ReplayedDecision(_Decision):
    """A stored decision, and the score that its recorded model gives its stored features now."""

    stored_score: float
    replayed_score: float
    identical: bool = Field(description="whether both are the same number, to the last bit")

    @classmethod
    def of(cls, scored: ScoredVector, score: float, *, identical: bool) -> Self:
        return cls(**_described(scored), stored_score=scored.score, replayed_score=score, identical=identical)


@router.get(
    "/{transaction_id}/explanation",
    summary="Why a transaction has its score",
    responses=problems(404, 409),
    response_model_exclude_defaults=True,
)
def explain_prediction(
    _: Reader,
    backend: ApiService,
    transaction_id: TransactionId,
    limit: Annotated[int, Query(ge=1, le=1000, description="how many reasons")] = MOST_REASONS,
) -> ExplainedDecision:
    """By the version that made the decision, from the features that it saw; 409 where it gives no reasons."""
    explained = backend.hindsight.explain(transaction_id)
    scored = explained.scored
    return ExplainedDecision(
        **_described(scored), score=scored.score, **explanation_document(explained, limit)
    )


@router.post(
    "/{transaction_id}/replay",
    summary="Score a stored decision again and compare",
    responses=problems(404, 409),
)
def replay_prediction(_: Reader, backend: ApiService, transaction_id: TransactionId) -> ReplayedDecision:
    """By the recorded version and engine, from the stored features; nothing is stored."""
    replayed = backend.hindsight.replay(transaction_id)
    return ReplayedDecision.of(replayed.scored, replayed.score, identical=replayed.identical)


def _described(scored: ScoredVector) -> dict[str, str | datetime]:
    return {name: getattr(scored, name) for name in _Decision.model_fields}
