"""Callbacks for `default_args`: a task that failed for good is told, and that it works again.

Airflow runs them in the task's process, and where that was killed in the DAG processor. Every task imports
this module, so the rest is imported when there is something to tell.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.sdk import Variable

from fraud_airflow.alerting.state import variable_name

if TYPE_CHECKING:
    from airflow.sdk import Context

    from fraud_airflow.alerting.alert import Alert

_ERROR_SHOWN = 1000  # characters


def on_failure(context: Context) -> None:
    """For `on_failure_callback`: Airflow calls it after the last try."""
    _harmless(_tell, context)


def on_success(context: Context) -> None:
    """For `on_success_callback` and `on_skipped_callback`: reads one Variable where nothing was wrong."""
    _harmless(_resolve, context)


def _tell(context: Context) -> None:
    from fraud_airflow.alerting.site import notifier

    notifier().alert(_alert(context))


def _resolve(context: Context) -> None:
    key = _key(context["ti"])
    if Variable.get(variable_name(key), default=None) is None:
        return
    from fraud_airflow.alerting.site import notifier

    notifier().resolve(key)


def _harmless(work: Callable[[Context], None], context: Context) -> None:
    try:
        work(context)
    except Exception:
        logging.getLogger(__name__).exception("The callback could not do its work; the task's state stands.")


def _key(task_instance: Any) -> str:
    return f"{task_instance.dag_id}/{task_instance.task_id}"


def _alert(context: Context) -> Alert:
    from fraud_airflow.alerting.alert import Alert, Severity

    ti = context["ti"]
    dag = context.get("dag")
    critical = dag is not None and "critical" in dag.tags
    return Alert(
        key=_key(ti),
        title=f"{ti.dag_id}: {ti.task_id} failed",
        severity=Severity.CRITICAL if critical else Severity.HIGH,
        text=f"{_reason(context.get('exception'))}\n\nRun {ti.run_id}, try {ti.try_number}.",
        link=ti.log_url,
    )


def _reason(error: object) -> str:
    if error is None:
        return "It was killed, or its process was lost: it could not say why itself."
    text = str(error).strip()[:_ERROR_SHOWN]
    if isinstance(error, str):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
