"""Builds the Pydantic model of a record from a contract."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
)
from pydantic.json_schema import WithJsonSchema
from pydantic_core import PydanticCustomError

from fraud_core.contract import Contract
from fraud_core.fields import ContractField
from fraud_core.moments import parse_moment
from fraud_core.quantise import quantise_one

# Printable ASCII without space: an id travels through headers, logs, URLs and file names.
ID_PATTERN: Final = re.compile(r"[!-~]{1,50}")


class Reason(StrEnum):
    """Why a record was rejected."""

    EMPTY = "empty"
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    NOT_OBJECT = "not_object"
    DUPLICATE_KEY = "duplicate_key"
    MISSING_FIELD = "missing_field"
    UNKNOWN_FIELD = "unknown_field"
    WRONG_TYPE = "wrong_type"
    NOT_FINITE = "not_finite"
    OUT_OF_RANGE = "out_of_range"
    BAD_ID = "bad_id"
    BAD_TIME = "bad_time"
    BAD_TEXT = "bad_text"
    SCHEMA_MISMATCH = "schema_mismatch"  # the header names another contract
    ID_CONFLICT = "id_conflict"  # a transaction with this id is stored with other fields


def record_model(contract: Contract) -> type[BaseModel]:
    """The model of one record: the contract's fields, an id and an event time, nothing else.

    Instances hold quantised numbers; `transaction_id` and `event_time` may be None. Strict: neither `true`
    nor `"12"` is a number.
    """
    definitions: dict[str, Any] = {
        "transaction_id": (_identifier() | None, None),
        "event_time": (_moment() | None, None),
    }
    for field in contract.fields:
        kind = _annotation(field)
        definitions[field.name] = (kind, ...) if field.required else (kind | None, None)
    name = "".join(part.title() for part in contract.name.split("_")) + "Transaction"
    return create_model(
        name,
        __config__=ConfigDict(
            extra="forbid", strict=True, hide_input_in_errors=True, ser_json_inf_nan="null"
        ),
        __doc__=f"A transaction of the contract {contract.schema_id}.",
        **definitions,
    )


def _identifier() -> Any:
    def check(value: str) -> str:
        if ID_PATTERN.fullmatch(value) is None:
            raise PydanticCustomError(Reason.BAD_ID, "must be 1 to 50 printable ASCII characters, no space")
        return value

    schema = {"type": "string", "minLength": 1, "maxLength": 50, "pattern": "^[!-~]{1,50}$"}
    return Annotated[str, AfterValidator(check), WithJsonSchema(schema)]


def _moment() -> Any:
    def check(value: Any) -> datetime | None:
        if value is None:
            return None
        try:
            return parse_moment(value)
        except ValueError as error:
            raise PydanticCustomError(Reason.BAD_TIME, str(error)) from None

    return Annotated[
        datetime, BeforeValidator(check), WithJsonSchema({"type": "string", "format": "date-time"})
    ]


def _annotation(field: ContractField) -> Any:
    if field.type == "category":
        return Literal[field.values]
    if field.type == "text":
        return Annotated[str, Field(min_length=1, max_length=field.max_length), AfterValidator(_printable)]
    if field.type == "boolean":
        return bool
    bounds: dict[str, Any] = {"gt": -field.limit, "lt": field.top}
    if field.min is not None and field.min > -field.limit:
        bounds |= {"ge": field.min}
        del bounds["gt"]
    if field.max is not None:
        bounds |= {"le": field.max}
    if field.type == "integer":
        return Annotated[int, Field(**bounds)]
    return Annotated[float, Field(allow_inf_nan=False, **bounds), AfterValidator(_rounder(field))]


def _rounder(field: ContractField) -> Callable[[float], float]:
    low = -math.inf if field.min is None else field.min
    high = math.inf if field.max is None else field.max

    def quantised(value: float) -> float:
        result = quantise_one(value, field.scale)
        if not (low <= result <= high and -field.limit < result < field.top):
            raise PydanticCustomError(Reason.OUT_OF_RANGE, "is out of range once rounded to its scale")
        return result

    return quantised


def _printable(value: str) -> str:
    if not value.isprintable():
        raise PydanticCustomError(Reason.BAD_TEXT, "holds characters that cannot be printed")
    return value


_REASONS: Final = {
    "missing": Reason.MISSING_FIELD,
    "extra_forbidden": Reason.UNKNOWN_FIELD,
    "finite_number": Reason.NOT_FINITE,
    "greater_than": Reason.OUT_OF_RANGE,
    "greater_than_equal": Reason.OUT_OF_RANGE,
    "less_than": Reason.OUT_OF_RANGE,
    "less_than_equal": Reason.OUT_OF_RANGE,
    "literal_error": Reason.OUT_OF_RANGE,
    "string_too_long": Reason.BAD_TEXT,
    "string_too_short": Reason.BAD_TEXT,
    "string_unicode": Reason.BAD_TEXT,
}


def reason_of(error: ValidationError) -> tuple[Reason, str]:
    """The first error in a record: its code, and one sentence that names the field but not the value."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    name = ".".join(str(part) for part in first["loc"][:1]) or "record"
    # An unknown name is untrusted input, so unprintable characters are escaped.
    shown = name.encode("ascii", "backslashreplace").decode()[:60]
    kind = first["type"]
    reason = Reason(kind) if kind in set(Reason) else _REASONS.get(kind, Reason.WRONG_TYPE)
    message = {Reason.MISSING_FIELD: "is missing", Reason.UNKNOWN_FIELD: "is not a field of the contract"}
    return reason, f"{shown}: {message.get(reason, first['msg'])}."
