"""The steps of the feedback collection; its rules are the job's."""

from __future__ import annotations

from operators.docker_operator_custom import FraudDockerOperator


def step(task_id: str, verb: str) -> FraudDockerOperator:
    """The task of one of the verbs; all tasks of a run work on the same collection."""
    return FraudDockerOperator(
        task_id=task_id,
        service="feedback",
        verb=verb,
        arguments=["--dag={{ dag.dag_id }}", "--run-id={{ run_id }}"],
        single="feedback",
    )


def replay_sample(task_id: str) -> FraudDockerOperator:
    """The task that verifies a sample of stored decisions; a figure of the differences raises the alert."""
    return FraudDockerOperator(
        task_id=task_id,
        service="monitor",
        verb="replay",
        arguments=["--dag={{ dag.dag_id }}", "--run-id={{ run_id }}"],
        single="replay",
    )


def remove_run_files(task_id: str) -> FraudDockerOperator:
    """The task that removes files of ended runs; the trainer knows which of them a model version needs."""
    return FraudDockerOperator(task_id=task_id, service="trainer", verb="clean", single="clean")
