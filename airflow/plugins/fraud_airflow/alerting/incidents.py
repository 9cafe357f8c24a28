"""Stores incidents between tasks: one Airflow Variable for each."""

from __future__ import annotations

import logging
from typing import Any, Protocol

from airflow.sdk import Variable

from fraud_airflow.alerting.incident import Incident, variable_name


class Incidents(Protocol):
    """A store of incidents that are not closed."""

    def read(self, key: str) -> Incident | None: ...

    def write(self, incident: Incident) -> None: ...


class Variables(Protocol):
    """Airflow's Variables: a task accesses them through its supervisor, other processes in the metadata
    database."""

    def get(self, key: str, *, default: str | None) -> str | None: ...

    def set(self, key: str, value: str, description: str) -> None: ...


class VariableIncidents:
    """Incidents as Airflow Variables. Two simultaneous tasks may both send the first message.

    A closed one stays until the watch has copied it into the table `alerts`, and then deletes it.
    """

    def __init__(self, variables: Variables | None = None) -> None:
        self._variables: Any = variables or Variable

    def read(self, key: str) -> Incident | None:
        text = self._variables.get(variable_name(key), default=None)
        if text is None:
            return None
        try:
            incident = Incident.from_json(text)
        except (ValueError, TypeError):
            logging.getLogger(__name__).warning("The stored incident of the alert %s cannot be read.", key)
            return None
        return None if incident.closed_at is not None else incident

    def write(self, incident: Incident) -> None:
        self._variables.set(
            variable_name(incident.key), incident.to_json(), description=f"Alert: {incident.key}"
        )
