"""Gives the notifier one alert, or that it is over, outside of any task: `python tell.py < message.json`.

Exit code 0: people were told, or had been told not long ago; 1: nobody could be told.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

from environment import complete


class MetadataVariables:
    """Airflow's Variables, in its database."""

    def get(self, key: str, *, default: str | None) -> str | None:
        from airflow.models.variable import Variable

        value: str | None = Variable.get(key, default_var=default)
        return value

    def set(self, key: str, value: str, description: str) -> None:
        from airflow.models.variable import Variable

        Variable.set(key, value, description=description)

    def delete(self, key: str) -> object:
        from airflow.models.variable import Variable

        return Variable.delete(key)


def main() -> int:
    complete()
    # Connections come from the database then, rather than from the supervisor of a task.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    import airflow  # noqa: F401 - it puts our plugins on the path

    logging.getLogger("fraud_airflow").setLevel(logging.INFO)
    return tell(json.load(sys.stdin))


def tell(message: dict[str, Any]) -> int:
    """Alert or resolve, as the message says."""
    from fraud_airflow.alerting.alert import Alert, Severity
    from fraud_airflow.alerting.configuration import notifier
    from fraud_airflow.alerting.state import VariableIncidents

    incidents = VariableIncidents(MetadataVariables())
    key = message["key"]
    if message["kind"] == "resolve":
        notifier(incidents).resolve(key)
        return 0
    alert = Alert(key, message["title"], Severity(message["severity"]), message["text"])
    notifier(incidents).alert(alert)
    incident = incidents.read(key)
    return 0 if incident is not None and incident.sent_at is not None else 1


if __name__ == "__main__":
    sys.exit(main())
