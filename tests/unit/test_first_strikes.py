"""First frauds of cards: what is one, and that a budget full of repeats misses them."""

from __future__ import annotations

import numpy as np

from fraud_core.first_strikes import first_strikes
from fraud_core.gate import GatePolicy
from fraud_trainer.evaluate.figures import FIRST_STRIKES, Scored, figures
from fraud_trainer.train.fitting import Examples
from tests.unit.test_trainer import TRAINING


def test_only_the_first_fraud_of_a_card_counts() -> None:
    cards = ["a", "a", "b", "a", None, "b", None]
    frauds = np.array([0, 1, 1, 1, 1, 0, 1], bool)
    assert first_strikes(cards, frauds).tolist() == [False, True, True, False, True, False, True]


def test_a_budget_full_of_repeats_finds_few_first_frauds() -> None:
    """Of 200 rows the budget takes 4: three repeats of card a, and its first fraud."""
    labels = np.zeros(200, np.int8)
    labels[[10, 50, 60, 70, 80, 90]] = 1
    cards = ["a" if row in {10, 50, 60, 70} else str(row) for row in range(200)]
    scores = np.linspace(0, 0.1, 200)
    scores[[10, 50, 60, 70]] = 0.9
    examples = Examples(
        np.zeros((200, 1), np.float32), labels, first_strikes=first_strikes(cards, labels == 1)
    )
    training = TRAINING.model_copy(update={"alert_budget": 0.02})
    policy = GatePolicy(min_frauds=1, min_recall=0.5)
    found = figures(examples, Scored(scores, 0.5), policy, training)
    assert (found["recall_at_budget"], found[FIRST_STRIKES]) == (4 / 6, 1 / 3)
    without = Examples(examples.features, labels)
    assert FIRST_STRIKES not in figures(without, Scored(scores, 0.5), policy, training)
