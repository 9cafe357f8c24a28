"""Columns that several tables share."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ARRAY, BIGINT, BOOLEAN, NUMERIC, REAL, VARCHAR, Column, Identity, text
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION, JSONB, TIMESTAMP

MOMENT = TIMESTAMP(timezone=True)
IDENTIFIER = VARCHAR(50)
NOW = text("now()")
JSON = JSONB


def required(name: str, kind: Any, *items: Any, **options: Any) -> Column[Any]:
    """A column that is never null."""
    return Column(name, kind, *items, nullable=False, **options)


def number(name: str) -> Column[Any]:
    """A primary key the database counts up."""
    return Column(name, BIGINT, Identity(always=True), primary_key=True)


def said_about(feature_vector_nullable: bool, role: str) -> list[Column[Any]]:
    """What a model said: the columns that predictions and shadow predictions share, from the score on."""
    return [
        required("fraud_score", NUMERIC(5, 4)),
        required("is_fraud_predicted", BOOLEAN),
        required("model_version", VARCHAR(20)),
        required("prediction_time", MOMENT, server_default=NOW),
        required("score", DOUBLE_PRECISION),
        required("role", VARCHAR(20), server_default=role),
        Column("run_id", VARCHAR(100)),
        required("decision", VARCHAR(10)),
        Column("feature_vector", ARRAY(REAL), nullable=feature_vector_nullable),
        required("engine", VARCHAR(40)),
        required("policy_version", VARCHAR(20), server_default="0"),
        Column("latency_ms", REAL),
        Column("traceparent", VARCHAR(60)),
    ]
