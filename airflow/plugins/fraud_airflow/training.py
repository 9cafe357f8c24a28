"""What the training DAG asks for and checks; its steps are jobs of the trainer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException

from config.constants import BUCKET_RUNS
from config.job_results.trainer import DecisionResult
from operators.docker_operator_custom import FraudDockerOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

FIRST_STEP: Final = "load_training_data"
SKIP: Final = "skip_training"
_MOMENT: Final = "A past time with its zone, such as 2026-01-31T12:00:00Z."
_RECORD: Final = "A time with its zone, or an offset of each partition."
_RECORDS: Final = ("kafka_from", "kafka_to")
# The parameters that say what is trained on, and the source that each is about.
_SELECTING: Final = {
    "as_of": "",
    **dict.fromkeys(("data_from", "data_to"), "database"),
    **dict.fromkeys(("file", "file_start"), "file"),
    **dict.fromkeys(_RECORDS, "topic"),
}


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
    "kafka_from": _text("Records from", f"Read the transactions topic, from this record on. {_RECORD}"),
    "kafka_to": _text("Records to", f"Read the transactions topic, up to before this record. {_RECORD}"),
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
            "kafka_from": "kafka-from",
            "kafka_to": "kafka-to",
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
    given = {name: str(value) for name, value in params.items() if name in _SELECTING and value}
    return _value_problem(given, now) or _selection_problem(given)


def _value_problem(given: Mapping[str, str], now: datetime) -> str | None:
    for name, text in given.items():
        if name == "file" or (name in _RECORDS and text.isascii() and text.isdecimal()):
            continue
        moment = _moment(text)
        if moment is None:
            also = ", or an offset" if name in _RECORDS else ""
            return f"{name} is not a time with a zone{also}: write one such as 2026-01-31T12:00:00Z."
        if moment > now and name not in _RECORDS:
            return f"{name} is in the future: give a time that has passed."
    return None


def _selection_problem(given: Mapping[str, str]) -> str | None:
    kinds = {_SELECTING[name]: name for name in given if _SELECTING[name]}
    if len(kinds) > 1:
        first, second = list(kinds.values())[:2]
        return f"{first} and {second} name different sources: give one of them."
    if "file" in kinds and "as_of" in given:
        return "as_of is about the labels of the platform, not about those of a file."
    if "file_start" in given and "file" not in given:
        return "file_start is for a file only."
    if {"data_from", "data_to"} <= given.keys() and not _before(given["data_from"], given["data_to"]):
        return "data_from must be before data_to."
    return None


def _before(first: str, second: str) -> bool:
    start, end = _moment(first), _moment(second)
    return start is not None and end is not None and start < end


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment
