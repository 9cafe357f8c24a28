"""Training without servers: what is fitted on what, and what a gate's verdict leads to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest

from config import constants
from config.parameters import Retrain, Training
from fraud_adapters.job.code_version import code_version
from fraud_adapters.job.failures import JobFailed
from fraud_adapters.models.tracked_runs import ModelVersion, TrackedRun
from fraud_adapters.objectstore import ObjectMissing
from fraud_adapters.objectstore.run_store import RunStore
from fraud_core.contract import Contract
from fraud_core.gate import GatePolicy, RecallAtPrecision
from fraud_core.manifest import Manifest
from fraud_core.metrics import confusion
from fraud_trainer import steps
from fraud_trainer.engines.tasks import FEATURES
from fraud_trainer.evaluate import validating
from fraud_trainer.job import execute
from fraud_trainer.load.loading import EXAMPLES
from fraud_trainer.register.registering import register
from fraud_trainer.run_context import STEPS, RunContext
from fraud_trainer.train.calibration import CalibrationError, fit_sigmoid
from fraud_trainer.train.splitting import SplitError, split_in_time
from fraud_trainer.train.thresholds import NEVER, choose_thresholds
from tests.support.later import Later

linear_model = Later("sklearn.linear_model")

NOW = datetime(2026, 3, 1, tzinfo=UTC)
POLICY = GatePolicy(min_frauds=50, min_recall=0.95, max_fpr=0.02, min_f1=0.85)
NAMES = ("a", "b", "c")
CONTRACT = Contract.from_mapping(
    {
        "name": "tiny",
        "version": 1,
        "fields": [
            *({"name": name, "type": "decimal", "precision": 9, "scale": 6} for name in NAMES),
            {"name": "amount", "type": "decimal", "precision": 9, "scale": 2, "role": "amount"},
        ],
        "features": [{"name": name, "op": "field", "of": name} for name in NAMES],
    }
)
TRAINING = Training(
    test_share=0.25,
    validation_share=0.3,
    threads=1,
    seed=3,
    rounds=60,
    early_stopping=5,
    block_precision=0.95,
    resamples=100,
    xgboost={"max_depth": 3, "learning_rate": 0.3},
    retrain=Retrain(
        min_interval=timedelta(hours=48),
        min_new_labels=10_000,
        min_labels_for_performance=1000,
        performance_labels=50_000,
        run_limit=timedelta(hours=2),
    ),
)


@dataclass
class Memory:
    """A bucket."""

    objects: dict[str, bytes] = field(default_factory=dict)

    def put_bytes(self, key: str, content: bytes) -> None:
        self.objects[key] = content

    def get_bytes(self, key: str) -> bytes:
        if key not in self.objects:
            raise ObjectMissing(key)
        return self.objects[key]


@dataclass
class Mlflow:
    """Both sides of the registry, as far as the steps use it."""

    aliases: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    frozen: dict[str, dict[str, bytes]] = field(default_factory=dict)  # the files of each version
    registered: list[Mapping[str, str]] = field(default_factory=list)
    metrics: dict[str, float | None] = field(default_factory=dict)
    tags: dict[str, object] = field(default_factory=dict)
    runs: dict[str, TrackedRun] = field(default_factory=dict)
    made_from: list[str] = field(default_factory=list)

    def open(self, experiment: str, folder: str, name: str, tags: Mapping[str, str]) -> str:
        run_id = f"run-{len(self.runs) + 1}"
        self.runs[run_id] = TrackedRun(
            run_id, "RUNNING", {**tags, "folder": folder, "experiment": experiment}
        )
        return run_id

    def find(self, folder: str) -> list[TrackedRun]:
        return [run for run in reversed(self.runs.values()) if run.tags["folder"] == folder]

    def get(self, run_id: str) -> TrackedRun | None:
        return self.runs.get(run_id)

    def resume(self, run: TrackedRun) -> None:
        if run.status != "FINISHED":
            self.runs[run.run_id] = replace(run, status="RUNNING")

    def end(self, run_id: str, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        self.runs[run_id] = replace(self.runs[run_id], status=status)

    def end_unfinished(self, runs: Sequence[TrackedRun], status: Literal["FAILED", "KILLED"]) -> list[str]:
        ended = [run.run_id for run in runs if run.status == "RUNNING"]
        for run_id in ended:
            self.end(run_id, status)
        return ended

    def _numbers(self, run_id: str) -> list[str]:
        return [str(number + 1) for number, source_run in enumerate(self.made_from) if source_run == run_id]

    def versions(self, run_id: str) -> list[ModelVersion]:
        return [
            ModelVersion("m", number, self.registered[int(number) - 1]) for number in self._numbers(run_id)
        ]

    def log(
        self,
        run_id: str,
        *,
        parameters: Mapping[str, object] | None = None,
        metrics: Mapping[str, float | None] | None = None,
        tags: Mapping[str, object] | None = None,
    ) -> None:
        self.metrics |= metrics or {}
        self.tags |= tags or {}
        texts = {name: str(value) for name, value in (tags or {}).items()}
        self.runs[run_id] = replace(self.runs[run_id], tags={**self.runs[run_id].tags, **texts})

    def log_files(self, run_id: str, directory: Path, path: str | None = None) -> None:
        self.files |= {f"{path}/{file.name}": file.read_bytes() for file in directory.iterdir()}

    def register(self, name: str, run_id: str, tags: Mapping[str, str]) -> str:
        if known := self._numbers(run_id):
            return known[0]
        self.registered.append(tags)
        self.made_from.append(run_id)
        self.frozen[str(len(self.registered))] = {
            path.removeprefix("model/"): content
            for path, content in self.files.items()
            if path.startswith("model/")
        }
        return str(len(self.registered))

    def set_alias(self, name: str, alias: str, version: str) -> None:
        self.aliases[alias] = version

    def version_of_alias(self, name: str, alias: str) -> str | None:
        return self.aliases.get(alias)

    def download(self, name: str, version: str, destination: Path) -> Path:
        for file, content in self.frozen[version].items():
            (destination / file).write_bytes(content)
        return destination


class Ledger:
    """A database connection that remembers what it was told to write."""

    asked: tuple[str, str]

    def __init__(self, logged: list[tuple[str, Any]]) -> None:
        self.logged = logged

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_error: object) -> None: ...

    def cursor(self) -> AbstractContextManager[Any]:
        return self

    def execute(self, statement: str, values: Any) -> None:
        if statement.startswith("SELECT digest"):
            self.asked = values
        elif not statement.lstrip().startswith(("SELECT version", "SELECT pg_advisory_lock")):
            self.logged.append((statement, values))

    def fetchall(self) -> list[Any]:
        """Nothing is recorded yet."""
        return []

    def fetchone(self) -> tuple[Any, ...] | None:
        """The record of the version that was asked for."""
        columns = ("digest", "contract", "gate_policy", "gate_passed", "gate_outcome", "metrics")
        for statement, row in self.logged:
            if "INSERT INTO model_versions" in statement and row["version"] == self.asked[1]:
                return tuple(row[column] for column in columns)
        return None

    def cancel(self) -> None: ...

    def close(self) -> None: ...


@dataclass
class Setup:
    context: RunContext
    mlflow: Mlflow
    store: Memory
    logged: list[tuple[str, Any]]


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> Setup:
    # Pictures take a second; `test_reports.py` looks at them.
    monkeypatch.setattr(validating, "report", lambda *_: None)
    mlflow, store, logged = Mlflow(), Memory(), list[tuple[str, Any]]()
    context = RunContext(
        contract=CONTRACT,
        training=TRAINING,
        gate="strict",
        policy=POLICY,
        run=RunStore(store, "dag", "manual__2026-03-01T00:00:00+00:00", STEPS),
        database=lambda: Ledger(logged),
        tracking=lambda: mlflow,
        registry=mlflow,
        tracked=mlflow,
        now=NOW,
        as_of=None,
        code_version="abc",
    )
    return Setup(context, mlflow, store, logged)


def stored_examples(
    context: RunContext,
    *,
    difficulty: float,
    rows: int = 4000,
    seed: int = 1,
    change: Callable[[pa.Table], pa.Table] = lambda table: table,
) -> None:
    """What `load` would have left: frauds lie `1 / difficulty` away from the others."""
    source = np.random.default_rng(seed)
    labels = (source.random(rows) < 0.15).astype(np.int8)
    values = source.normal(size=(rows, 3)) + np.outer(labels, [1, 1, 0]) / difficulty
    moments = [NOW - timedelta(minutes=rows - row) for row in range(rows)]
    table = pa.table(
        {
            "transaction_id": [f"t{row}" for row in range(rows)],
            "event_time": pa.array(moments, pa.timestamp("us", tz="UTC")),
            "_label": labels,
            "_source": ["simulator"] * rows,
            **{name: np.round(values[:, position], 6) for position, name in enumerate(NAMES)},
            "amount": np.round(source.lognormal(3, 1, rows), 2),
        }
    )
    outcome = {
        "digest": context.run.put_table(EXAMPLES, change(table)),
        "sources": {"simulator": rows},
        "data_from": moments[0].isoformat(),
        "data_to": moments[-1].isoformat(),
        "optimum": {"recall": 0.98},
        "population": "p1",
    }
    context.run.finish(context.run.seal("load", outcome))


def train_all(context: RunContext, *, promote: bool = False) -> Mapping[str, Any]:
    steps.features(context)
    for verb in ("train", "validate"):
        execute(verb, context, promote=False)
    return register(context, promote=promote)


def test_the_split_is_in_time_and_disjoint() -> None:
    moments = np.sort(np.random.default_rng(1).integers(0, 500, 2000))
    labels = (np.arange(2000) % 10 == 0).astype(np.int8)
    split = split_in_time(moments, labels, validation_share=0.3, test_share=0.2)
    parts = [part for _, part in split.parts()]
    assert parts[0].start == 0
    assert parts[-1].stop == 2000
    for earlier, later in itertools.pairwise(parts):
        assert earlier.stop == later.start
        assert moments[earlier].max() < moments[later].min()
    assert split.test == pytest.approx(1600, abs=10)
    assert split.calibration - split.stopping == pytest.approx(200, abs=10)


def test_data_that_cannot_be_split_is_refused_with_a_sentence() -> None:
    early = np.zeros(100, np.int8)
    early[:20] = 1
    with pytest.raises(SplitError, match="part stopping has 10, 0 of them frauds"):
        split_in_time(np.arange(100), early, validation_share=0.3, test_share=0.2)
    with pytest.raises(SplitError):
        split_in_time(np.zeros(100, np.int64), early, validation_share=0.3, test_share=0.2)
    with pytest.raises(ValueError, match="not ordered"):
        split_in_time(np.arange(100)[::-1], early, validation_share=0.3, test_share=0.2)


def test_the_sigmoid_is_the_maximum_likelihood_fit() -> None:
    source = np.random.default_rng(2)
    margins = source.normal(-3, 3, 20_000).astype(np.float32)
    labels = (source.random(20_000) < 1 / (1 + np.exp(-(0.7 * margins + 0.4)))).astype(np.int8)
    fitted = fit_sigmoid(margins, labels)
    other = linear_model.LogisticRegression(C=np.inf, tol=1e-10).fit(margins[:, None], labels)
    # Platt's targets differ from 0 and 1 by one example in each class.
    assert fitted.slope == pytest.approx(other.coef_[0, 0], rel=2e-3)
    assert fitted.intercept == pytest.approx(other.intercept_[0], abs=2e-3)


def test_the_sigmoid_stays_finite_on_separable_data_and_refuses_a_reversed_model() -> None:
    labels = np.repeat([0, 1], 50).astype(np.int8)
    margins = np.where(labels == 1, 4, -4).astype(np.float32)
    assert 0 < fit_sigmoid(margins, labels).slope < 10
    with pytest.raises(CalibrationError, match="does not rank frauds above"):
        fit_sigmoid(-margins, labels)


def _scores(shift: float, frauds: int = 1000, others: int = 19_000) -> tuple[np.ndarray, np.ndarray]:
    source = np.random.default_rng(4)
    labels = np.concatenate([np.ones(frauds, np.int8), np.zeros(others, np.int8)])
    logits = np.concatenate([source.normal(shift, 1, frauds), source.normal(-shift, 1, others)])
    return labels, 1 / (1 + np.exp(-logits))


def test_thresholds_keep_the_gate_with_room_to_spare() -> None:
    labels, scores = _scores(2.3)
    chosen = choose_thresholds(labels, scores, POLICY, 0.98)
    result = confusion(labels, scores >= chosen.threshold)
    assert result.recall is not None and result.recall > 0.96
    assert result.fpr is not None and result.fpr < 0.02
    assert "95 % intervals keep recall >= 0.95 and FPR <= 0.02" in chosen.rule
    blocked = confusion(labels, scores >= chosen.block_threshold)
    assert blocked.precision is not None and blocked.precision >= 0.98
    assert chosen.block_threshold >= chosen.threshold
    assert chosen.threshold not in scores


def test_an_unreachable_gate_leaves_the_best_recall_at_the_bound_of_the_fpr() -> None:
    labels, scores = _scores(1.0)
    chosen = choose_thresholds(labels, scores, POLICY, 0.98)
    result = confusion(labels, scores >= chosen.threshold)
    assert result.fpr is not None and 0.0195 < result.fpr <= 0.02
    assert "since no point keeps" in chosen.rule


def test_without_bounds_on_recall_the_best_f1_counts_and_unreachable_precision_blocks_nothing() -> None:
    labels, scores = _scores(0.3)
    chosen = choose_thresholds(labels, scores, GatePolicy(min_frauds=50, min_average_precision=0.5), 1.0)
    points = np.unique(scores)
    best = max(confusion(labels, scores >= point).f1 or 0 for point in points[:: len(points) // 300])
    assert (confusion(labels, scores >= chosen.threshold).f1 or 0) >= best
    assert chosen.rule.startswith("best F1;")
    worst_first = choose_thresholds(
        np.array([1, 0, 1, 0], np.int8), np.array([0.1, 0.9, 0.3, 0.8]), POLICY, 1.0
    )
    assert worst_first.block_threshold == NEVER
    assert "nothing is blocked" in worst_first.rule


def test_a_good_model_becomes_champion_and_the_next_one_challenger(setup: Setup) -> None:
    # What `best` compares is in the registry: see the integration tests.
    context = replace(setup.context, training=TRAINING.model_copy(update={"promotion": "canary"}))
    stored_examples(context, difficulty=0.2)
    result = train_all(context)
    assert result["aliases"] == setup.mlflow.aliases == {constants.ALIAS_CHAMPION: "1"}
    insert, history, entry = (statement for statement, _ in setup.logged)
    assert "INSERT INTO model_versions" in insert
    assert "FROM model_alias_history" in history
    assert "audit_append" in entry
    assert setup.mlflow.runs["run-1"].status == "FINISHED"
    assert setup.mlflow.tags["optimum_population"] == "p1"
    assert setup.mlflow.metrics["optimum_recall"] == 0.98
    assert setup.mlflow.metrics["recall_low"] < setup.mlflow.metrics["recall"]  # type: ignore[operator]

    assert train_all(context)["aliases"] == {constants.ALIAS_CHALLENGER: "2"}
    assert setup.mlflow.aliases == {constants.ALIAS_CHAMPION: "1", constants.ALIAS_CHALLENGER: "2"}
    promoted = train_all(context, promote=True)["aliases"]
    assert promoted == {constants.ALIAS_PREVIOUS: "1", constants.ALIAS_CHAMPION: "3"}


def test_a_model_that_fails_its_gate_is_registered_but_never_aliased(setup: Setup) -> None:
    stored_examples(setup.context, difficulty=1.0)
    with pytest.raises(
        JobFailed, match=r"Gate strict failed: recall 0\.\d+, must be at least 0.95, missed by"
    ) as e:
        train_all(setup.context, promote=True)
    assert e.value.result["gate_passed"] is False
    assert setup.mlflow.aliases == {}
    assert setup.mlflow.registered[0]["gate_passed"] == "false"
    ((statement, row),) = setup.logged
    assert "INSERT INTO model_versions" in statement
    assert row["gate_passed"] is False


def test_the_policy_for_rare_frauds_finds_the_figures_it_asks_for(setup: Setup) -> None:
    stored_examples(setup.context, difficulty=0.2)
    rare = GatePolicy(
        min_frauds=50,
        min_average_precision=0.65,
        min_recall_at_precision=RecallAtPrecision(precision=0.8, recall=0.6),
    )
    train_all(replace(setup.context, gate="rare", policy=rare))
    gate = setup.context.run.step("validate")["gate"]
    assert [check["metric"] for check in gate["checks"]] == ["average_precision", "recall_at_precision_0.8"]
    assert all(check["value"] > 0.9 for check in gate["checks"])


def test_a_model_without_boosted_trees_goes_all_the_way(setup: Setup) -> None:
    stored_examples(setup.context, difficulty=0.2)
    chosen = {"candidates": ["logistic_regression", "isolation_forest"]}
    context = replace(setup.context, training=TRAINING.model_copy(update=chosen))
    result = train_all(context)
    assert result["aliases"] == {constants.ALIAS_CHAMPION: "1"}
    assert "model/model.onnx" in setup.mlflow.files
    assert "model/model.ubj" not in setup.mlflow.files
    manifest = Manifest.from_json(setup.mlflow.files["model/manifest.json"])
    assert (manifest.candidate, manifest.engines) == ("logistic_regression", {"onnx": "model.onnx"})
    assert manifest.preparation is not None and manifest.width == len(NAMES)
    trained = context.run.step("train")
    assert trained["choice"].startswith("logistic_regression was chosen: average precision")
    assert setup.mlflow.tags["candidate_choice"] == trained["choice"]
    measured = setup.mlflow.metrics["candidate.logistic_regression.average_precision"]
    assert measured == trained["candidates"]["logistic_regression"]["average_precision"]


def test_engines_that_disagree_stop_the_run(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validating, "MAX_ENGINE_DIFFERENCE", -1.0)
    stored_examples(setup.context, difficulty=0.2)
    with pytest.raises(JobFailed, match="ONNX model differs from XGBoost's by"):
        train_all(setup.context)
    assert (setup.mlflow.runs["run-1"].status, setup.mlflow.registered) == ("FAILED", [])


def test_too_few_frauds_to_judge_are_insufficient_however_good_the_model(setup: Setup) -> None:
    stored_examples(setup.context, difficulty=0.2)
    context = replace(setup.context, policy=POLICY.model_copy(update={"min_frauds": 1000}))
    with pytest.raises(
        JobFailed,
        match=r"insufficient: the held-out part has \d+ frauds, \d+ fewer than the 1000 needed \(a recall of",
    ):
        train_all(context)
    assert setup.mlflow.aliases == {}


def test_the_held_out_part_decides_nothing_that_is_fitted(setup: Setup) -> None:
    stored_examples(setup.context, difficulty=0.5)
    steps.features(setup.context)
    first: Mapping[str, Any] = steps.train(setup.context)
    table = setup.context.run.get_table(FEATURES, setup.context.run.step("features")["digest"])
    start = first["split"]["test"]["from"]
    reversed_test = table.column("_label").to_numpy().copy()
    reversed_test[start:] = 1 - reversed_test[start:]
    changed = table.set_column(1, "_label", pa.array(reversed_test))
    run = setup.context.run
    outcome = {**run.step("features").outcome, "digest": run.put_table(FEATURES, changed)}
    run.finish(run.seal("features", outcome, run.step("load")))
    again: Mapping[str, Any] = steps.train(setup.context)
    fitted = ("digests", "threshold", "block_threshold", "calibration", "preparation", "choice")
    assert {name: again[name] for name in fitted} == {name: first[name] for name in fitted}


def test_the_thresholds_come_from_the_calibration_part_alone(setup: Setup) -> None:
    stored_examples(setup.context, difficulty=0.5)
    steps.features(setup.context)
    result = steps.train(setup.context)
    names = list(result["split"])
    assert names == ["train", "stopping", "calibration", "test"]
    bounds = [(part["from"], part["to"]) for part in result["split"].values()]
    assert all(earlier[1] == later[0] for earlier, later in itertools.pairwise(bounds))
    assert result["threshold_rule"].endswith("on the calibration part of the validation rows")


def test_a_step_without_the_one_before_it_says_so(setup: Setup) -> None:
    with pytest.raises(JobFailed, match=r"features\.json is missing: run the step before it first"):
        steps.train(setup.context)


def test_a_file_changed_between_two_steps_is_refused(setup: Setup) -> None:
    stored_examples(setup.context, difficulty=0.5)
    setup.store.objects[f"{setup.context.run.prefix}/{EXAMPLES}"] += b"x"
    with pytest.raises(JobFailed, match="was changed after it was written"):
        steps.features(setup.context)


def test_a_step_follows_from_those_before_it_as_they_are_now(setup: Setup) -> None:
    stored_examples(setup.context, difficulty=0.5)
    steps.features(setup.context)
    assert setup.context.run.step("features")["rows"] == 4000
    stored_examples(setup.context, difficulty=0.5, seed=2)
    with pytest.raises(JobFailed, match=r"features\.json does not follow from load\.json as it is now"):
        steps.train(setup.context)
    assert setup.mlflow.runs == {}


def test_a_try_takes_up_the_run_of_the_one_before_if_it_trains_the_same(setup: Setup) -> None:
    stored_examples(setup.context, difficulty=0.5)
    steps.features(setup.context)
    for _ in range(2):
        assert steps.train(setup.context)["mlflow_run_id"] == "run-1"
        setup.mlflow.end("run-1", "KILLED")
    other = replace(setup.context, training=TRAINING.model_copy(update={"rounds": 50}))
    setup.mlflow.resume(setup.mlflow.runs["run-1"])
    assert steps.train(other)["mlflow_run_id"] == "run-2"
    assert [run.status for run in setup.mlflow.runs.values()] == ["KILLED", "RUNNING"]


def test_airflows_run_ids_make_one_folder() -> None:
    run = RunStore(Memory(), "01_training_pipeline", "scheduled__2026-03-01T02:00:00+00:00/../x", STEPS)
    assert run.prefix == "runs/01_training_pipeline/scheduled__2026-03-01T02:00:00+00:00%2F..%2Fx"
    with pytest.raises(JobFailed, match="cannot be called"):
        _ = RunStore(Memory(), "..", "x", STEPS).prefix


def test_the_code_version_is_the_builds_or_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODE_VERSION", "v1.2")
    assert code_version() == "v1.2"
    monkeypatch.delenv("CODE_VERSION")
    monkeypatch.setenv("PATH", "")
    assert code_version() == "unknown"
