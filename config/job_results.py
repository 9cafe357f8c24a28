"""The interface between jobs and their callers: exit codes, labels of the last line, and results.

Standard library only: Airflow's image contains this module, so that DAGs can read the results.
"""

from __future__ import annotations

from typing import Final, Literal, NotRequired, TypedDict, get_args

# --- Exit codes -----------------------------------------------------------------------------------
EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_CONFIGURATION: Final = 2  # the sentence on stderr names the variable and the fix
EXIT_NOTHING_TO_DO: Final = 99  # Airflow marks the task as skipped

# The label of a job's last line if the job is not done: "<label>: <one sentence>".
EndingLabel = Literal["configuration", "failed", "nothing_to_do", "unexpected", "interrupted"]
ENDING_LABELS: Final[tuple[EndingLabel, ...]] = get_args(EndingLabel)

# passing: a retry may succeed. lasting: a retry fails until a person changes something. refused: a rule, the
# gate or another service does not allow the request. unexpected: a bug.
FailureKind = Literal["passing", "lasting", "refused", "configuration", "unexpected"]


# --- Of every job ---------------------------------------------------------------------------------
class FailedResult(TypedDict):
    """A job that failed; further keys hold its own result up to the failure."""

    status: Literal["failed"]
    failure: FailureKind
    error: str  # one sentence


class NothingToDoResult(TypedDict):
    """A job that found nothing to do."""

    status: Literal["nothing_to_do"]
    reason: str


# --- fraud_producer -------------------------------------------------------------------------------
class OptimumResult(TypedDict):
    """`optimum`: the best figures any model can reach on a population, at its fraud rate."""

    population: str  # its digest
    fraud_rate: float
    overlap: float
    recall: float
    fpr: float
    precision: float
    f1: float
    roc_auc: float
    average_precision: float
    threshold: float  # on the likelihood ratio
    bounds: dict[str, float]  # the gate's, which the operating point keeps where it can
    reachable: bool  # whether it can
    sample: int  # points the figures were computed from


class GenerateResult(TypedDict):
    """`generate`: one run of simulated transactions, and the labels that were due."""

    run_id: str
    topic: str
    event_time: str  # of the first transaction
    transactions: int
    frauds: int
    labels_sent: int
    optimum: OptimumResult


class SteadyResult(TypedDict):
    """`generate --every`: the totals of all runs until it was stopped."""

    runs: int
    failures: int
    transactions: int
    labels_sent: int


class LabelsResult(TypedDict):
    """`labels`: the labels that were due."""

    topic: str
    labels_sent: int


class ReplayResult(TypedDict):
    """`replay`: the transactions of a file."""

    topic: str
    transactions: int
    file_sha256: str
    columns_ignored: list[str]
    truth: Literal["in the record", "when due", "left out"]  # where the file's labels went


class _Backfilled(TypedDict):
    transactions: int  # new ones only; this applies to frauds and labels too
    frauds: int
    labels: int
    days_already_there: int
    days: int
    seconds: float
    optimum: OptimumResult


_From = TypedDict("_From", {"from": str})  # `from` is a Python keyword


class BackfillResult(_Backfilled, _From):
    """`backfill`: whole days of history, the first of which is `from`."""


class HistoryResult(BackfillResult):
    """`history`, if it was written: the result of `backfill`."""

    status: Literal["done"]
    written: Literal[True]


class HistoryNeedlessResult(TypedDict):
    """`history`, if none was needed."""

    status: Literal["done"]
    written: Literal[False]
    reason: str


# --- fraud_streaming ------------------------------------------------------------------------------
class Latency(TypedDict):
    """Milliseconds from a record's timestamp to its commit."""

    p50: float
    p99: float


class TopicResult(TypedDict):
    """The counts of one topic."""

    consumed: int
    stored: int
    replayed: int
    dead_lettered: dict[str, int]  # by reason
    batches: int
    seconds: float
    latency_ms: Latency | None  # None if nothing was stored
    lag: int | None  # None if no fetch has shown the end of the topic in time


class FollowResult(TopicResult):
    """`run --follow`: the transactions topic, and the labels topic."""

    status: Literal["done"]
    labels: TopicResult


class RunResult(FollowResult):
    """`run`: both topics, once."""

    classes_refreshed: int
    alerts_published: int
    stalled_holders_ended: list[str]  # "<topic>/<partition>"


class PartitionState(TypedDict):
    """A partition's offsets; the last three keys exist for consumed topics only."""

    partition: int
    earliest: int
    end: int
    position: NotRequired[int | None]  # None if it was never read
    lag: NotRequired[int | None]  # None if the position belongs to a deleted topic of this name
    same_topic: NotRequired[bool]


class ShownRecord(TypedDict):
    """A record as text, truncated if it is long; `damage` and `detail` exist if it cannot be read."""

    partition: int
    offset: int
    timestamp: str | None
    key: str
    headers: dict[str, str]
    value: str
    value_bytes: int
    damage: NotRequired[str]
    detail: NotRequired[str | None]


class TopicState(TypedDict):
    """A topic; only the first three keys exist if the topic does not."""

    topic: str
    exists: bool
    consumed: bool  # by this platform
    id: NotRequired[str]
    lag: NotRequired[int | None]  # the sum over the partitions, None if one is unknown; for consumed topics
    partitions: NotRequired[list[PartitionState]]
    records: NotRequired[list[ShownRecord]]


class TopicsResult(TypedDict):
    """`topics`: how far each was read, and its latest records."""

    topics: list[TopicState]
    alerts_waiting: int


class TopicsCreatedResult(TypedDict):
    """`topics --create`."""

    status: Literal["done"]
    topics: list[str]
    created: list[str]  # those of them that did not exist


class ShownDeadLetter(TypedDict):
    """A dead letter, without its payload."""

    id: int
    origin: str  # "<topic>/<partition>/<offset>"
    reason: str
    detail: str | None
    payload_bytes: int
    complete: bool  # whether the whole record is kept
    created_at: str
    redriven_from: str | None
    redriven_at: str | None


class DeadLettersResult(TypedDict):
    """`dead-letters`: the newest ones, and how many there are."""

    total: int
    by_reason: dict[str, int]
    dead_letters: list[ShownDeadLetter]


class ExportResult(TypedDict):
    """`dead-letters --export`."""

    exported: int
    incomplete: int  # how many of them cannot be put back unchanged
    file: str


class RefusedDeadLetter(TypedDict):
    """A dead letter that cannot be put back."""

    id: int
    why: str


class RedriveResult(TypedDict):
    """`redrive`: dead letters that were put back, or with `--dry-run` would have been."""

    status: Literal["done"]
    dry_run: bool
    sent: int
    already_redriven: int
    refused: dict[str, int]  # by reason
    refused_letters: list[RefusedDeadLetter]  # the first of them


# --- fraud_trainer --------------------------------------------------------------------------------
class DecisionResult(TypedDict):
    """`decide`: whether the run trains, and what was found."""

    status: Literal["done"]
    dag: str
    run_id: str
    retrain: bool
    reason: str  # one sentence
    forced: bool
    champion: str | None  # its version
    last_training: str | None  # when it finished
    new_labels: int  # transactions whose label is known since
    labelled_predictions: int  # of the champion, with a mature label
    labelled_frauds: int
    left_out_blocked: int  # blocked by the champion, without an explicit label
    triggers: list[int]  # open ones


class LeftOutCounts(TypedDict):
    """Transactions that are not examples."""

    left_out_blocked: int  # blocked, without an explicit label
    left_out_unknown: int  # too young: they may still be reported
    left_out_refused: NotRequired[int]  # records of the topic that are no transactions of the contract


class LoadResult(LeftOutCounts):
    """`load`: the examples, transactions with a mature label."""

    digest: str  # SHA-256 of the file
    rows: int
    frauds: int
    as_of: str | None  # the moment as of which labels count; None if they came with a file
    data_from: str
    data_to: str
    origin: dict[str, str]  # where the examples were read: kind, and the options that selected them
    sources: dict[str, int]  # of the transactions
    label_sources: dict[str, int]
    optimum: dict[str, float] | None  # the best possible figures, if the data is simulated
    population: str | None


class FeaturesResult(TypedDict):
    """`features`: the features of the examples."""

    digest: str
    rows: int
    features: list[str]
    missing: int


# A part of the examples, ordered by time: its first row, and the row after its last one.
SplitPart = TypedDict("SplitPart", {"from": int, "to": int, "frauds": int})


class CalibrationResult(TypedDict):
    """How margins become scores: the logistic function of slope × margin + intercept."""

    method: Literal["sigmoid"]
    slope: float
    intercept: float


class CandidateResult(TypedDict):
    """A kind of model that was fitted, or the reason why it was left out."""

    left_out: NotRequired[str]
    average_precision: NotRequired[float]  # on the calibration part
    seconds: NotRequired[float]
    details: NotRequired[dict[str, float | int | str | None]]
    imbalance: NotRequired[str]  # how the rarity of frauds was treated
    imbalance_scores: NotRequired[dict[str, float | None]]  # mean average precision, by treatment
    parameters: NotRequired[dict[str, object]]  # what the search changed
    trials: NotRequired[int]
    blocks_score: NotRequired[float]  # the best mean average precision that the search reached on the blocks


class _ModelResult(TypedDict):
    """A model with its calibration and thresholds, however it came about."""

    digests: dict[str, str]  # by file
    engines: dict[str, str]  # the file by engine
    split: dict[str, SplitPart]
    members: list[dict[str, object]]  # of a vote
    calibration: CalibrationResult
    threshold: float
    block_threshold: float
    threshold_rule: str
    created_at: str
    code_version: str
    mlflow_run_id: str


class TrainResult(_ModelResult):
    """`train`: the chosen candidate, its calibration and the thresholds."""

    candidate: str
    choice: str  # why, in one sentence
    candidates: dict[str, CandidateResult]
    preparation: dict[str, object] | None
    dropped: dict[str, str]  # columns that the selection dropped, with the reason
    export_difference: float  # the largest, of a score in training and in serving


class ImportResult(_ModelResult):
    """`import`, in place of `train`: a model that was trained elsewhere, its calibration and thresholds."""

    origin: Literal["imported"]
    file: str
    file_digest: str  # SHA-256
    output: Literal["margin", "probability"]  # what the model gives
    output_detected: bool  # by its values, since nobody said it
    candidate: None  # none of the trainer's own
    preparation: None  # the model takes the contract's features


class ValidateResult(TypedDict):
    """`validate`: the figures on the held-out part, and the gate's verdict."""

    digest: str  # of the manifest
    metrics: dict[str, float | None]
    comparison: dict[str, object]  # with the champion on the same rows, or why there is none
    gate: dict[str, object]
    passed: bool
    sentence: str


class ComparedFigure(TypedDict):
    """A figure of the version less the champion's, on the same rows, with its 95 % interval."""

    figure: str
    difference: float
    low: float
    high: float
    worse: bool  # the whole interval is on the worse side


class RegisterResult(TypedDict):
    """`register`: the model version, even if it did not pass its gate."""

    name: str
    version: str
    digest: str
    gate_passed: bool
    gate: str  # its verdict as a sentence
    aliases: dict[str, str]  # set by this run: the version by the alias
    promotion: str  # what became of it and why, in one sentence
    compared: list[ComparedFigure]  # with the champion, where that decided
    mlflow_run_id: str


class TrainingFigures(TypedDict):
    """The key figures of a training that registered a version; measured on the held-out part."""

    model: str
    version: str
    gate_passed: bool
    aliases: str  # set by this run, separated by commas
    rows: int
    frauds: int
    recall: float | None
    fpr: float | None
    precision: float | None
    f1: float | None
    average_precision: float | None


class TrainingResult(TypedDict):
    """All training verbs: the result of each finished step."""

    status: Literal["done"]
    dag: str
    run_id: str
    prefix: str  # where the run's files are
    seconds: dict[str, float]  # by step
    load: NotRequired[LoadResult]
    features: NotRequired[FeaturesResult]
    train: NotRequired[TrainResult | ImportResult]
    validate: NotRequired[ValidateResult]
    register: NotRequired[RegisterResult]
    figures: NotRequired[TrainingFigures]


class ChampionKeptResult(TypedDict):
    """`first-model`, if there is a champion already."""

    status: Literal["done"]
    trained: Literal[False]
    champion: str  # its version


class RollbackResult(TypedDict):
    """`rollback`: the previous version is champion again."""

    status: Literal["done"]
    name: str
    champion: str  # its version
    champion_before: str | None
    changed: bool  # False if it was champion already


class BucketsResult(TypedDict):
    """`buckets`: those of the platform."""

    status: Literal["done"]
    buckets: list[str]
    created: list[str]  # those of them that did not exist


class RunFiles(TypedDict):
    """Files of a run that were removed, or kept."""

    run: str  # its folder
    files: int
    bytes: int
    why: str


class CleanResult(TypedDict):
    """`clean`: what was removed and kept, or with `--dry-run` would be; the lists are truncated."""

    status: Literal["done"]
    dry_run: bool
    removed: list[RunFiles]
    removed_runs: int
    removed_bytes: int
    kept: list[RunFiles]
    kept_runs: int
    kept_bytes: int
    mlflow_runs_ended: list[str]
    directories_removed: int


# --- fraud_api ------------------------------------------------------------------------------------
class RotateKeysResult(TypedDict):
    """`rotate-keys`."""

    status: Literal["done"]
    kid: str  # of the new key


class SeedClientsResult(TypedDict):
    """`seed-clients`: the clients in the environment, by outcome."""

    status: Literal["done"]
    created: list[str]
    rotated: list[str]
    unchanged: list[str]
