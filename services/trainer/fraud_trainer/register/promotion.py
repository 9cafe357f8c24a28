"""Decides what becomes of a version that passed its gate: champion or challenger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from config.constants import DAG_CANARY
from config.job_results.trainer import ComparedFigure
from fraud_core.gate import GatePolicy
from fraud_trainer.evaluate.figures import LESS_IS_BETTER, Difference

Promotion = Literal["best", "canary", "manual"]
AVERAGE_PRECISION: Final = "average_precision"


@dataclass(frozen=True, slots=True)
class PromotionDecision:
    """Whether the version becomes champion, why, and the figures that were compared."""

    promoted: bool
    sentence: str
    compared: list[ComparedFigure] = field(default_factory=list)


def compared_figures(policy: GatePolicy, differences: Mapping[str, Difference]) -> list[ComparedFigure]:
    """Of the differences to the champion, those that decide: the figures of the policy and average precision.

    A figure is worse where the whole 95 % interval of the paired difference lies on the worse side of zero.
    """
    bounded = [metric for metric, _, _ in policy.bounds()]
    names = [name for name in dict.fromkeys((*bounded, AVERAGE_PRECISION)) if name in differences]
    return [_figure(name, differences[name]) for name in names]


def decide(
    promotion: Promotion,
    *,
    champion: str | None,
    asked: bool,
    comparison: Callable[[], list[ComparedFigure] | str],
) -> PromotionDecision:
    """Decide by `training.promotion`.

    Args:
        champion: the current champion's version, if there is one.
        asked: `--promote` was given.
        comparison: compares with the champion, or says in one sentence why that is impossible; called only
            if the comparison decides.
    """
    if asked:
        return PromotionDecision(True, "Champion, since --promote was given.")
    if promotion == "manual":
        return PromotionDecision(
            False, "Challenger, since training.promotion is manual: a person promotes it."
        )
    if champion is None:
        return PromotionDecision(True, "Champion, since there was none.")
    if promotion == "canary":
        return PromotionDecision(
            False,
            "Challenger, since training.promotion is canary: it becomes champion by the DAG "
            f"{DAG_CANARY}, if live traffic speaks for it.",
        )
    compared = comparison()
    if isinstance(compared, str):
        return PromotionDecision(False, f"Challenger, since it cannot be compared: {compared}")
    return _by_comparison(champion, compared)


def _by_comparison(champion: str, compared: list[ComparedFigure]) -> PromotionDecision:
    worse = [figure for figure in compared if figure["worse"]]
    shown = "; ".join(map(_shown, worse or compared))
    if worse:
        return PromotionDecision(False, f"Challenger, worse than champion {champion}: {shown}.", compared)
    return PromotionDecision(True, f"Champion, no worse than version {champion}: {shown}.", compared)


def _shown(figure: ComparedFigure) -> str:
    return f"{figure['figure']} {figure['difference']:+.4f} ({figure['low']:+.4f} to {figure['high']:+.4f})"


def _figure(name: str, one: Difference) -> ComparedFigure:
    return {
        "figure": name,
        "difference": one.difference,
        "low": one.low,
        "high": one.high,
        "worse": one.low > 0 if name in LESS_IS_BETTER else one.high < 0,
    }
