"""The fields of a contract: what a transaction consists of."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

FieldType = Literal["decimal", "integer", "boolean", "category", "text"]
Role = Literal["clock", "amount", "label", "card", "merchant"]
Quantile = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]

NUMERIC_TYPES = frozenset({"decimal", "integer", "boolean"})
# Beyond 2**53 a double no longer holds every integer, and a stored value would differ from the scored one.
MAX_DIGITS = 15
# Fields that the records of all contracts have.
ENVELOPE = ("transaction_id", "event_time")


class FieldPreparation(BaseModel):
    """How a field's features are prepared for a model; everything is fitted on the training part.

    Attributes:
        missing: `keep` leaves it to models that take missing values; others then take the median.
        constant: what a missing value becomes with `missing: constant`.
        indicator: whether a further column says that the value is missing.
        clip: lower and upper quantile; values beyond them become them.
        encoding: of a feature with `op: category`.
        scaling: for models that need it; `robust` uses median and interquartile range.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    missing: Literal["keep", "median", "constant"] = "keep"
    constant: float | None = None
    indicator: bool = False
    clip: tuple[Quantile, Quantile] | None = None
    encoding: Literal["one_hot", "ordinal", "target"] = "one_hot"
    scaling: Literal["standard", "robust"] = "standard"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.missing == "constant") != (self.constant is not None):
            raise ValueError("`constant` and `missing: constant` belong together")
        if self.clip is not None and self.clip[0] >= self.clip[1]:
            raise ValueError("clip: the lower quantile must be below the upper one")
        return self


class ContractField(BaseModel):
    """One field of a transaction.

    A `decimal` has `precision` digits, `scale` of them after the point, as Postgres' `numeric`. `min` and
    `max` are inclusive, `below` is exclusive. A `category` takes one of `values`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    type: FieldType
    precision: int = Field(default=MAX_DIGITS, ge=1, le=MAX_DIGITS)
    scale: int = Field(default=0, ge=0, le=MAX_DIGITS)
    min: float | None = None
    max: float | None = None
    below: float | None = None
    values: tuple[str, ...] = ()
    max_length: int = Field(default=64, ge=1, le=1000)
    role: Role | None = None
    required: bool = True
    prepare: FieldPreparation = FieldPreparation()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.name in ENVELOPE:
            raise ValueError(f"field {self.name} is part of every record: do not declare it")
        if self.type == "category" and not self.values:
            raise ValueError(f"field {self.name} is a category: list its values")
        if self.scale > self.precision:
            raise ValueError(f"field {self.name}: scale exceeds precision")
        if self.type != "decimal" and self.scale:
            raise ValueError(f"field {self.name}: only a decimal has a scale")
        if self.type != "category" and self.prepare.encoding != "one_hot":
            raise ValueError(f"field {self.name}: only a category has an encoding")
        if self.type == "category" and (self.prepare.missing != "keep" or self.prepare.clip is not None):
            raise ValueError(
                f"field {self.name}: a category takes neither missing nor clip, see its encoding"
            )
        whole = all(bound is None or bound.is_integer() for bound in (self.min, self.max, self.below))
        if self.type == "integer" and not whole:
            raise ValueError(f"field {self.name}: the bounds of an integer are whole numbers")
        return self

    @property
    def numeric(self) -> bool:
        return self.type in NUMERIC_TYPES

    @cached_property
    def limit(self) -> float:
        """The power of ten that absolute values stay below."""
        return float(10 ** (self.precision - self.scale))

    @cached_property
    def top(self) -> float:
        """The exclusive upper bound: the smaller one of `below` and `limit`."""
        return self.limit if self.below is None else min(self.limit, self.below)
