"""Callbacks of tasks and of DAGs: what failed for good is told, and that it works again.

Airflow runs those of a task in the task's process, and where that was killed in the DAG processor, as it does
those of a DAG. Every task imports this module, so the rest is imported when there is something to tell.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context

    from fraud_airflow.alerting.alert import Alert

_ERROR_SHOWN = 1000  # characters


def on_failure(context: Context) -> None:
    """For `on_failure_callback`: Airflow calls it after the last try."""
    _harmless(_tell, context)


def on_run_failure(context: Context) -> None:
    """For a DAG's `on_failure_callback`: tells of a run that was given up.

    A task that failed has told already.
    """
    if context.get("reason") != "task_failure":
        _harmless(_tell_of_run, context)


def on_success(context: Context) -> None:
    """For `on_success_callback` and `on_skipped_callback`: costs one read where nothing was wrong."""
    _harmless(_resolve, context)


def _tell(context: Context) -> None:
    from fraud_airflow.alerting.configuration import notifier

    notifier().alert(_alert(context))


def _tell_of_run(context: Context) -> None:
    from fraud_airflow.alerting.configuration import notifier

    notifier().alert(_alert_of_run(context))


def _resolve(context: Context) -> None:
    from fraud_airflow.alerting.configuration import notifier

    notifier().resolve(_key(context["ti"]))


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
    return Alert(
        key=_key(ti),
        title=f"{ti.dag_id}: {ti.task_id} failed",
        severity=Severity(_severity(context)),
        text=f"{_reason(context.get('exception'))}\n\nRun {ti.run_id}, try {ti.try_number}.",
        link=ti.log_url,
    )


def _alert_of_run(context: Context) -> Alert:
    """The key is that of the task the run stood at: when it next works, the incident is over."""
    from fraud_airflow.alerting.alert import Alert, Severity

    dag, ti = context["dag"], context.get("ti")
    return Alert(
        key=_key(ti) if ti else dag.dag_id,
        title=f"{dag.dag_id}: a run was given up",
        severity=Severity(_severity(context)),
        text=f"{_why_given_up(context)}\n\nRun {context['run_id']}{f', task {ti.task_id}' if ti else ''}.",
    )


def _why_given_up(context: Context) -> str:
    if context.get("reason") != "timed_out":
        return f"None of its tasks can go on ({context.get('reason')})."
    ended = (
        f"It had not ended after {context['dag'].dagrun_timeout} (dagrun_timeout); the next one may begin."
    )
    dated = getattr(context.get("dag_run"), "logical_date", None)
    if dated is not None and dated > datetime.now(UTC):
        return (
            f"{ended} Its logical_date, {dated.isoformat()}, is ahead: until then none of its tasks starts."
        )
    return ended


def _severity(context: Context) -> str:
    dag = context.get("dag")
    return "critical" if dag is not None and "critical" in dag.tags else "high"


def _reason(error: object) -> str:
    if error is None:
        return "It was killed, or its process was lost: it could not say why itself."
    text = str(error).strip()[:_ERROR_SHOWN]
    if isinstance(error, str):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
