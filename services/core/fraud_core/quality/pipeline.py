"""Checks of the platform's own parts: runs of DAGs, how long they take, and the API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fraud_core.quality.checks import Check, Status, insufficient, plural, share_status, worst
from fraud_core.quality.rules import QualityRules


@dataclass(frozen=True, slots=True)
class TaskOutcomes:
    """The tries of a DAG's tasks that ended in the window."""

    dag: str
    tries: int
    failed: int


@dataclass(frozen=True, slots=True)
class RunDurations:
    """How long runs of a DAG took that executed the same tasks, in seconds.

    Attributes:
        runs, longest: those of the window; earlier, usual: the ones before, and their median.
    """

    dag: str
    runs: int
    longest: float
    earlier: int
    usual: float | None


def dag_runs(outcomes: Sequence[TaskOutcomes], rules: QualityRules) -> Check:
    """Whether the tasks of the DAGs succeed."""
    name = "pipeline_dags"
    if not outcomes:
        return insufficient(name, "No task of a DAG was recorded in the window.")
    statuses = [share_status(dag.failed, dag.tries, rules.failed_tasks) for dag in outcomes]
    worst_dag = max(outcomes, key=lambda dag: dag.failed / max(dag.tries, 1))
    failed, tries = sum(dag.failed for dag in outcomes), sum(dag.tries for dag in outcomes)
    named = f"; {worst_dag.dag}: {worst_dag.failed:,} of {worst_dag.tries:,}" if worst_dag.failed else ""
    return Check(
        name,
        worst(statuses),
        f"{failed:,} of {plural(tries, 'try').replace('trys', 'tries')} of tasks failed{named}.",
        value=worst_dag.failed / max(worst_dag.tries, 1),
        bound=rules.failed_tasks.fail,
        rows=tries,
        details={dag.dag: {"tries": dag.tries, "failed": dag.failed} for dag in outcomes},
    )


def durations(dags: Sequence[RunDurations], rules: QualityRules) -> Check:
    """Whether no run took several times as long as runs of its DAG usually do."""
    name = "pipeline_durations"
    known = {
        (dag.longest / max(dag.usual, 0.1), dag.dag): dag
        for dag in dags
        if dag.usual is not None and dag.earlier >= rules.usual_runs
    }
    if not known:
        return insufficient(
            name,
            f"No DAG has a run in the window and {rules.usual_runs} earlier ones to compare with.",
            expected=True,
        )
    slow = {
        key: dag
        for key, dag in known.items()
        if key[0] > rules.slow_factor
        and dag.longest - (dag.usual or 0.0) > rules.slow_seconds.total_seconds()
    }
    factor, _ = worst_key = max(slow or known)
    slowest = known[worst_key]
    return Check(
        name,
        Status.FAILED if slow else Status.PASSED,
        f"A run of {slowest.dag} took {slowest.longest:.3g} s, {factor:.3g} times the usual "
        f"{slowest.usual:.3g} s.",
        value=factor,
        bound=rules.slow_factor,
        rows=sum(dag.runs for dag in known.values()),
        details={dag.dag: {"longest": dag.longest, "usual": dag.usual} for dag in known.values()},
    )


def api(problem: str | None, detail: str) -> Check:
    """Whether the API is ready.

    Args:
        problem: what is wrong, as a sentence, or None; detail: what it answered, if it is ready.
    """
    status = Status.PASSED if problem is None else Status.FAILED
    return Check("pipeline_api", status, problem or detail)
