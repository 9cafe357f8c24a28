"""The figures of a model on the held-out part, with intervals, and their paired differences to another's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isnan
from typing import Final

import numpy as np
from numpy.typing import NDArray

from config.parameters import Training
from fraud_core import ranking
from fraud_core.bootstrap import Interval, intervals, paired_differences
from fraud_core.decision import is_fraud
from fraud_core.gate import GatePolicy
from fraud_core.metrics import confusion, wilson_interval
from fraud_core.ranking import Figure
from fraud_trainer.train.fitting import Examples

Figures = dict[str, float | None]

RECALL_AT: Final = 0.8  # the precision at which the recall is reported
FPR_AT: Final = 0.01
CALIBRATION_ERROR: Final = "calibration_error"
FIRST_STRIKES: Final = "first_strike_recall_at_budget"
# Of these, less is better.
LESS_IS_BETTER: Final = frozenset({"expected_cost", CALIBRATION_ERROR, "log_loss", "brier", "fpr"})

# By figure: its name for a reader, and what it means.
TITLES: Final = {
    "recall": ("Recall", "of all frauds, the share that gets an alert"),
    "precision": ("Precision", "of all alerts, the share that is a fraud"),
    "fpr": ("False positive rate", "of all legitimate transactions, the share that gets an alert"),
    "f1": ("F1", "precision and recall in one number (harmonic mean)"),
    "average_precision": ("Average precision", "over all thresholds; chance would give the share of frauds"),
    "roc_auc": ("ROC AUC", "chance that a fraud scores above a legitimate transaction"),
    "recall_at_precision_0.8": ("Recall at precision 0.8", "if four of five alerts are to be frauds"),
    "recall_at_fpr_0.01": ("Recall at 1 % false positives", "if one of 100 legitimate ones may get an alert"),
    "precision_at_budget": ("Precision within the budget", "of the alerts it allows, the share of frauds"),
    "recall_at_budget": ("Recall within the budget", "of all frauds, the share that it finds"),
    "amount_recall_at_budget": ("Money found within the budget", "of the frauds' amounts, the share"),
    FIRST_STRIKES: ("First frauds within the budget", "of the first frauds of each card, the share"),
    "expected_cost": ("Cost of a transaction", "the mean, in the unit of the amount"),
    "calibration_error": ("Calibration error", "mean distance of score and share of frauds; 0 is perfect"),
    "log_loss": ("Log loss", "how much the truth surprises the scores; 0 is perfect"),
    "brier": ("Brier score", "mean squared distance of score and truth; 0 is perfect"),
}


@dataclass(frozen=True, slots=True)
class Scored:
    """A model's calibrated scores of the held-out part, shape [n], and its own threshold."""

    scores: NDArray[np.float64]
    threshold: float


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of two models on the same rows, and the interval of `model` minus `champion`."""

    model: float
    champion: float
    difference: float
    low: float
    high: float


def figures(held_out: Examples, scored: Scored, policy: GatePolicy, training: Training) -> Figures:
    """All reported figures by name, and those that the policy requires; None if undefined.

    `<name>_low` and `<name>_high` are the bounds of 95 % intervals: Wilson's for recall, precision and FPR,
    the stratified bootstrap's for the others.
    """
    counts = confusion(held_out.labels, is_fraud(scored.scores, scored.threshold))
    result: Figures = {
        "recall": counts.recall,
        "precision": counts.precision,
        "fpr": counts.fpr,
        "fnr": counts.fnr,
        "accuracy": counts.accuracy,
    }
    shares = {
        "recall": (counts.tp, counts.tp + counts.fn),
        "precision": (counts.tp, counts.tp + counts.fp),
        "fpr": (counts.fp, counts.fp + counts.tn),
    }
    for name, (part, whole) in shares.items():
        result[f"{name}_low"], result[f"{name}_high"] = wilson_interval(part, whole)
    measured = intervals(
        {"f1": ranking.f1_at(scored.threshold), **_figures(scored.threshold, policy, training)},
        held_out.labels,
        scored.scores,
        amounts=held_out.amounts,
        resamples=training.resamples,
        seed=training.seed,
        pivotal=(CALIBRATION_ERROR,),
    )
    measured |= _first_strikes(held_out, scored, training)
    for name, found in measured.items():
        result |= _flat(name, found)
    for name in ("tp", "fp", "tn", "fn"):
        result[name] = float(getattr(counts, name))
    result["test_rows"], result["test_frauds"] = float(len(scored.scores)), float(held_out.labels.sum())
    return result


def differences(
    held_out: Examples, model: Scored, champion: Scored, policy: GatePolicy, training: Training
) -> dict[str, Difference]:
    """The paired differences of two models on the same rows, by figure, without undefined figures."""
    pairs = {
        name: (of_model, of_champion)
        for (name, of_model), of_champion in zip(
            _compared(model.threshold, policy, training).items(),
            _compared(champion.threshold, policy, training).values(),
            strict=True,
        )
    }
    found = paired_differences(
        pairs,
        held_out.labels,
        model.scores,
        champion.scores,
        amounts=held_out.amounts,
        resamples=training.resamples,
        seed=training.seed,
    )
    own, other = (ranking.ranked(held_out.labels, of.scores, held_out.amounts) for of in (model, champion))
    return {
        name: Difference(
            float(pairs[name][0](own)[0]), float(pairs[name][1](other)[0]), one.value, one.low, one.high
        )
        for name, one in found.items()
        if not isnan(one.value)
    }


def comparison_mapping(compared: Mapping[str, Difference]) -> dict[str, dict[str, float]]:
    return {name: asdict(difference) for name, difference in compared.items()}


def _figures(threshold: float, policy: GatePolicy, training: Training) -> dict[str, Figure]:
    """The figures without an interval in closed form."""
    precisions = {RECALL_AT}
    if policy.min_recall_at_precision is not None:
        precisions.add(policy.min_recall_at_precision.precision)
    budget = training.alert_budget
    return {
        "average_precision": ranking.average_precision,
        "roc_auc": ranking.roc_auc,
        **{f"recall_at_precision_{p:g}": ranking.recall_at_precision(p) for p in sorted(precisions)},
        f"recall_at_fpr_{FPR_AT:g}": ranking.recall_at_fpr(FPR_AT),
        "precision_at_budget": ranking.precision_at_budget(budget),
        "recall_at_budget": ranking.recall_at_budget(budget),
        "amount_recall_at_budget": ranking.amount_recall_at_budget(budget),
        "expected_cost": ranking.cost_at(threshold, training.costs),
        CALIBRATION_ERROR: ranking.calibration_error,
        "log_loss": ranking.log_loss,
        "brier": ranking.brier,
    }


def _first_strikes(held_out: Examples, scored: Scored, training: Training) -> dict[str, Interval]:
    """The share of cards' first frauds that the budget finds; nothing where the contract has no card."""
    if held_out.first_strikes is None:
        return {}
    return intervals(
        # Of the frauds that count, each counts once, as an amount of 1 would.
        {FIRST_STRIKES: ranking.amount_recall_at_budget(training.alert_budget)},
        held_out.labels,
        scored.scores,
        amounts=held_out.first_strikes.astype(np.float64),
        resamples=training.resamples,
        seed=training.seed,
    )


def _compared(threshold: float, policy: GatePolicy, training: Training) -> dict[str, Figure]:
    return {
        "recall": ranking.recall_at(threshold),
        "precision": ranking.precision_at(threshold),
        "fpr": ranking.fpr_at(threshold),
        "f1": ranking.f1_at(threshold),
        **_figures(threshold, policy, training),
    }


def _flat(name: str, found: Interval) -> Figures:
    entries = {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return {key: None if isnan(value) else value for key, value in entries.items()}
