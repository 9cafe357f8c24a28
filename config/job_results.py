"""How a job ends, and what it writes down: the agreement between jobs and whoever starts them.

Standard library only: Airflow's image holds this module, so that a DAG reads what the job wrote.
"""

from __future__ import annotations

from typing import Final, Literal, TypedDict

# --- Exit codes -----------------------------------------------------------------------------------
EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_CONFIGURATION: Final = 2  # the sentence on stderr names the variable and the fix
EXIT_NOTHING_TO_DO: Final = 99  # Airflow marks the task as skipped

# passing: trying again later may help. lasting: it gives the same until a person changes something. refused:
# a rule, the gate or another service does not allow what was asked for. unexpected: a fault of ours.
FailureKind = Literal["passing", "lasting", "refused", "configuration", "unexpected"]


# --- Of every job ---------------------------------------------------------------------------------
class FailedResult(TypedDict):
    """A job that failed; what it did before lies beside these, under the names of its own result."""

    status: Literal["failed"]
    failure: FailureKind
    error: str  # one sentence


class NothingToDoResult(TypedDict):
    """A job that found nothing to do."""

    status: Literal["nothing_to_do"]
    reason: str


# --- fraud_producer -------------------------------------------------------------------------------
class GenerateResult(TypedDict):
    """`generate`: one run of simulated transactions, and the labels that were due."""

    run_id: str
    topic: str
    event_time: str  # of the first transaction
    transactions: int
    frauds: int
    labels_sent: int
    optimum: dict[str, object]


class SteadyResult(TypedDict):
    """`generate --every`: all runs until it was told to stop."""

    runs: int
    failures: int
    transactions: int
    labels_sent: int


class LabelsResult(TypedDict):
    """`labels`: the labels that were due."""

    topic: str
    labels_sent: int


# --- fraud_streaming ------------------------------------------------------------------------------
class Latency(TypedDict):
    """Milliseconds from a record's timestamp to its commit."""

    p50: float
    p99: float


class TopicResult(TypedDict):
    """What was done with the records of one topic."""

    consumed: int
    stored: int
    replayed: int
    dead_lettered: dict[str, int]  # by reason
    batches: int
    seconds: float
    latency_ms: Latency | None  # None where nothing was stored
    lag: int | None  # None where a fetch has not shown the end of the topic in time


class FollowResult(TopicResult):
    """`run --follow`: the transactions topic, and the labels topic."""

    status: Literal["done"]
    labels: TopicResult


class RunResult(FollowResult):
    """`run`: both topics, once."""

    classes_refreshed: int
    alerts_published: int
    stalled_holders_ended: list[str]  # "<topic>/<partition>"
