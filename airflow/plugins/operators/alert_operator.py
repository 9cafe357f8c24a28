"""Alerts as tasks of a DAG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException


class FraudDetectionAlertOperator(BaseOperator):
    """Tells people by e-mail and Slack, once for each incident; gives the channels that took it as XCom.

    A channel that fails is logged and does not fail the task.

    Args:
        title: one line. Templated, as text, severity and key are.
        text: what happened.
        severity: `medium`, `high` or `critical`.
        key: alerts of one key are one incident; `<dag id>/<task id>` if not given.
        resolves: tell instead that what the key stands for works again, if an alert of it was sent.
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
        """Raises AirflowFailException: `severity` is none of the three."""
        from fraud_airflow.alerting.alert import Alert, Severity
        from fraud_airflow.alerting.configuration import notifier

        ti = context["ti"]
        key = self.key or f"{ti.dag_id}/{ti.task_id}"
        if self.severity not in list(Severity):
            raise AirflowFailException(f"severity: {self.severity!r} is none of {', '.join(Severity)}.")
        if self.resolves:
            return notifier().resolve(key)
        return notifier().alert(Alert(key, self.title, Severity(self.severity), self.text, ti.log_url))
