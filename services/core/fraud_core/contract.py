"""A contract says what a transaction is and which features the model sees."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fraud_core.bounds import NumericBounds

FieldType = Literal["decimal", "integer", "boolean", "category", "text"]
Role = Literal["clock", "amount", "label", "card", "merchant"]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]

NUMERIC_TYPES = frozenset({"decimal", "integer", "boolean"})
# Beyond 2**53 a double no longer holds every integer, and a stored value would differ from the scored one.
MAX_DIGITS = 15
# Names every record has in common, whatever the contract.
ENVELOPE = ("transaction_id", "event_time")


class ContractError(ValueError):
    """A contract that cannot be used; the message names the field and the fix.

    Attributes:
        location: the path of the value that is wrong, where it is one value.
    """

    def __init__(self, message: str, location: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.location = location


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
        whole = all(bound is None or bound.is_integer() for bound in (self.min, self.max, self.below))
        if self.type == "integer" and not whole:
            raise ValueError(f"field {self.name}: the bounds of an integer are whole numbers")
        return self

    @property
    def numeric(self) -> bool:
        return self.type in NUMERIC_TYPES

    @cached_property
    def limit(self) -> float:
        """Absolute values reach at most below this power of ten."""
        return float(10 ** (self.precision - self.scale))

    @cached_property
    def top(self) -> float:
        """Values stay below this: `below`, or the limit where that is less."""
        return self.limit if self.below is None else min(self.limit, self.below)


class Feature(BaseModel):
    """One input of the model, computed from one field.

    `field` takes the value, `modulo` the remainder of a division by `by`, `equals` is 1 where the
    field has the value `value` and 0 elsewhere.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    op: Literal["field", "modulo", "equals"]
    of: Name
    by: float | None = Field(default=None, gt=0)
    value: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.op == "modulo" and self.by is None:
            raise ValueError(f"feature {self.name}: modulo needs `by`")
        if self.op == "equals" and self.value is None:
            raise ValueError(f"feature {self.name}: equals needs `value`")
        return self


class Contract(BaseModel):
    """The transaction schema of one installation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    version: int = Field(ge=1)
    fields: tuple[ContractField, ...] = Field(min_length=1)
    features: tuple[Feature, ...] = Field(min_length=1)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Build a contract from the content of its YAML file.

        Raises:
            ContractError: one sentence naming what is wrong and where.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            message = first["msg"].removeprefix("Value error, ")
            raise ContractError(f"{where}: {message}" if where else message, first["loc"]) from None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        names = [field.name for field in self.fields]
        if len(names) != len(set(names)):
            raise ValueError("two fields have the same name")
        if len(self.feature_names) != len(set(self.feature_names)):
            raise ValueError("two features have the same name")
        for role in ("clock", "amount", "label", "card", "merchant"):
            if sum(field.role == role for field in self.fields) > 1:
                raise ValueError(f"two fields have the role {role}")
        if self.label_field is not None and self.label_field.required:
            raise ValueError("the label is not known when a transaction arrives: set required: false")
        for feature in self.features:
            self._check_feature(feature)
        return self

    def _check_feature(self, feature: Feature) -> None:
        field = next((field for field in self.fields if field.name == feature.of), None)
        if field is None:
            raise ValueError(f"feature {feature.name} uses {feature.of}, which is no field")
        if field.role == "label":
            raise ValueError(f"feature {feature.name} uses the label")
        if feature.op == "equals" and feature.value not in field.values:
            raise ValueError(f"feature {feature.name}: {feature.value} is no value of {field.name}")
        if feature.op != "equals" and not field.numeric:
            raise ValueError(f"feature {feature.name}: {field.name} is not numeric, use equals")

    @property
    def schema_id(self) -> str:
        """Name and version as messages carry them, for example `creditcard/1`."""
        return f"{self.name}/{self.version}"

    @property
    def registered_model(self) -> str:
        return f"fraud-{self.name}"

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features)

    @cached_property
    def inputs(self) -> tuple[ContractField, ...]:
        """All fields but the label."""
        return tuple(field for field in self.fields if field.role != "label")

    @cached_property
    def input_bounds(self) -> NumericBounds:
        """Bounds and scales of the numeric inputs, in their order."""
        return NumericBounds([field for field in self.inputs if field.numeric])

    @cached_property
    def label_field(self) -> ContractField | None:
        return self.with_role("label")

    def with_role(self, role: Role) -> ContractField | None:
        return next((field for field in self.fields if field.role == role), None)
