"""Passes one alert, its resolution, or the order to deliver what waits, to the notifier, outside of tasks:
`python send_alert.py < message.json`.

Exit code 0: the alert was sent now or recently; 1: it could not be sent.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

from environment import complete_environment


class MetadataVariables:
    """Airflow's Variables, in its database."""

    def get(self, key: str, *, default: str | None) -> str | None:
        from airflow.models.variable import Variable

        value: str | None = Variable.get(key, default_var=default)
        return value

    def set(self, key: str, value: str, description: str) -> None:
        from airflow.models.variable import Variable

        Variable.set(key, value, description=description)


def main() -> int:
    complete_environment()
    # Makes Airflow read connections from the database instead of a task's supervisor.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    import airflow  # noqa: F401 - adds our plugins to the path

    logging.getLogger("fraud_airflow").setLevel(logging.INFO)
    return send(json.load(sys.stdin))


def send(message: dict[str, Any]) -> int:
    """Send the alert or its resolution."""
    from fraud_airflow.alerting.alert import Alert, Severity
    from fraud_airflow.alerting.configuration import notifier
    from fraud_airflow.alerting.incidents import VariableIncidents

    incidents = VariableIncidents(MetadataVariables())
    key = message["key"]
    if message["kind"] == "resolve":
        notifier(incidents).resolve(key)
        return 0
    if message["kind"] == "deliver":
        return 0 if notifier(incidents).deliver(key) else 1
    alert = Alert(key, message["title"], Severity(message["severity"]), message["text"])
    notifier(incidents).alert(alert)
    incident = incidents.read(key)
    return 0 if incident is not None and incident.sent_at is not None else 1


if __name__ == "__main__":
    sys.exit(main())
