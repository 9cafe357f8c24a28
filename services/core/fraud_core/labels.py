"""Parses messages of the labels topic."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from fraud_core import strict_json
from fraud_core.identifiers import label_id
from fraud_core.moments import parse_moment
from fraud_core.record_model import Reason, reason_of

# A message may not adjudicate: a lead does, in the web app.
MessageSource = Literal["analyst", "random_audit", "chargeback", "simulator"]
Source = MessageSource | Literal["adjudication"]


@dataclass(frozen=True, slots=True)
class LabelEvent:
    """One report of the truth about a transaction (`label` 1 is fraud); a source may report again.

    `reported_by` is the person, where one reported it by name.
    """

    label_id: str
    transaction_id: str
    label: int
    source: Source
    reported_at: datetime
    reported_by: str | None = None


def cut_off(as_of: datetime | None, now: datetime) -> datetime:
    """The cut-off for labels: `as_of`, or now if it is None.

    Raises:
        ValueError: it is in the future; transactions not reported by then would wrongly count as legitimate.
    """
    if as_of is not None and as_of > now:
        raise ValueError(
            f"{as_of.isoformat()} is in the future, now is {now.isoformat(timespec='seconds')}: "
            "the labels reported by then are not known yet"
        )
    return as_of or now


def _moment(value: Any) -> datetime | None:
    return None if value is None else parse_moment(value)


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    label_id: Annotated[UUID, Field(strict=False)] | None = None
    transaction_id: str = Field(pattern=r"^[!-~]{1,50}$")
    label: Literal[0, 1]
    source: MessageSource
    reported_at: Annotated[datetime | None, BeforeValidator(_moment)] = None


def parse_label(payload: bytes | None, arrival: datetime) -> LabelEvent | tuple[Reason, str]:
    """The label in a message, or the reason code and a sentence why the message is invalid.

    Without `reported_at` the label counts as reported at its arrival. Without `label_id` the id is derived
    from the content, so that a report that is sent twice is one label.
    """
    if not payload:
        return Reason.EMPTY, "The record is empty."
    try:
        content: Any = strict_json.loads(payload)
    except strict_json.RepeatedName:
        return Reason.DUPLICATE_KEY, "A name occurs twice in the record."
    except (ValueError, RecursionError):
        return Reason.NOT_JSON, "The record is not JSON in UTF-8."
    if not isinstance(content, dict):
        return Reason.NOT_OBJECT, "The record is not a JSON object."
    if type(content.get("label")) is bool:
        return Reason.WRONG_TYPE, "label: must be 0 or 1."
    try:
        message = _Message.model_validate(content)
    except ValidationError as error:
        return reason_of(error)
    reported_at = message.reported_at or arrival
    identifier = message.label_id or label_id(
        message.transaction_id, message.label, message.source, reported_at.isoformat()
    )
    return LabelEvent(str(identifier), message.transaction_id, message.label, message.source, reported_at)
