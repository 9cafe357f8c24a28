"""What the training DAG asks for and checks; its steps are jobs of the trainer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException

from config.constants import BUCKET_RUNS
from config.job_results import DecisionResult
from operators.docker_operator_custom import FraudDockerOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

FIRST_STEP: Final = "load_training_data"
SKIP: Final = "skip_training"
_MOMENT: Final = "A past time with its zone, such as 2026-01-31T12:00:00Z."
_MOMENTS: Final = ("as_of", "data_from", "data_to", "file_start")


def _text(title: str, description: str, **schema: Any) -> Param:
    """A parameter that may be left out."""
    return Param(None, type=["null", "string"], title=title, description=description, **schema)


PARAMS: Final = {
    "force": Param(
        False,
        type="boolean",
        title="Train in any case",
        description="Train also if the rules say that no new model is needed.",
    ),
    "as_of": _text("Labels as of", f"Use labels as they were known then; now if empty. {_MOMENT}"),
    "data_from": _text("Transactions from", f"Leave out transactions before this time. {_MOMENT}"),
    "data_to": _text("Transactions to", f"Leave out transactions from this time on. {_MOMENT}"),
    "file": _text(
        "File",
        "Train on a CSV or Parquet file with labels instead of the stored transactions: "
        f"an object of the bucket {BUCKET_RUNS}.",
        pattern=rf"^s3://{BUCKET_RUNS}/.+\.(csv|parquet)$",
    ),
    "file_start": _text(
        "File's start", f"When its first transaction happened, if it has no event_time. {_MOMENT}"
    ),
}
# The options of each verb beside the run; one that renders to nothing is left out.
_OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "decide": ("{{ '--force' if params.force }}",),
    "load": tuple(
        f"{{{{ '--{option}=' ~ params.{param} if params.{param} }}}}"
        for param, option in {
            "as_of": "as-of",
            "data_from": "from",
            "data_to": "to",
            "file": "file",
            "file_start": "file-start",
        }.items()
    ),
}


def step(task_id: str, verb: str, **options: Any) -> FraudDockerOperator:
    """The task of one of the trainer's verbs; all tasks of a run work on the same training run."""
    run = ["--dag={{ dag.dag_id }}", "--run-id={{ run_id }}"]
    arguments = [*run, *_OPTIONS.get(verb, ())]
    return FraudDockerOperator(
        task_id=task_id, service="trainer", verb=verb, arguments=arguments, single="training", **options
    )


def branch(decision: DecisionResult) -> str:
    """The task to go on with; logs the decision on one line."""
    log.info("%s", decision["reason"])
    return FIRST_STEP if decision["retrain"] else SKIP


def check_conf(context: Context) -> None:
    """Check what the run was triggered with before any job starts.

    Raises:
        AirflowFailException: one sentence naming the parameter; a retry would not help.
    """
    conf = dict(getattr(context["dag_run"], "conf", None) or {})
    if problem := conf_problem(conf, context["params"], datetime.now(UTC)):
        raise AirflowFailException(problem)


def conf_problem(conf: Mapping[str, Any], params: Mapping[str, Any], now: datetime) -> str | None:
    """What is wrong with the configuration of a run, in one sentence, or None.

    Types and patterns have been checked by Airflow when the run was triggered.
    """
    if unknown := sorted(conf.keys() - PARAMS.keys()):
        return f"The run was given {', '.join(unknown)[:200]}: it takes {', '.join(PARAMS)}."
    moments: dict[str, datetime] = {}
    for name in _MOMENTS:
        if not params[name]:
            continue
        moment = _moment(params[name])
        if moment is None:
            return f"{name} is not a time with a zone: write one such as 2026-01-31T12:00:00Z."
        if moment > now:
            return f"{name} is in the future: give a time that has passed."
        moments[name] = moment
    if "data_from" in moments and "data_to" in moments and moments["data_from"] >= moments["data_to"]:
        return "data_from must be before data_to."
    others = [name for name in ("as_of", "data_from", "data_to") if name in moments]
    if params["file"] and others:
        return f"{others[0]} selects stored transactions or their labels, not those of a file."
    if "file_start" in moments and not params["file"]:
        return "file_start is for a file only."
    return None


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment
