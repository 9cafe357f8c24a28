"""The results of the verbs of `fraud_trainer`."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict


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


class TablePart(TypedDict):
    """One of the files that a table lies in, in the order of its rows."""

    name: str
    digest: str  # SHA-256
    rows: int


class LoadResult(LeftOutCounts):
    """`load`: the examples, transactions with a mature label."""

    digest: str  # SHA-256 of the file, or of its parts' digests
    parts: list[TablePart]
    engine: str  # where the step computed
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
    parts: list[TablePart]
    engine: str
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

    engine: str
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
    awaits_release: bool  # whether it becomes champion by a release, as training.promotion says
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
