"""The typed content of `config.yaml`: models, thresholds, gates. No secrets, no hosts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from config import candidates as kinds
from config.audit import AuditApp
from config.batch import BatchPrediction
from config.drift import Drift
from config.quality import Quality
from config.release import Release
from config.rollout import Rollout
from config.services import clients
from config.yaml_files import YamlFile
from fraud_core.gate import GatePolicy
from fraud_core.money import Costs
from fraud_core.performance.rules import Floors, PerformanceRules

# Environment variables that override a parameter, and the path of the parameter.
ENVIRONMENT_OVERRIDES = {
    "DATA_DRIFT_THRESHOLD": ("thresholds", "data_drift"),
    "CONCEPT_DRIFT_THRESHOLD": ("thresholds", "concept_drift"),
    "MIN_RECALL_THRESHOLD": ("thresholds", "min_recall"),
    "MIN_PRECISION_THRESHOLD": ("thresholds", "min_precision"),
    "TRAINER_AUTOML": ("training", "automl", "enabled"),
}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Thresholds(_Section):
    """When drift and performance raise an alert."""

    data_drift: float = Field(gt=0)  # PSI of any feature
    concept_drift: float = Field(gt=0, lt=1)  # relative drop of a performance metric
    min_recall: float = Field(ge=0, le=1)
    min_precision: float = Field(ge=0, le=1)


class LabelSource(_Section):
    """How far a source is trusted: the higher precedence wins; a label counts once it is mature."""

    precedence: int
    maturity: timedelta


class Labels(_Section):
    implied_after: timedelta  # a transaction that was not reported within this time counts as legitimate
    sources: dict[Literal["analyst", "random_audit", "chargeback", "simulator"], LabelSource]


class Simulator(_Section):
    seed: int
    fraud_rate: float = Field(gt=0, lt=1)
    overlap: float = Field(ge=0, lt=0.5)  # share of frauds that look legitimate in every respect
    label_delay: timedelta  # median time until the truth is reported
    history_per_day: int = Field(gt=0)


class Retrain(_Section):
    """When a new model is trained; see `fraud_core.retraining`."""

    min_interval: timedelta = timedelta(hours=48)  # since the last training
    min_new_labels: int = Field(default=10_000, ge=0)
    min_labels_for_performance: int = Field(default=1000, ge=1)
    performance_labels: int = Field(default=50_000, ge=1)  # the newest predictions that judge the champion
    run_limit: timedelta = Field(default=timedelta(hours=2), gt=timedelta(0))  # later a run is dead

    @model_validator(mode="after")
    def _enough(self) -> Retrain:
        if self.performance_labels < self.min_labels_for_performance:
            raise ValueError("performance_labels must be at least min_labels_for_performance")
        return self


class Training(_Section):
    test_share: float = Field(gt=0, lt=0.5)
    validation_share: float = Field(gt=0, lt=0.5)
    threads: int = Field(ge=1)
    seed: int
    rounds: int = Field(ge=1)
    early_stopping: int = Field(ge=1)
    block_precision: float = Field(gt=0, le=1)  # precision on validation from which a score blocks
    label_gap: timedelta = Field(default=timedelta(0), ge=timedelta(0))  # how late the truth is known
    threshold_rule: Literal["f1", "cost", "budget"] = "f1"
    alert_budget: float = Field(default=0.005, gt=0, lt=1)  # share of transactions that can be reviewed
    costs: Costs = Costs()
    report_blocks: int = Field(default=5, ge=2)  # of the held-out part, whose figures are shown one by one
    resamples: int = Field(default=1000, ge=100)  # of the bootstrap
    promotion: Literal["best", "canary", "manual"] = "best"  # of a version that passed its gate
    xgboost: dict[str, float | int | str]
    candidates: list[kinds.Candidate] = Field(default=["xgboost"], min_length=1)
    # What a candidate must gain in average precision over one that stands before it in the list.
    candidate_margin: float = Field(default=0.002, ge=0, lt=1)
    candidate_confidence: float = Field(default=0.98, ge=0.5, le=1)  # share of resamplings that show a gain
    voting: list[kinds.Member] = Field(default=kinds.VOTERS, min_length=2)
    # Of a forest that votes only the first trees do, which takes less time to score.
    voting_trees: dict[kinds.Forest, Annotated[int, Field(ge=1)]] = {}
    xgboost_bag: kinds.BagParameters = kinds.BagParameters()
    neural_network: kinds.NeuralNetworkParameters = kinds.NeuralNetworkParameters()
    random_forest: kinds.RandomForestParameters = kinds.RandomForestParameters()
    isolation_forest: kinds.IsolationForestParameters = kinds.IsolationForestParameters()
    logistic_regression: kinds.LogisticRegressionParameters = kinds.LogisticRegressionParameters()
    imbalance: list[kinds.Imbalance] = Field(default=["none"], min_length=1)
    # Of the training part: on these, later than what learnt, options are compared.
    prequential_blocks: int = Field(default=3, ge=1, le=20)
    search: kinds.Search = kinds.Search()
    automl: kinds.Automl = kinds.Automl()
    selection: kinds.Selection = kinds.Selection()
    # Not a parameter of the model: left out of what MLflow shows, and of the digest of a training's inputs.
    retrain: Retrain = Field(default=Retrain(), exclude=True)

    @model_validator(mode="after")
    def _coherent(self) -> Training:
        if len(set(self.candidates)) < len(self.candidates):
            raise ValueError("a candidate is listed twice")
        if "voting" in self.candidates and len(set(self.voting) & set(self.candidates)) < 2:
            raise ValueError("voting needs two of its members among the candidates")
        if self.candidates == ["isolation_forest"]:
            raise ValueError("the isolation forest knows no labels: add another candidate")
        return self


class Runs(_Section):
    """How long the files of training runs stay in the object store."""

    keep: timedelta  # after the last step, where no version needs them
    abandoned_after: timedelta = Field(
        ge=timedelta(hours=1)
    )  # a run to which nothing was written for this time is abandoned

    @model_validator(mode="after")
    def _in_order(self) -> Runs:
        if self.keep < self.abandoned_after:
            raise ValueError("keep must be at least abandoned_after")
        return self


class Serving(_Section):
    token_minutes: int = Field(ge=1, le=24 * 60)
    client_token_minutes: dict[str, Annotated[int, Field(ge=1, le=7 * 24 * 60)]] = Field(default_factory=dict)
    alias_poll_seconds: float = Field(gt=0, le=5)
    max_body_bytes: int = Field(ge=1024)
    max_batch: int = Field(ge=1)
    max_model_file_bytes: int = Field(default=256 * 1024 * 1024, ge=1024)  # a larger file is not downloaded
    client_scopes: dict[str, list[str]] = Field(default_factory=dict, validate_default=True)
    default_scopes: list[str]

    @field_validator("client_scopes", mode="after")
    @classmethod
    def _with_platform_clients(cls, configured: dict[str, list[str]]) -> dict[str, list[str]]:
        """Add the platform's own clients with the scopes in the table of services; the file overrides."""
        return {client: list(scopes) for client, scopes in clients().items()} | configured

    def token_lifetime(self, client_id: str) -> timedelta:
        """How long a client's tokens live."""
        return timedelta(minutes=self.client_token_minutes.get(client_id, self.token_minutes))

    @property
    def longest_token_lifetime(self) -> timedelta:
        """How long a retired key must remain valid for verification."""
        return timedelta(minutes=max(self.token_minutes, *self.client_token_minutes.values(), 0))


class Streaming(_Section):
    batch_size: int = Field(ge=1)
    drain_seconds: float = Field(gt=0)
    follow_batch_size: int = Field(ge=1)
    max_record_bytes: int = Field(ge=1024)
    max_bad_share: float = Field(ge=0, le=1)
    dead_letter_payload_bytes: int = Field(ge=0, le=65_536)  # what the table takes
    stalled_after_seconds: float = Field(ge=1, le=86_400)


class Parameters(_Section):
    """Everything in `config.yaml`."""

    gate: str
    gates: dict[str, GatePolicy]
    thresholds: Thresholds
    labels: Labels
    simulator: Simulator
    training: Training
    runs: Runs
    serving: Serving
    streaming: Streaming
    drift: Drift = Drift()
    quality: Quality = Quality()
    performance: PerformanceRules = PerformanceRules()
    release: Release = Release()
    batch: BatchPrediction = BatchPrediction()
    rollout: Rollout = Rollout()
    audit: AuditApp = AuditApp()

    @property
    def floors(self) -> Floors:
        """What a model must reach to be fit for service, by the gate policy in force."""
        default = Floors(recall=self.thresholds.min_recall, precision=self.thresholds.min_precision)
        return self.performance.floors.get(self.gate, default)

    @property
    def gate_in_force(self) -> GatePolicy:
        return self.gates[self.gate]


def read_yaml(path: Path) -> dict[str, Any]:
    """The content of a YAML mapping; see `YamlFile.read`.

    Raises:
        ValueError: the file is missing or cannot be read; one sentence.
    """
    return _read(path).values


def _read(path: Path) -> YamlFile:
    try:
        return YamlFile.read(path)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}.") from None


def load_parameters(directory: Path, app_env: str) -> Parameters:
    """Read `config.yaml`, and apply `config.<app_env>.yaml` and the environment's overrides.

    Raises:
        ValueError: one sentence naming the file, the line, the key and what is wrong with it.
    """
    files = [_read(directory / "config.yaml")]
    with suppress(FileNotFoundError):
        files.append(YamlFile.read(directory / f"config.{app_env}.yaml"))
    values = reduce(_overlaid, (file.values for file in files))
    for variable, path in ENVIRONMENT_OVERRIDES.items():
        if text := os.environ.get(variable):
            override: Any = text
            for key in reversed(path):
                override = {key: override}
            values = _overlaid(values, override)
    try:
        parameters = Parameters.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise ValueError(f"{_origin(files, first['loc'])}: {first['msg'].rstrip('.')}.") from None
    if parameters.gate not in parameters.gates:
        raise ValueError(
            f"{_origin(files, ('gate',))}: there is no policy {parameters.gate!r}; "
            f"known: {', '.join(parameters.gates)}."
        )
    for key in ("batch_size", "follow_batch_size"):
        if getattr(parameters.streaming, key) > parameters.serving.max_batch:
            raise ValueError(
                f"{_origin(files, ('streaming', key))}: the API takes {parameters.serving.max_batch} "
                "transactions at most in one request (serving.max_batch)."
            )
    return parameters


def _origin(files: Sequence[YamlFile], location: Sequence[str | int]) -> str:
    """The origin of a value and its key: a variable, or the last file with the longest prefix of its path."""
    name = ".".join(map(str, location))
    variables = {".".join(path): variable for variable, path in ENVIRONMENT_OVERRIDES.items()}
    if os.environ.get(variable := variables.get(name, "")):
        return variable
    known = [len(file.known_prefix(location)) for file in files]
    # A value that no file contains is reported as missing in the first one.
    candidates = [file for file, depth in zip(files, known, strict=True) if depth == max(known)]
    return f"{candidates[-1 if max(known) == len(location) else 0].origin(location)}: {name}"


def _overlaid(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _overlaid(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
