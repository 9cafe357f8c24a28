"""Labels as they arrive on their topic."""

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

Source = Literal["analyst", "random_audit", "chargeback", "simulator"]


@dataclass(frozen=True, slots=True)
class LabelEvent:
    """One report of the truth about a transaction (`label` 1 is fraud); a source may report again."""

    label_id: str
    transaction_id: str
    label: int
    source: Source
    reported_at: datetime


def cut_off(as_of: datetime | None, now: datetime) -> datetime:
    """The moment as of which labels count: `as_of`, or now where it is None.

    Raises:
        ValueError: it has not come yet; silence until then would count as legitimate.
    """
    if as_of is not None and as_of > now:
        raise ValueError(
            f"{as_of.isoformat()} has not come yet, now is {now.isoformat(timespec='seconds')}: "
            "nobody knows what will have been reported by then"
        )
    return as_of or now


def _moment(value: Any) -> datetime | None:
    return None if value is None else parse_moment(value)


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    label_id: Annotated[UUID, Field(strict=False)] | None = None
    transaction_id: str = Field(pattern=r"^[!-~]{1,50}$")
    label: Literal[0, 1]
    source: Source
    reported_at: Annotated[datetime | None, BeforeValidator(_moment)] = None


def parse_label(payload: bytes | None, arrival: datetime) -> LabelEvent | tuple[Reason, str]:
    """A label message, or the reason and a sentence why it is none.

    Without `reported_at` the label counts as reported when it arrived; without `label_id` the id follows
    from the content, so that the same report sent twice is one label.
    """
    if not payload:
        return Reason.EMPTY, "The record is empty."
    try:
        content: Any = strict_json.loads(payload)
    except strict_json.RepeatedName:
        return Reason.DUPLICATE_KEY, "A name is given twice in the record."
    except (ValueError, RecursionError):
        return Reason.NOT_JSON, "The record is not JSON in UTF-8."
    if not isinstance(content, dict):
        return Reason.NOT_OBJECT, "The record is no JSON object."
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
