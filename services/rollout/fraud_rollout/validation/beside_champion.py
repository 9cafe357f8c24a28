"""The candidate's decisions beside the champion's: on recent transactions, and where the truth is known."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from config.job_results.rollout import FindingResult
from config.rollout import AgreementRules
from fraud_adapters.models.loading import Model
from fraud_core.canary.comparison import (
    Agreement,
    Difference,
    agreement,
    paired_counts,
    paired_difference,
)
from fraud_core.canary.evidence import Paired
from fraud_core.canary.rules import JudgementRules
from fraud_core.decision import decision_ranks, is_fraud
from fraud_rollout.validation.findings import bounded, failed, insufficient, passed
from fraud_rollout.validation.history import Rows


def compare_decisions(model: Model, champion: Model, rows: Rows) -> Agreement:
    """What each of them would decide on the same transactions, at its own thresholds."""
    return agreement(_ranks(champion, rows), _ranks(model, rows), rows.amounts)


def replay(model: Model, champion: Model, rows: Rows) -> Paired:
    """Who flags which labelled transaction, each at its own threshold."""
    assert rows.labels is not None
    return paired_counts(rows.labels, _flags(champion, rows), _flags(model, rows))


def judge_agreement(found: Agreement, rules: AgreementRules) -> FindingResult:
    """Whether the candidate decides much the same as the champion."""
    if not found.share and not found.rows:
        return insufficient("agreement", f"There is no transaction of the last {rules.window} to compare on.")
    share = found.share or 0.0
    sentence = (
        f"Of {found.rows:,} recent transactions {found.changed:,} ({share:.2%}) are decided differently: "
        f"{found.stricter:,} more strictly, {found.milder:,} more mildly{_money(found)}."
    )
    return bounded("agreement", sentence, share, rules.max_changed)


def judge_replay(counts: Paired, bounds: JudgementRules, confidence: float) -> Iterator[FindingResult]:
    """Whether the candidate is shown to be worse than the champion by more than the rules allow."""
    recall = paired_difference(counts.candidate_only, counts.champion_only, counts.frauds, confidence)
    fpr = paired_difference(
        counts.false_candidate_only, counts.false_champion_only, counts.legitimate, confidence
    )
    yield _judged(
        "replay_recall",
        "recall",
        f"{counts.frauds:,} labelled frauds",
        recall,
        drop=None if recall is None else (-recall.value, -recall.high),
        bound=bounds.max_recall_drop,
    )
    yield _judged(
        "replay_fpr",
        "false positive rate",
        f"{counts.legitimate:,} labelled legitimate transactions",
        fpr,
        drop=None if fpr is None else (fpr.value, fpr.low),
        bound=bounds.max_fpr_rise,
    )


def _judged(
    name: str,
    figure: str,
    on: str,
    difference: Difference | None,
    *,
    drop: tuple[float, float] | None,
    bound: float,
) -> FindingResult:
    """`drop`: by how much it is worse, and by how much at least, both negative where it is better."""
    if difference is None or drop is None:
        return insufficient(name, f"There are no {on.partition(' ')[2]} that are new to both versions.")
    sentence = (
        f"On {on} that are new to both versions, {figure} differs from the champion's by "
        f"{difference.value:+.4f} ({difference.low:+.4f} to {difference.high:+.4f})."
    )
    figures = {"value": difference.value, "low": difference.low, "high": difference.high, "bound": bound}
    if drop[1] > bound:
        return failed(name, f"{sentence} It may be worse by {bound:g}.", **figures)
    return passed(name, sentence, **figures)


def _ranks(model: Model, rows: Rows) -> NDArray[np.int8]:
    manifest = model.manifest
    scores = model.score_batch(rows.features).values
    return decision_ranks(scores, manifest.threshold, manifest.block_threshold)


def _flags(model: Model, rows: Rows) -> NDArray[np.bool_]:
    return is_fraud(model.score_batch(rows.features).values, model.manifest.threshold)


def _money(found: Agreement) -> str:
    amounts = [change.amount for change in found.changes if change.amount is not None]
    return f", {sum(amounts):,.2f} in all" if amounts else ""
