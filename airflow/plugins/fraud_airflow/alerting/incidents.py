"""Stores open incidents between tasks: one Airflow Variable for each."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, Protocol, Self

from airflow.sdk import Variable

_PREFIX: Final = "fraud_alert/"
_TIMES: Final = ("since", "sent_at", "tried_at", "worked_at")


@dataclass(frozen=True, slots=True)
class Incident:
    """A problem that occurred `count` times since `since`; times in UTC.

    `sent_at`: when a channel last took an alert of it; `tried_at`: when a message was last tried;
    `worked_at`: when it worked again; `resolved`: whether people were told so.
    """

    key: str
    title: str
    since: datetime
    count: int
    sent_at: datetime | None = None
    tried_at: datetime | None = None
    worked_at: datetime | None = None
    resolved: bool = False

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=datetime.isoformat)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError if the text is not an incident."""
        document = json.loads(text)
        if not isinstance(document, dict) or set(document) != {field.name for field in fields(cls)}:
            raise ValueError("not an incident")
        times = {name: _time(document[name]) for name in _TIMES}
        if times["since"] is None:
            raise ValueError("no beginning")
        values: dict[str, Any] = document | times | {"count": int(document["count"])}
        return cls(**values)


class Incidents(Protocol):
    """A store of incidents."""

    def read(self, key: str) -> Incident | None: ...

    def write(self, incident: Incident) -> None: ...

    def delete(self, key: str) -> None: ...


def variable_name(key: str) -> str:
    """The Variable of a key.

    A digest: Airflow masks the values of Variables whose name holds a word like `token`, as a DAG's id may.
    """
    return _PREFIX + sha256(key.encode()).hexdigest()[:24]


class Variables(Protocol):
    """Airflow's Variables: a task accesses them through its supervisor, other processes in the metadata
    database."""

    def get(self, key: str, *, default: str | None) -> str | None: ...

    def set(self, key: str, value: str, description: str) -> None: ...

    def delete(self, key: str) -> object: ...


class VariableIncidents:
    """Incidents as Airflow Variables. Two simultaneous tasks may both send the first message."""

    def __init__(self, variables: Variables | None = None) -> None:
        self._variables: Any = variables or Variable

    def read(self, key: str) -> Incident | None:
        text = self._variables.get(variable_name(key), default=None)
        if text is None:
            return None
        try:
            return Incident.from_json(text)
        except (ValueError, TypeError):
            logging.getLogger(__name__).warning("The stored incident of the alert %s cannot be read.", key)
            return None

    def write(self, incident: Incident) -> None:
        self._variables.set(
            variable_name(incident.key), incident.to_json(), description=f"Alert: {incident.key}"
        )

    def delete(self, key: str) -> None:
        self._variables.delete(variable_name(key))


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("a time without zone")
    return time
