"""Alerts as tasks of a DAG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException


class FraudDetectionAlertOperator(BaseOperator):
    """Sends an alert by e-mail and Slack, once per incident; returns the channels that accepted it as XCom.

    A channel that fails is logged and does not fail the task.

    Args:
        title: one line; templated, like text, severity and key.
        text: what happened.
        severity: `medium`, `high` or `critical`.
        key: alerts with the same key belong to one incident; `<dag id>/<task id>` if not given.
        resolves: report instead that the problem is resolved, if an alert about it was sent.
    """

    template_fields: Sequence[str] = ("title", "text", "severity", "key")

    def __init__(
        self,
        *,
        title: str,
        text: str = "",
        severity: str = "medium",
        key: str | None = None,
        resolves: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.title = title
        self.text = text
        self.severity = severity
        self.key = key
        self.resolves = resolves

    def execute(self, context: Context) -> list[str]:
        """Raises AirflowFailException if `severity` is not one of the three."""
        from fraud_airflow.alerting.alert import Alert, Severity
        from fraud_airflow.alerting.configuration import notifier

        ti = context["ti"]
        key = self.key or f"{ti.dag_id}/{ti.task_id}"
        if self.severity not in list(Severity):
            raise AirflowFailException(f"severity: {self.severity!r} is not one of {', '.join(Severity)}.")
        if self.resolves:
            return notifier().resolve(key)
        return notifier().alert(Alert(key, self.title, Severity(self.severity), self.text, ti.log_url))
