"""How a job ends, and what it writes down: the agreement between jobs and whoever starts them.

Standard library only: Airflow's image holds this module, so that a DAG reads what the job wrote.
"""

from __future__ import annotations

from typing import Final, Literal, NotRequired, TypedDict, get_args

# --- Exit codes -----------------------------------------------------------------------------------
EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_CONFIGURATION: Final = 2  # the sentence on stderr names the variable and the fix
EXIT_NOTHING_TO_DO: Final = 99  # Airflow marks the task as skipped

# What the last line of a job begins with that did not do its work: "<label>: <one sentence>".
EndingLabel = Literal["configuration", "failed", "nothing_to_do", "unexpected", "interrupted"]
ENDING_LABELS: Final[tuple[EndingLabel, ...]] = get_args(EndingLabel)

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


# --- fraud_trainer --------------------------------------------------------------------------------
class LeftOut(TypedDict):
    """Transactions that are no examples."""

    left_out_blocked: int  # blocked, and without an explicit label
    left_out_unknown: int  # too young for their silence to count


class LoadResult(LeftOut):
    """`load`: the examples, transactions with a mature label."""

    digest: str  # SHA-256 of the file
    rows: int
    frauds: int
    as_of: str  # the moment as of which labels count
    data_from: str
    data_to: str
    sources: dict[str, int]  # of the transactions
    label_sources: dict[str, int]
    optimum: dict[str, float] | None  # the best possible figures, where the data is simulated
    population: str | None


class FeaturesResult(TypedDict):
    """`features`: what the model sees of the examples."""

    digest: str
    rows: int
    features: list[str]
    missing: int


# Rows of the examples, in time: the first of a part, and the one after its last.
SplitPart = TypedDict("SplitPart", {"from": int, "to": int, "frauds": int})


class TrainResult(TypedDict):
    """`train`: the trees, their calibration and the thresholds."""

    digests: dict[str, str]  # by file
    split: dict[str, SplitPart]
    rounds: int
    stopping_loss: float
    calibration: dict[str, float]
    threshold: float
    block_threshold: float
    threshold_rule: str
    created_at: str
    code_version: str
    mlflow_run_id: str


class ValidateResult(TypedDict):
    """`validate`: the figures on the held-out part, and the gate's verdict."""

    digest: str  # of the manifest
    metrics: dict[str, float | None]
    gate: dict[str, object]
    passed: bool
    sentence: str


class RegisterResult(TypedDict):
    """`register`: the model version, also where it did not pass its gate."""

    name: str
    version: str
    digest: str
    gate_passed: bool
    gate: str  # its verdict as a sentence
    aliases: dict[str, str]  # set by this run: the version by the alias
    mlflow_run_id: str


class TrainingResult(TypedDict):
    """Every verb of a training: of each step that was done its own result."""

    status: Literal["done"]
    dag: str
    run_id: str
    prefix: str  # where the run's files are
    seconds: dict[str, float]  # by step
    load: NotRequired[LoadResult]
    features: NotRequired[FeaturesResult]
    train: NotRequired[TrainResult]
    validate: NotRequired[ValidateResult]
    register: NotRequired[RegisterResult]
