"""A contract defines the fields of a transaction and the features of the model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fraud_core.bounds import NumericBounds
from fraud_core.fields import ContractField, Name, Role


class ContractError(ValueError):
    """A contract that cannot be used; the message names the field and the fix.

    Attributes:
        location: the path of the invalid value, if it is a single one.
    """

    def __init__(self, message: str, location: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.location = location


class Feature(BaseModel):
    """One input of the model, computed from one field.

    `field` is the value, `modulo` is the remainder of its division by `by`, `equals` is 1 if the field has
    the value `value` and 0 otherwise, `category` is the position of the value among the field's `values`,
    which is encoded as the field's `prepare` says.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    op: Literal["field", "modulo", "equals", "category"]
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
            raise ValueError(f"feature {feature.name} uses {feature.of}, which is not a field")
        if field.role == "label":
            raise ValueError(f"feature {feature.name} uses the label")
        if feature.op == "equals" and feature.value not in field.values:
            raise ValueError(f"feature {feature.name}: {feature.value} is not a value of {field.name}")
        if feature.op == "category" and field.type != "category":
            raise ValueError(f"feature {feature.name}: {field.name} is not a category")
        if feature.op in {"field", "modulo"} and not field.numeric:
            raise ValueError(f"feature {feature.name}: {field.name} is not numeric, use equals or category")

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

    def field(self, name: str) -> ContractField:
        return next(field for field in self.fields if field.name == name)

    def with_role(self, role: Role) -> ContractField | None:
        return next((field for field in self.fields if field.role == role), None)
