"""What becomes of a version that passed its gate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from config.job_results.trainer import ComparedFigure
from config.parameters import load_parameters
from config.settings import CONFIG_DIR
from fraud_core.gate import GatePolicy, RecallAtPrecision
from fraud_core.metrics import average_precision, confusion, curve, recall_at_precision
from fraud_trainer.evaluate.figures import Scored, differences
from fraud_trainer.register.promotion import Promotion, compared_figures, decide
from fraud_trainer.train.fitting import Examples

TRAINING = load_parameters(CONFIG_DIR, "development").training.model_copy(update={"resamples": 200})
SOURCE = np.random.default_rng(1)
LABELS = (SOURCE.random(2000) < 0.1).astype(np.int8)
GOOD = np.clip(0.6 * LABELS + SOURCE.normal(0.2, 0.12, 2000), 0, 1)
BAD = np.clip(0.2 * LABELS + SOURCE.normal(0.2, 0.2, 2000), 0, 1)
POLICY = GatePolicy(
    min_frauds=1,
    min_recall=0.5,
    max_fpr=0.1,
    min_f1=0.5,
    min_recall_at_precision=RecallAtPrecision(precision=0.8, recall=0.5),
)


def compared(candidate: np.ndarray, champion: np.ndarray) -> dict[str, ComparedFigure]:
    rows = Examples(np.zeros((len(LABELS), 1), dtype=np.float32), LABELS)
    found = differences(rows, Scored(candidate, 0.5), Scored(champion, 0.5), POLICY, TRAINING)
    return {figure["figure"]: figure for figure in compared_figures(POLICY, found)}


def test_the_figures_of_the_policy_and_average_precision_decide() -> None:
    figures = compared(GOOD, BAD)
    assert list(figures) == ["recall", "fpr", "f1", "recall_at_precision_0.8", "average_precision"]
    counts, curves = [[f(LABELS, x) for x in (GOOD, BAD)] for f in (_confusion, curve)]
    expected = {
        "recall": counts[0].recall - counts[1].recall,
        "fpr": counts[0].fpr - counts[1].fpr,
        "f1": counts[0].f1 - counts[1].f1,
        "recall_at_precision_0.8": recall_at_precision(curves[0], 0.8) - recall_at_precision(curves[1], 0.8),
        "average_precision": average_precision(curves[0]) - average_precision(curves[1]),
    }
    assert {name: figure["difference"] for name, figure in figures.items()} == pytest.approx(expected)


def _confusion(labels: np.ndarray, scores: np.ndarray) -> Any:
    return confusion(labels, scores >= 0.5)


def test_what_is_worse_is_told_from_noise() -> None:
    assert not any(figure["worse"] for figure in compared(GOOD, GOOD).values())
    assert not any(figure["worse"] for figure in compared(GOOD, BAD).values())
    worse = {name for name, figure in compared(BAD, GOOD).items() if figure["worse"]}
    assert {"recall", "f1", "average_precision"} <= worse
    # A false positive more is worse as well: there more is worse.
    flagging = np.where(SOURCE.random(2000) < 0.2, 0.9, GOOD)
    assert compared(flagging, GOOD)["fpr"]["worse"]


SAME: list[ComparedFigure] = [
    {"figure": "recall", "difference": 0.0, "low": -0.01, "high": 0.01, "worse": False}
]
WORSE: list[ComparedFigure] = [
    {"figure": "recall", "difference": -0.1, "low": -0.2, "high": -0.01, "worse": True}
]
CASES: dict[str, tuple[Promotion, str | None, bool, Any, bool, str]] = {
    "best, first": ("best", None, False, None, True, "there was none"),
    "best, no worse": ("best", "3", False, SAME, True, "no worse than version 3: recall +0.0000"),
    "best, worse": ("best", "3", False, WORSE, False, "worse than champion 3: recall -0.1000"),
    "best, not comparable": ("best", "3", False, "it is away.", False, "cannot be compared: it is away."),
    "best, asked": ("best", "3", True, WORSE, True, "--promote was given"),
    "canary, first": ("canary", None, False, None, True, "there was none"),
    "canary": ("canary", "3", False, None, False, "by the DAG 05_model_deployment_canary"),
    "canary, asked": ("canary", "3", True, None, True, "--promote was given"),
    "manual, first": ("manual", None, False, None, False, "a person promotes it"),
    "manual": ("manual", "3", False, None, False, "a person promotes it"),
    "manual, asked": ("manual", "3", True, None, True, "--promote was given"),
}


@pytest.mark.parametrize(
    ("rule", "champion", "asked", "figures", "promoted", "words"), CASES.values(), ids=CASES
)
def test_every_value_decides(  # noqa: PLR0917
    rule: Promotion, champion: str | None, asked: bool, figures: Any, promoted: bool, words: str
) -> None:
    def comparison() -> Any:
        assert figures is not None, "nothing needs to be compared"
        return figures

    decision = decide(rule, champion=champion, asked=asked, comparison=comparison)
    assert (decision.promoted, words in decision.sentence) == (promoted, True), decision.sentence
