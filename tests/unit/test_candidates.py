"""The candidates: each is served as it was trained, one is chosen, and the same inputs give the same."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import xgboost
from numpy.typing import NDArray

from config.candidates import Automl, Search
from config.parameters import Training
from fraud_adapters.models.boosted_bag import mean_of
from fraud_adapters.models.loading import ENGINE_BATCH, ENGINE_SINGLE, Model, NotExplainable
from fraud_adapters.models.onnx_export import ExportError
from fraud_core.contract import Contract
from fraud_core.explanation import reference_of, shapley_from
from fraud_core.manifest import FILE_NAME, Manifest
from fraud_core.profile import make_profile
from fraud_trainer.candidates.choosing import Choice, Parts, choose_candidate
from fraud_trainer.candidates.learners import SEARCHED, Learners
from fraud_trainer.candidates.model_types import CandidateFailed, Fitted, Rows
from fraud_trainer.candidates.prequential import (
    average_precision,
    balanced,
    blocks,
    gain_is_certain,
    prequential_score,
)
from fraud_trainer.candidates.searching import AUTOML_KINDS, Trials, automl, search
from fraud_trainer.candidates.voting import vote_of
from fraud_trainer.train.calibration import fit_sigmoid
from fraud_trainer.train.exporting import FILES, Exported, export
from fraud_trainer.train.fitting import Examples
from fraud_trainer.train.modelling import TrainedModel, candidate_metrics, fit_model, prepare_parts
from fraud_trainer.train.preparing import FittedPreparation
from tests.support.later import Later
from tests.support.small_model import model_manifest

reference = Later("sklearn.metrics")

TOLERANCE = 1e-6  # of a score, between training and serving
NUMBERS = [f"f{position}" for position in range(6)]
CONTRACT = Contract.from_mapping(
    {
        "name": "tiny",
        "version": 1,
        "fields": [
            *(
                {"name": name, "type": "decimal", "precision": 9, "scale": 6, "required": False}
                for name in NUMBERS
            ),
            {
                "name": "channel",
                "type": "category",
                "values": ["branch", "web", "phone", "kiosk"],
                "required": False,
                "prepare": {"encoding": "target"},
            },
        ],
        "features": [
            *({"name": name, "op": "field", "of": name} for name in NUMBERS),
            {"name": "channel", "op": "category", "of": "channel"},
        ],
    }
)
ALL = [
    *("xgboost", "xgboost_bag", "neural_network", "random_forest", "isolation_forest"),
    *("logistic_regression", "voting"),
]
TRAINING = Training.model_validate(
    {
        "test_share": 0.2,
        "validation_share": 0.2,
        "threads": 1,
        "seed": 3,
        "rounds": 60,
        "early_stopping": 5,
        "block_precision": 0.95,
        # Far from the share of frauds, which is 15 %.
        "xgboost": {"max_depth": 3, "base_score": 0.9, "subsample": 0.8, "tree_method": "hist"},
        "candidates": ALL,
        "xgboost_bag": {"members": 3, "rounds": 20},
        "neural_network": {"layers": [12, 8], "epochs": 20, "batch": 128, "learning_rate": 0.01},
        "random_forest": {"trees": 25, "max_depth": 8},
        "isolation_forest": {"trees": 30},
        "voting_trees": {"random_forest": 10, "isolation_forest": 12},
    }
)


def rows_of(count: int, seed: int, missing: float = 0.05, categories: int = 3) -> Examples:
    source = np.random.default_rng(seed)
    values = source.normal(size=(count, 7)).astype(np.float32)
    values[:, 6] = source.integers(0, categories, count)
    total = values[:, 0] + values[:, 1] * values[:, 2] + (values[:, 6] == 2) + source.normal(size=count)
    # Frauds lie far out too, or the isolation forest would rank them last.
    labels = (total > 2.4).astype(np.int8)
    values[labels == 1, 3] *= 3
    values[source.random(values.shape) < missing] = np.nan
    return Examples(values, labels)


def parts_of(seed: int = 1, missing: float = 0.05) -> dict[str, Examples]:
    return {
        "train": rows_of(2500, seed, missing),
        "stopping": rows_of(600, seed + 1, missing),
        "calibration": rows_of(900, seed + 2, missing),
    }


def silent(*_event: str, **_values: Any) -> None: ...


class Trained:
    """All candidates, fitted once."""

    def __init__(self) -> None:
        self.parts = parts_of()
        self.model: TrainedModel = fit_model(CONTRACT, TRAINING, self.parts, silent)
        self.prepared, _, self.rows = prepare_parts(CONTRACT, TRAINING, self.parts)
        self.fitted = {candidate.name: candidate for candidate in self.model.choice.all_fitted}


@pytest.fixture(scope="module")
def trained() -> Trained:
    return Trained()


def loaded(directory: Path, fitted: Fitted, prepared: FittedPreparation, rows: Rows) -> Model:
    """The candidate as a service loads it."""
    exported: Exported = export(fitted, prepared)
    calibration = fitted.calibrated(rows).sigmoid
    plain = model_manifest(CONTRACT, dict.fromkeys(FILES.values(), b""), calibration, {}).model_dump(
        exclude={"engines", "digests"}
    )
    manifest = Manifest.model_validate(
        {
            **plain,
            "engines": {engine: name for engine, name in FILES.items() if name in exported.contents},
            "digests": {
                name: hashlib.sha256(content).hexdigest() for name, content in exported.contents.items()
            },
            "candidate": fitted.name,
            "members": exported.members,
            "preparation": exported.preparation,
        }
    )
    directory.mkdir(exist_ok=True)
    for name, content in exported.contents.items():
        (directory / name).write_bytes(content)
    (directory / FILE_NAME).write_bytes(manifest.to_json())
    return Model.load(directory, manifest.digest(), CONTRACT)


@pytest.fixture(scope="module", params=ALL)
def served(
    request: pytest.FixtureRequest, trained: Trained, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Fitted, Model]:
    fitted = trained.fitted[request.param]
    directory = tmp_path_factory.mktemp(request.param)
    return fitted, loaded(directory, fitted, trained.prepared, trained.rows.calibration)


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_a_candidate_is_served_as_it_was_trained(
    served: tuple[Fitted, Model], trained: Trained, missing: float
) -> None:
    """On later rows, with missing values and a channel that did not occur in training."""
    fitted, model = served
    later = rows_of(700, 9, missing, categories=4)
    expected = model.manifest.calibration.scores(fitted.margins(trained.prepared.apply(later, scaled=True)))
    for engine in {model.engine_single, model.engine_batch}:
        scores = model.score_with(engine, later.features).values
        assert np.max(np.abs(scores - expected)) < TOLERANCE
    assert expected.min() > 0 and expected.max() < 1


def test_a_row_scores_the_same_at_every_batch_size(served: tuple[Fitted, Model]) -> None:
    model, features = served[1], rows_of(601, 11, 0.2, categories=4).features
    together = model.score_batch(features).values
    for size in (1, 2, 3, 7, 64, 500):
        parts = [model.score_batch(features[row : row + size]).values for row in range(0, 601, size)]
        assert np.concatenate(parts).tobytes() == together.tobytes()
    assert model.score_with(model.engine_batch, features).values.tobytes() == together.tobytes()


def test_contributions_add_up_to_the_score_and_say_what_is_explained(
    served: tuple[Fitted, Model], trained: Trained
) -> None:
    fitted, model = served
    rows = rows_of(12, 13, 0.2, categories=4).features
    boosted = fitted.name in {"xgboost", "xgboost_bag"}
    if not boosted:
        with pytest.raises(NotExplainable, match="reference profile"):
            model.explain(rows[:1])
    learned = trained.parts["train"]
    labels, scores = learned.labels, model.score_batch(learned.features).values
    model.profile = make_profile(
        *("tiny/1", CONTRACT.feature_names, learned.features, labels),
        held_out_labels=labels,
        held_out_scores=scores,
        threshold=0.5,
    )
    for row in range(len(rows)):
        one = rows[row : row + 1]
        score = model.score_batch(one).values[0]
        contributions = model.explain(one)
        assert contributions.log_odds == pytest.approx(np.log(score / (1 - score)), abs=2e-5)
        assert contributions.score == pytest.approx(score, abs=1e-6)
        assert contributions.values.shape == (len(CONTRACT.features),)
        assert contributions.values.tolist() == model.explain(one).values.tolist()
        assert contributions.method == ("tree_shap" if boosted else "reference_shapley")
        told = {"voting": "whole weighted vote", "xgboost_bag": "bag", "logistic_regression": "exact"}
        assert told.get(fitted.name, "") in contributions.of
    # What differs from the reference in nothing has nothing to explain.
    if not boosted:
        assert not model.explain(reference_of(model.profile)[None, :]).values.any()
    model.profile = None


def test_a_linear_model_is_explained_exactly(trained: Trained, tmp_path: Path) -> None:
    fitted = trained.fitted["logistic_regression"]
    model = loaded(tmp_path, fitted, trained.prepared, trained.rows.calibration)
    row, other = rows_of(2, 17, 0.0).features

    def margins(rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.log(1 / (1 / model.score_batch(rows).values - 1))

    base, values = shapley_from(margins, row, other)
    alone = [margins(np.where(np.arange(7) == k, row, other)[None, :])[0] - base for k in range(7)]
    assert values == pytest.approx(alone, abs=1e-4)
    assert shapley_from(margins, row, other, orders=1)[1] == pytest.approx(values, abs=1e-4)


def test_only_boosted_trees_have_a_file_for_xgboost(served: tuple[Fitted, Model]) -> None:
    fitted, model = served
    boosted = fitted.name in {"xgboost", "xgboost_bag"}
    assert model.engine_single == ENGINE_SINGLE
    assert model.engine_batch == (ENGINE_BATCH if boosted else ENGINE_SINGLE)
    assert model.score_batch(np.empty((0, 7), np.float32)).engine == model.engine_batch
    assert {member.name for member in model.manifest.members} == (
        set(TRAINING.voting) & {part.name for part in fitted.parts} if fitted.votes else set()
    )


def test_margins_are_scikit_learns(trained: Trained) -> None:
    rows = trained.rows.calibration

    def part(name: str) -> Any:
        return trained.fitted[name].parts[0].part

    forest = part("random_forest").forest
    assert part("random_forest").margins(rows) == pytest.approx(forest.predict_proba(rows.trees)[:, 1])
    isolation = part("isolation_forest")
    expected = np.log2(-isolation.forest.score_samples(rows.view("scaled")))
    assert isolation.margins(rows) == pytest.approx(expected)


def test_a_bag_is_the_mean_of_its_members() -> None:
    rows = rows_of(1500, 4)
    settings = {
        "objective": "binary:logistic",
        "max_depth": 4,
        "subsample": 0.7,
        "base_score": 0.02,
        "nthread": 1,
    }
    boosters = [
        xgboost.train({**settings, "seed": seed}, xgboost.DMatrix(rows.features, rows.labels), 30)
        for seed in range(4)
    ]
    bag = mean_of(boosters)

    def margins(booster: xgboost.Booster) -> NDArray[np.float64]:
        return booster.inplace_predict(rows.features, predict_type="margin").astype(np.float64)

    assert bag.num_boosted_rounds() == 120
    assert margins(bag) == pytest.approx(np.mean([margins(one) for one in boosters], axis=0), abs=1e-5)
    other = xgboost.train({**settings, "base_score": 0.5}, xgboost.DMatrix(rows.features, rows.labels), 2)
    narrow = xgboost.train(settings, xgboost.DMatrix(rows.features[:, :3], rows.labels), 2)
    for wrong, sentence in (
        ([], "at least one"),
        ([bag, other], "different base_score"),
        ([bag, narrow], "features"),
    ):
        with pytest.raises(ExportError, match=sentence):
            mean_of(wrong)


def test_the_choice_is_by_average_precision_and_says_why(trained: Trained) -> None:
    choice, rows = trained.model.choice, trained.rows.calibration
    assert set(choice.results) == set(ALL)
    for name, result in choice.results.items():
        expected = reference.average_precision_score(rows.labels, trained.fitted[name].margins(rows))
        assert result["average_precision"] == pytest.approx(expected)
    chosen = choice.results[choice.fitted.name]["average_precision"]
    assert chosen >= choice.results["xgboost"]["average_precision"]  # which stands first
    assert (
        f"{choice.fitted.name} was chosen: average precision {chosen:.4f} on the 900 later" in choice.sentence
    )
    metrics = candidate_metrics(choice.results)
    assert metrics["candidate.xgboost.average_precision"] == choice.results["xgboost"]["average_precision"]
    assert metrics["candidate.xgboost.rounds"] is not None


def chosen_with(trained: Trained, **changes: Any) -> Choice:
    training = Training.model_validate({**TRAINING.model_dump(), **changes})
    return choose_candidate(training, trained.rows, silent)


def test_a_later_candidate_must_gain_more_than_the_margin(trained: Trained) -> None:
    names = ["logistic_regression", "xgboost"]
    assert chosen_with(trained, candidates=names).fitted.name == "xgboost"
    assert chosen_with(trained, candidates=names, candidate_margin=0.9).fitted.name == "logistic_regression"


def test_a_gain_by_chance_is_none() -> None:
    source = np.random.default_rng(1)
    rows = whole_rows(2000)
    first = rows.trees[:, 0] + source.normal(size=2000).astype(np.float32)
    clearly, hardly = rows.trees[:, 0], first + source.normal(0, 0.05, 2000).astype(np.float32)

    def certain(second: NDArray[np.float32], confidence: float = 0.9) -> bool:
        return gain_is_certain(rows, first, second, margin=0.0, confidence=confidence, seed=1)

    assert certain(clearly) and not certain(first)
    assert not certain(hardly, 1.0) and not certain(-clearly, 0.5)


def test_a_candidate_that_cannot_be_used_is_left_out_with_its_reason(trained: Trained) -> None:
    train = trained.rows.train
    reversed_rows = replace(train, labels=(1 - train.labels).astype(np.int8))
    parts = Parts(reversed_rows, trained.rows.stopping, trained.rows.calibration)
    training = TRAINING.model_copy(update={"candidates": ["logistic_regression", "isolation_forest"]})
    choice = choose_candidate(training, parts, silent)
    assert choice.fitted.name == "isolation_forest"
    assert "does not rank frauds above" in choice.results["logistic_regression"]["left_out"]
    alone = TRAINING.model_copy(update={"candidates": ["logistic_regression"]})
    with pytest.raises(CandidateFailed, match="No candidate can be used: logistic_regression: The model"):
        choose_candidate(alone, parts, silent)


def test_weights_of_a_vote_are_not_negative_and_fit_the_stopping_part(trained: Trained) -> None:
    vote, rows = trained.fitted["voting"], trained.rows.stopping
    assert all(part.weight > 0 for part in vote.parts)

    def loss(candidate: Fitted) -> float:
        sigmoid = fit_sigmoid(candidate.margins(rows), rows.labels)
        scores = sigmoid.scores(candidate.margins(rows))
        return float(-np.mean(np.log(np.where(rows.labels == 1, scores, 1 - scores))))

    assert loss(vote) <= min(loss(trained.fitted[part.name]) for part in vote.parts) + 1e-3
    with pytest.raises(CandidateFailed, match="two members"):
        vote_of([trained.fitted["xgboost"]], rows, {})


def test_of_a_forest_that_votes_the_first_trees_do(trained: Trained) -> None:
    parts = {part.name: part.part for part in trained.fitted["voting"].parts}
    for name, trees in TRAINING.voting_trees.items():
        alone = trained.fitted[name].parts[0].part
        assert len(alone.forest.estimators_) > trees, "the candidate itself keeps all of them"  # type: ignore[attr-defined]
        assert parts[name].forest.estimators_ == alone.forest.estimators_[:trees]  # type: ignore[attr-defined]
        same = replace(trained.fitted[name].parts[0], part=alone.first(len(alone.forest.estimators_)))  # type: ignore[attr-defined]
        np.testing.assert_array_equal(
            same.part.margins(trained.rows.calibration), alone.margins(trained.rows.calibration)
        )
    nodes = onnx.load_model_from_string(
        export(trained.fitted["voting"], trained.prepared).contents[FILES["onnx"]]
    ).graph.node
    served = [len(set(one.ints)) for node in nodes for one in node.attribute if one.name == "nodes_treeids"]
    assert {10, 12} <= set(served)


def test_an_isolation_forest_asks_for_no_missing_values(trained: Trained) -> None:
    """Its view has none, and every comparison would take longer."""
    exported = export(trained.fitted["isolation_forest"], trained.prepared)
    [node] = onnx.load_model_from_string(exported.contents[FILES["onnx"]]).graph.node
    [tracks] = [one for one in node.attribute if one.name == "nodes_missing_value_tracks_true"]
    assert set(tracks.ints) == {0}


def test_the_same_inputs_and_seed_give_the_same_files(trained: Trained) -> None:
    """Of every candidate, trees with two threads instead of one; another seed gives another model."""
    training = TRAINING.model_copy(update={"threads": 2})
    again = {
        candidate.name: candidate for candidate in choose_candidate(training, trained.rows, silent).all_fitted
    }
    for name, fitted in trained.fitted.items():
        assert export(again[name], trained.prepared).contents == export(fitted, trained.prepared).contents
    other = chosen_with(trained, seed=4, candidates=["xgboost"]).fitted
    contents = export(trained.fitted["xgboost"], trained.prepared).contents
    assert export(other, trained.prepared).contents != contents


@pytest.mark.parametrize("weighted", [False, True])
def test_average_precision_of_weighted_rows_is_scikit_learns(weighted: bool) -> None:
    source = np.random.default_rng(1)
    labels = (source.random(500) < 0.2).astype(np.int8)
    scores = np.round(source.normal(size=500) + labels, 1).astype(np.float32)  # with ties
    weights = source.integers(1, 9, 500).astype(np.float32) if weighted else np.ones(500, np.float32)
    expected = reference.average_precision_score(labels, scores, sample_weight=weights)
    assert average_precision(labels, scores, weights) == pytest.approx(expected)
    assert average_precision(np.zeros(500, np.int8), scores, weights) is None


def test_blocks_follow_each_other_in_time(trained: Trained) -> None:
    rows = trained.rows.train
    ends = 1000
    for train, stopping, block in blocks(rows, 3):
        assert len(train) + len(stopping) == ends
        assert block.trees.tobytes() == rows.take(slice(ends, ends + len(block))).trees.tobytes()
        ends += len(block)
    assert ends == len(rows)


def whole_rows(count: int, seed: int = 1, share: float = 0.05) -> Rows:
    source = np.random.default_rng(seed)
    labels = (source.random(count) < share).astype(np.int8)
    values = (source.normal(size=(count, 4)) + labels[:, None] * [2, 2, 0, 0]).astype(np.float32)
    return Rows(values * np.array([1, 1000, 1, 1], np.float32) + np.float32(5), values, labels)


def test_treatments_of_rare_frauds_touch_only_what_learns() -> None:
    train, stopping = whole_rows(2000), whole_rows(500, 2)
    assert balanced(train, stopping, "none", 1) == (train, stopping)
    weighted, watched = balanced(train, stopping, "weights", 1)
    assert weighted.weights is not None and watched.weights is not None
    assert weighted.weights[train.labels == 1].sum() == pytest.approx((train.labels == 0).sum())
    assert watched.weights.max() == weighted.weights.max()
    learned, watched = balanced(train, stopping, "smote", 1)
    assert watched.trees.tobytes() == stopping.trees.tobytes()
    assert learned.trees[:2000].tobytes() == train.trees.tobytes()
    added = learned.take(slice(2000, None))
    assert added.labels.all() and learned.labels.sum() == pytest.approx(
        0.25 * (learned.labels == 0).sum(), abs=1
    )
    # Between frauds, and the two views of one added row are the same row.
    frauds = train.trees[train.labels == 1]
    assert (added.trees >= frauds.min(axis=0) - 1e-2).all() and (
        added.trees <= frauds.max(axis=0) + 1e-2
    ).all()
    assert added.view("scaled")[:, 1] * 1000 + 5 == pytest.approx(added.trees[:, 1], rel=1e-3, abs=1e-2)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (replace(whole_rows(100), labels=np.eye(1, 100, dtype=np.int8)[0]), "two frauds"),
        (whole_rows(100).weighted(np.ones(100, np.float32)), "weights of rows"),
        (replace(whole_rows(100, share=0.1), trees=np.full((100, 4), np.nan, np.float32)), "missing values"),
    ],
)
def test_smote_says_where_it_cannot_be_used(rows: Rows, sentence: str) -> None:
    with pytest.raises(CandidateFailed, match=sentence):
        balanced(rows, rows, "smote", 1)


def test_the_treatment_with_the_best_average_precision_is_taken_and_recorded() -> None:
    rows = whole_rows(3000)
    parts = Parts(rows, whole_rows(600, 2), whole_rows(600, 3))
    training = Training.model_validate(
        {
            **TRAINING.model_dump(),
            "candidates": ["logistic_regression"],
            "imbalance": ["none", "weights", "smote"],
        }
    )
    result = choose_candidate(training, parts, silent).results["logistic_regression"]
    learner = Learners(training).make("logistic_regression")
    scores = {
        option: prequential_score(learner, rows, training.prequential_blocks, option, training.seed)
        for option in training.imbalance
    }
    assert result["imbalance_scores"] == scores
    assert result["imbalance"] == max(scores, key=lambda option: scores[option] or 0)
    assert (
        candidate_metrics({"logistic_regression": result})["candidate.logistic_regression.imbalance.smote"]
        == scores["smote"]
    )


def trials_with(progress: Callable[..., None]) -> Trials:
    training = TRAINING.model_copy(update={"rounds": 10})
    return Trials(Learners(training), whole_rows(1200), 2, "none", 5, progress)


@pytest.mark.parametrize("method", ["tpe", "random", "grid"])
def test_a_search_ends_with_its_budget_and_repeats_itself(method: Any) -> None:
    lines: list[dict[str, Any]] = []
    trials = trials_with(lambda event, **values: lines.append({"event": event, **values}))
    settings = Search(trials=5, method=method)
    found = search(trials, "logistic_regression", settings)
    assert [line["trial"] for line in lines] == [1, 2, 3, 4, 5] and found.trials == 5
    assert found.score == max(
        trials.score("logistic_regression", found.parameters), trials.score("logistic_regression", {})
    )
    assert lines[-1]["best"] == pytest.approx(found.score, abs=1e-4)
    assert search(trials_with(silent), "logistic_regression", settings) == found
    timed = search(trials, "logistic_regression", Search(trials=1000, seconds=1e-9, method=method))
    assert timed.trials <= 2


def test_automl_finds_a_model_that_can_be_served(tmp_path: Path, trained: Trained) -> None:
    training = Training.model_validate(
        {
            **TRAINING.model_dump(),
            "candidates": ["logistic_regression"],
            "automl": Automl(enabled=True, trials=4),
            "rounds": 10,
            "neural_network": {"epochs": 2},
            "random_forest": {"trees": 5},
        }
    )
    lines: list[dict[str, Any]] = []
    parts = Parts(trained.rows.train.take(slice(0, 1200)), trained.rows.stopping, trained.rows.calibration)
    choice = choose_candidate(
        training, parts, lambda event, **values: lines.append({"event": event, **values}), with_automl=True
    )
    result = choice.results["automl"]
    assert result["trials"] == 4 and result["details"]["kind"] in AUTOML_KINDS
    assert sum(line["event"] == "search_trial" for line in lines) == 4
    fitted = {candidate.name: candidate for candidate in choice.all_fitted}["automl"]
    model = loaded(tmp_path, fitted, trained.prepared, trained.rows.calibration)
    later = rows_of(50, 20)
    expected = model.manifest.calibration.scores(fitted.margins(trained.prepared.apply(later, scaled=True)))
    assert np.max(np.abs(model.score_batch(later.features).values - expected)) < TOLERANCE
    again = automl(replace(trials_with(silent), rows=parts.train), training.automl)
    assert again.kind in AUTOML_KINDS


def test_what_a_search_varies_are_parameters_that_exist(trained: Trained) -> None:
    rows = trained.rows
    few = rows.train.take(slice(0, 300))
    for kind, choices in SEARCHED.items():
        changes = {name: values[0] for name, values in choices.items()}
        training = TRAINING.model_copy(update={"rounds": 2})
        learner = Learners(training).make(kind, changes)  # type: ignore[arg-type]
        assert learner.fit(few, rows.stopping).margins(rows.calibration).shape == (900,)


def test_unknown_candidates_and_votes_without_members_are_refused() -> None:
    for changes, sentence in (
        ({"candidates": ["svm"]}, "Input should be"),
        ({"candidates": ["xgboost", "xgboost"]}, "listed twice"),
        ({"candidates": ["xgboost", "voting"]}, "two of its members"),
        ({"candidates": ["isolation_forest"]}, "knows no labels"),
        ({"random_forest": {"leaves": 3}}, "Extra inputs"),
    ):
        with pytest.raises(ValueError, match=sentence):
            Training.model_validate({**TRAINING.model_dump(), **changes})


def test_starting_the_trainer_does_not_import_scikit_learn_but_a_candidate_can() -> None:
    """XGBoost would import it for classes that are not used here, which takes half of the start-up time."""
    program = """
import sys
import fraud_trainer.__main__
assert "xgboost" in sys.modules and "sklearn" not in sys.modules
from sklearn.linear_model import LogisticRegression
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_margins_of_the_calibration_part_are_computed_once(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int]] = []
    margins = Fitted.margins

    def counted(self: Fitted, rows: Rows) -> NDArray[np.float32]:
        calls.append((self.name, len(rows)))
        return margins(self, rows)

    monkeypatch.setattr(Fitted, "margins", counted)
    fit_model(CONTRACT, TRAINING, trained.parts, silent)
    for name in ALL:
        assert calls.count((name, len(trained.rows.calibration))) == 1
