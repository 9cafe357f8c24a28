"""Airflow's cluster policy, which every process of Airflow imports: it refuses runs that cannot do as asked.

- Runs dated in the future. Airflow starts no task of a run before its logical date or `run_after`, but the
  run counts as active, so with one active run per DAG it blocks the DAG's schedule.
- Runs whose configuration the DAG does not read, or whose values are wrong. Airflow itself ignores such keys.

This hook covers every way of creating a run: REST API, web UI, command line and tasks of other DAGs.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any, Final

if {"scheduler", "worker", "dag-processor"} & set(sys.argv[1:3]):
    # These processes fork into tasks and into readers of DAG files, which then need not import these modules
    # themselves: it would take a reader 0.1 s of CPU time, and a task, with our own modules, 0.04 s.
    import airflow.providers.docker.operators.docker
    import airflow.providers.standard.operators.python  # noqa: F401
if {"scheduler", "worker"} & set(sys.argv[1:3]):
    # The DAG processor imports ours file by file: it reports what is wrong with them as import errors.
    import fraud_airflow.alerting.configuration
    import fraud_airflow.checks
    import fraud_airflow.completion
    import fraud_airflow.defaults  # noqa: F401
    import operators.docker_operator_custom  # noqa: F401

__all__ = ["task_instance_mutation_hook"]

# The clock of another machine may be slightly fast.
_TOLERATED: Final = timedelta(seconds=10)


class RunRefused(ValueError):
    """No such run is created; one sentence. The REST API returns it with status 400."""


class DatedAhead(RunRefused):
    """The run is dated in the future."""


class ConfRefused(RunRefused):
    """The run's configuration is wrong."""


def task_instance_mutation_hook(task_instance: Any, dag_run: Any) -> None:
    """Airflow calls this for each task of a run that is being created.

    Raises:
        DatedAhead: the run's logical date or `run_after` is in the future.
        ConfRefused: its configuration has a key that the DAG does not read, or a wrong value.
    """
    del task_instance
    if dag_run is None:
        return
    # Existing runs that were cleared are subject to `dagrun_timeout` instead.
    created = dag_run.state == "queued" and not dag_run.clear_number
    if created:
        _check_date(dag_run)
    # `airflow dags test` creates a run that is running, whatever its date.
    if created or getattr(getattr(dag_run, "triggered_by", None), "value", None) == "test":
        _check_conf(dag_run)


def _check_date(dag_run: Any) -> None:
    for name in ("logical_date", "run_after"):
        date = getattr(dag_run, name)
        if date is not None and date - datetime.now(UTC) > _TOLERATED:
            raise DatedAhead(
                f"{name} is {date.isoformat()}, which is in the future: no task would start before it, and "
                "the DAG's other runs would wait. Leave it out, or set a date that has passed."
            )


def _check_conf(dag_run: Any) -> None:
    dag, conf = getattr(dag_run, "dag", None), dict(getattr(dag_run, "conf", None) or {})
    # A scheduled run has no configuration, and defaults are not refused every five seconds.
    if dag is None or (not conf and dag_run.run_type == "scheduled"):
        return
    from fraud_airflow.conf import conf_problem

    schemas = {name: dag.params.get_param(name).schema for name in dag.params}
    values = {name: conf.get(name, dag.params[name]) for name in schemas}
    if problem := conf_problem(conf, schemas, values, datetime.now(UTC)):
        raise ConfRefused(problem)
