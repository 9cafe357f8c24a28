"""What a validation leaves with its run: plots, figures, the comparison with the champion, the model card."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from config.job_results.trainer import CandidateResult
from fraud_adapters.documents import (
    Element,
    Heading,
    Paragraph,
    Picture,
    Points,
    Table,
    to_html,
    to_markdown,
)
from fraud_adapters.job.failures import JobFailed
from fraud_adapters.models.registry import ArtefactRefused
from fraud_adapters.objectstore.run_store import Step
from fraud_core.gate import GatePolicy, NotWorseThanChampion
from fraud_core.manifest import Manifest
from fraud_core.metrics import confusion
from fraud_core.money import Costs
from fraud_core.profile import FILE_NAME, Profile
from fraud_trainer import steps
from fraud_trainer.candidates.dense import LogisticRegressionLearner
from fraud_trainer.candidates.model_types import CandidateFailed
from fraud_trainer.evaluate import card_candidates, explaining, findings, validating
from fraud_trainer.evaluate.figures import Scored
from fraud_trainer.evaluate.report import report
from fraud_trainer.register.registering import register
from fraud_trainer.train.fitting import Examples
from tests.support.later import Later
from tests.unit.test_trainer import NAMES, TRAINING, Setup, setup, stored_examples, train_all

reference = Later("sklearn.metrics")

__all__ = ["setup"]

COMPARED = GatePolicy(
    min_frauds=50,
    min_average_precision=0.2,
    not_worse_than_champion=NotWorseThanChampion(metric="average_precision", tolerance=0.02),
)


class Words(HTMLParser):
    """The visible text of a page, and the tags that are open at its end."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.pictures = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        source = dict(attrs).get("src")
        self.pictures += bool(source and source.startswith("data:image/svg+xml;base64,PD94bWw"))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def reporting(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setattr(validating, "report", report)
    return setup


def test_a_run_has_plots_figures_and_a_model_card(reporting: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    def unusable(*_arguments: object) -> None:
        raise CandidateFailed("Nobody can use it.")

    monkeypatch.setattr(LogisticRegressionLearner, "fit", unusable)
    training = TRAINING.model_copy(update={"candidates": ["xgboost", "logistic_regression"]})
    stored_examples(reporting.context, difficulty=0.3)
    train_all(replace(reporting.context, training=training))
    files, metrics = reporting.mlflow.files, reporting.mlflow.metrics
    pictures = [path for path in files if path.startswith("plots/")]
    assert len(pictures) == 9
    assert all(files[path].startswith(b"<?xml") for path in pictures)

    report_of_classes = json.loads(files["evaluation/classification_report.json"])
    assert report_of_classes["fraud"]["recall"] == metrics["recall"]
    assert b"legitimate" in files["evaluation/classification_report.txt"]
    assert json.loads(files["evaluation/comparison.json"])["reason"] == (
        "there is no champion to compare with"
    )
    for name in ("f1", "average_precision", "recall_at_fpr_0.01", "expected_cost", "calibration_error"):
        low, value, high = (metrics[f"{name}{end}"] for end in ("_low", "", "_high"))
        assert low is not None and value is not None and high is not None
        assert low <= value <= high

    assert reporting.mlflow.tags["model_card"] == "model_card/model_card.html"
    card = Words(files["model_card/model_card.html"].decode())
    assert card.pictures == 9
    text = " ".join(" ".join(card.text).split())
    digest = reporting.mlflow.tags["manifest_digest"]
    for expected in (
        "Model card: fraud-tiny",
        "Thresholds, and what they mean a day",
        "Gate strict passed",
        "Known limits",
        "xgboost was chosen: average precision",
        "left out: Nobody can use it.",
        "not measured",
        "First frauds within the budget not applicable",
        "The data is simulated",
        f"{metrics['recall']:.4f}",
        str(digest),
    ):
        assert expected in text
    markdown = files["model_card/model_card.md"].decode()
    assert "## Known limits" in markdown
    score = reporting.mlflow.metrics["candidate.xgboost.average_precision"]
    assert f"| xgboost | {score:.4f} | not measured | as they are | " in markdown
    assert "![" in markdown and "../plots/precision_recall.svg" in markdown


def test_the_profile_is_part_of_the_version_and_describes_the_training_part(setup: Setup) -> None:
    stored_examples(setup.context, difficulty=0.3)
    train_all(setup.context)
    version = setup.mlflow.frozen["1"]
    profile = Profile.from_json(version[FILE_NAME])
    split = setup.context.run.step("train")["split"]
    assert profile.rows == split["train"]["to"]
    assert profile.scored_rows == split["test"]["to"] - split["test"]["from"]
    assert [feature.name for feature in profile.features] == list(NAMES)
    assert FILE_NAME in json.loads(version["manifest.json"])["digests"]


def test_a_model_is_compared_with_the_champion_on_the_same_rows(setup: Setup) -> None:
    context = replace(setup.context, gate="compared", policy=COMPARED)
    stored_examples(context, difficulty=0.5)
    train_all(context)
    stored_examples(context, difficulty=0.5)
    steps.features(context)
    steps.train(context)
    result = validating.validate(context)
    comparison: Any = result["comparison"]
    assert comparison["champion"] == "1"
    same = comparison["differences"]["average_precision"]
    assert (same["difference"], same["low"], same["high"]) == (0, 0, 0)
    assert "expected_cost" in comparison["differences"]
    assert setup.mlflow.metrics["average_precision_over_champion_low"] == 0
    assert result["passed"]
    # Its registration compares again, and again when it is champion itself.
    assert register(context, promote=True)["version"] == "2"
    assert register(context, promote=True)["version"] == "2"


def test_a_model_that_is_worse_than_the_champion_is_rejected(setup: Setup) -> None:
    context = replace(setup.context, gate="compared", policy=COMPARED)
    stored_examples(context, difficulty=0.5)
    train_all(context)
    poor = context.training.model_copy(update={"rounds": 1, "xgboost": {"max_depth": 1}})
    stored_examples(context, difficulty=0.5)
    with pytest.raises(
        JobFailed, match=r"average_precision_over_champion_low -0\.\d+, must be at least -0.02"
    ):
        train_all(replace(context, training=poor))
    assert setup.mlflow.aliases == {"champion": "1"}


def _unrecorded(setup: Setup) -> None:
    setup.logged.clear()


def _altered(setup: Setup) -> None:
    setup.mlflow.frozen["1"]["model.ubj"] += b"x"


def _of_another_contract(setup: Setup) -> None:
    files = setup.mlflow.frozen["1"]
    content = json.loads(files["manifest.json"])
    manifest = Manifest.model_validate({**content, "contract_version": 2})
    files["manifest.json"] = manifest.to_json()
    (row,) = [row for statement, row in setup.logged if "INSERT INTO model_versions" in statement]
    row["digest"] = manifest.digest()


def _oversized(setup: Setup) -> None:
    def download(*_arguments: object) -> None:
        raise ArtefactRefused("model.onnx is larger than 1 MiB.")

    setattr(setup.context.registry, "download", download)  # noqa: B010 - a method of a fake


@pytest.mark.parametrize(
    ("spoil", "passed", "reason"),
    [
        (_oversized, False, "version 1, cannot be loaded: model.onnx is larger"),
        (_unrecorded, False, "version 1, cannot be loaded: Version 1 is not in"),
        (_altered, False, "version 1, cannot be loaded: The model's file model.ubj is not the one"),
        (_of_another_contract, True, "version 1, cannot serve this installation: The model was trained for"),
    ],
)
def test_a_champion_that_cannot_be_compared_with(
    setup: Setup, spoil: Callable[[Setup], None], passed: bool, reason: str
) -> None:
    """It fails the check, unless the champion is of another contract and cannot serve either."""
    context = replace(setup.context, gate="compared", policy=COMPARED)
    stored_examples(context, difficulty=0.5)
    train_all(context)
    spoil(setup)
    stored_examples(context, difficulty=0.5)
    steps.features(context)
    steps.train(context)
    result = validating.validate(context)
    assert result["passed"] is passed
    assert reason in str(result["comparison"]["reason"])


def test_the_classification_report_agrees_with_scikit_learn() -> None:
    source = np.random.default_rng(1)
    labels = (source.random(500) < 0.2).astype(np.int8)
    flagged = source.random(500) < 0.3 + 0.4 * labels
    expected = reference.classification_report(
        labels, flagged, target_names=["legitimate", "fraud"], output_dict=True
    )
    found = findings.classification_report(confusion(labels, flagged))
    for name in ("legitimate", "fraud"):
        of = expected[name]
        assert found[name] == pytest.approx(
            {
                "precision": of["precision"],
                "recall": of["recall"],
                "f1": of["f1-score"],
                "support": of["support"],
            }
        )
    assert found["all"]["accuracy"] == pytest.approx(expected["accuracy"])


def test_what_the_thresholds_mean_a_day_by_hand() -> None:
    labels = np.array([1, 1, 0, 0, 0, 0], np.int8)
    scored = Scored(np.array([0.9, 0.2, 0.7, 0.1, 0.1, 0.1]), 0.5)
    held_out = Examples(np.zeros((6, 1), np.float32), labels, np.array([100.0, 30, 8, 1, 1, 1]))
    costs = TRAINING.model_copy(update={"costs": Costs(missed_fraud_fee=20, review=5)})
    day = findings.daily(held_out, scored, 0.8, 2.0, costs)
    assert (day.transactions, day.frauds, day.alerts, day.blocked, day.found) == (3, 1, 1, 0.5, 0.5)
    assert (day.found_amount, day.missed_amount) == (50, 15)
    assert day.cost == (30 + 20 + 2 * 5) / 2
    assert day.cost_without_model == (130 + 2 * 20) / 2


def test_a_block_of_time_without_frauds_has_no_average_precision() -> None:
    labels = np.zeros(100, np.int8)
    labels[[3, 7, 30, 90]] = 1
    held_out = Examples(np.zeros((100, 1), np.float32), labels)
    training = TRAINING.model_copy(update={"report_blocks": 4})
    moments = np.arange(100) * findings.DAY_MICROSECONDS
    blocks = findings.over_time(moments, held_out, Scored(labels.astype(np.float64), 0.5), training)
    assert [block.frauds for block in blocks] == [2, 1, 0, 1]
    assert [block.begins.day for block in blocks] == [1, 26, 20, 17]
    assert blocks[2].precision is None
    assert blocks[0].precision is not None
    assert blocks[0].precision.value == 1


def test_shuffling_a_feature_shows_what_the_model_uses() -> None:
    source = np.random.default_rng(2)
    features = source.normal(size=(3000, 3)).astype(np.float32)
    labels = (features[:, 1] > 1.5).astype(np.int8)
    found = explaining.permutation(lambda rows: rows[:, 1].astype(np.float64), features, labels, seed=1)
    assert found.shares.tolist() == [0, 1, 0]


def test_documents_escape_what_they_show() -> None:
    elements: list[Element] = [
        Heading("A <b>", 1),
        Paragraph("1 < 2"),
        Points(["a & b"]),
        Table(["x|y"], [["<script>"]]),
        Picture("one", "../plots/one.png", b"\x89PNG"),
        Picture("two", "../plots/two.svg", b"<svg/>"),
    ]
    page = to_html("<t>", elements)
    assert "<script>" not in page
    assert page.count('<div class="pictures">') == 1
    for content, media_type in ((b"\x89PNG", "image/png"), (b"<svg/>", "image/svg+xml")):
        assert f'src="data:{media_type};base64,{b64encode(content).decode()}"' in page
    assert "a &amp; b" in page
    assert "| x\\|y |\n| --- |\n| <script> |" in to_markdown(elements)


def test_the_card_shows_what_was_measured_on_blocks_and_what_was_imported() -> None:
    results: dict[str, CandidateResult] = {
        "xgboost": {
            "average_precision": 0.8,
            "seconds": 1.25,
            "imbalance": "weights",
            "imbalance_scores": {"none": 0.7, "weights": 0.75, "smote": None},
            "trials": 4,
            "blocks_score": 0.76,
        }
    }
    outcome = {"candidates": results, "candidate": "xgboost", "choice": "xgboost was chosen."}
    text = to_markdown(card_candidates.candidates_section(TRAINING, step_of(outcome)))
    shown = "none 0.7000, weights 0.7500, smote undefined, search 0.7600 (4 trials)"
    assert f"| xgboost | 0.8000 | {shown} | weighted up | 1.2 | chosen |" in text
    imported = to_markdown(card_candidates.candidates_section(TRAINING, step_of({"candidate": None})))
    assert "trained elsewhere and imported" in imported


def step_of(outcome: dict[str, Any]) -> Step:
    return Step("train", b"", outcome)
