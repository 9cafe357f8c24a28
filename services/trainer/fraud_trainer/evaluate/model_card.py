"""The model card: what a model is for, how good it is, what its thresholds mean, and where its limits are.

Written for a person who answers for its use and does not read code (Mitchell et al. 2019, Model cards for
model reporting).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud_adapters.documents import Element, Heading, Paragraph, Picture, Points, Table
from fraud_adapters.objectstore.run_store import Step
from fraud_core.moments import parse_moment
from fraud_trainer.evaluate.explaining import SUSPECT_AUC, Importance
from fraud_trainer.evaluate.figures import LESS_IS_BETTER, TITLES, Figures
from fraud_trainer.evaluate.findings import Daily, TimeBlock
from fraud_trainer.evaluate.judgement import Judgement
from fraud_trainer.run_context import RunContext
from fraud_trainer.train.thresholds import NEVER

_FEATURES_SHOWN: Final = 10
_SIMULATED: Final = "simulator"


@dataclass(frozen=True, slots=True)
class Observed:
    """What the card shows besides the judgement; `separations` is `explaining.single_feature_auc`."""

    blocks: Sequence[TimeBlock]
    daily: Daily
    importance: Importance
    separations: NDArray[np.float64]
    run_id: str
    pictures: Sequence[Picture]


@dataclass(frozen=True, slots=True)
class Card:
    title: str
    elements: Sequence[Element]


def model_card(context: RunContext, trained: Step, judgement: Judgement, observed: Observed) -> Card:
    """The card's content; `documents` writes it as HTML and Markdown."""
    loaded = context.run.step("load")
    trained_at = parse_moment(trained["created_at"])
    title = f"Model card: {context.contract.registered_model}, trained {trained_at:%Y-%m-%d %H:%M} UTC"
    sections: tuple[Sequence[Element], ...] = (
        [Heading(title, 1), Paragraph(_purpose(context, judgement))],
        _thresholds(context, trained, judgement, observed.daily),
        _gate(judgement),
        _figures(judgement, context.training.alert_budget),
        _comparison(judgement),
        _data(context, trained, loaded),
        _time(observed.blocks),
        _features(context, observed),
        [Heading("Known limits"), Points(_limits(context, loaded, judgement, observed))],
        _origin(context, trained, judgement, observed.run_id),
        [Heading("Pictures"), *observed.pictures],
    )
    return Card(title, [element for section in sections for element in section])


def _purpose(context: RunContext, judgement: Judgement) -> str:
    return (
        f"The model gives each transaction of the contract {context.contract.schema_id} a score from 0 to 1, "
        "the probability that it is a fraud, as far as the labels say what is one. The score decides whether "
        "the transaction is approved, reviewed by an analyst, or blocked. It is not meant for other "
        "contracts, for judging people, or without people who look at the alerts. "
        f"{judgement.gate.sentence()}"
    )


def _thresholds(context: RunContext, trained: Step, judgement: Judgement, day: Daily) -> list[Element]:
    block = float(trained["block_threshold"])
    costs = context.training.costs
    money = context.contract.with_role("amount")
    rows = [
        ["review", f"score from {trained['threshold']:.4f}", f"{_count(day.alerts)} alerts a day"],
        [
            "block",
            "never" if block >= NEVER else f"score from {block:.4f}",
            "nothing is blocked"
            if block >= NEVER
            else f"{_count(day.blocked)} of these alerts a day are blocked",
        ],
    ]
    unit = "" if money is None else f", in the unit of {money.name}"
    return [
        Heading("Thresholds, and what they mean a day"),
        Table(["decision", "when", "on a day like those of the held-out part"], rows),
        Paragraph(f"How they were chosen: {trained['threshold_rule']}."),
        Table(
            ["a day", f"counts and money{unit}"],
            [
                ["transactions, of them frauds", f"{_count(day.transactions)}, {_count(day.frauds)}"],
                ["frauds found", f"{_count(day.found)}, worth {_money(day.found_amount)}"],
                ["frauds missed", f"{_count(day.frauds - day.found)}, worth {_money(day.missed_amount)}"],
                ["alerts on legitimate transactions", _count(day.alerts - day.found)],
                ["cost with the model", _money(day.cost)],
                ["cost if nothing were flagged", _money(day.cost_without_model)],
            ],
        ),
        Paragraph(
            f"A missed fraud is counted with its amount and {costs.missed_fraud_fee:g}, an alert with "
            f"{costs.review:g}. The numbers are of the labelled transactions alone: where only a part of the "
            "traffic has labels, there are more of both."
        ),
    ]


def _gate(judgement: Judgement) -> list[Element]:
    gate = judgement.gate
    rows = [
        [
            _bounded(check.metric),
            f"{'at least' if check.side == 'min' else 'at most'} {check.bound:g}",
            check.note or _number(check.value),
            "passed" if check.passed else "missed",
        ]
        for check in gate.checks
    ]
    enough = "passed" if gate.sufficient else "missed"
    rows.append(["frauds in the held-out part", f"at least {gate.frauds_needed}", str(gate.frauds), enough])
    return [
        Heading(f"Gate: {gate.policy}, {'passed' if gate.passed else 'not passed'}"),
        Table(["figure", "bound", "value", "verdict"], rows),
    ]


def _bounded(metric: str) -> str:
    """The name of a figure that a gate bounds."""
    figure, compared, _ = metric.partition("_over_champion")
    title = TITLES[figure][0] if figure in TITLES else figure
    return f"{title}: lower end of the difference to the champion" if compared else title


def _figures(judgement: Judgement, budget: float) -> list[Element]:
    figures = judgement.metrics
    rows = [
        [title, _number(figures.get(name)), _interval(figures, name), meaning]
        for name, (title, meaning) in TITLES.items()
        if name in figures
    ]
    return [
        Heading("Figures on the held-out part"),
        Paragraph(
            "The held-out part is later than everything that was fitted. The intervals hold the true value "
            "in 95 of 100 such samples: Wilson's for recall, precision and FPR, bootstrap for the others. "
            "They tell of chance, not of a future that differs from the past. The budget is "
            f"{budget:.2%} of all transactions."
        ),
        Table(["figure", "value", "95 % interval", "meaning"], rows),
    ]


def _comparison(judgement: Judgement) -> list[Element]:
    compared = judgement.comparison
    elements: list[Element] = [Heading("Compared with the champion"), Paragraph(compared.sentence())]
    if compared.differences:
        rows = [
            [
                TITLES[name][0],
                _number(one.model),
                _number(one.champion),
                f"{one.difference:+.4f}",
                f"{one.low:+.4f} to {one.high:+.4f}",
                _verdict(name, one.low, one.high),
            ]
            for name, one in compared.differences.items()
            if name in TITLES
        ]
        elements.append(
            Table(["figure", "this model", "champion", "difference", "95 % interval", "this model is"], rows)
        )
    return elements


def _verdict(name: str, low: float, high: float) -> str:
    if low <= 0 <= high:
        return "not distinguishable"
    return "better" if (low > 0) != (name in LESS_IS_BETTER) else "worse"


def _data(context: RunContext, trained: Step, loaded: Step) -> list[Element]:
    rows = [
        ["events from, to", f"{loaded['data_from']}, {loaded['data_to']}"],
        ["digest of the examples (SHA-256)", str(loaded["digest"])],
        ["sources of the transactions", _counts(loaded["sources"])],
    ]
    known = loaded.outcome
    if "as_of" in known:
        rows.append(["labels as they were known", str(known["as_of"])])
    if "label_sources" in known:
        rows.append(["sources of the labels", _counts(known["label_sources"])])
    if "left_out_blocked" in known:
        rows.append(["left out: blocked and never confirmed", f"{known['left_out_blocked']:,}"])
        rows.append(["left out: label unknown or not mature", f"{known['left_out_unknown']:,}"])
    parts = [
        [name, f"{part['to'] - part['from']:,}", f"{part['frauds']:,}", _share(part)]
        for name, part in sorted(trained["split"].items(), key=lambda item: item[1]["from"])
    ]
    return [
        Heading("Data"),
        Table(["", ""], rows),
        Table(["part, in order of time", "transactions", "frauds", "share of frauds"], parts),
        Paragraph(
            f"Between what was fitted and the held-out part lies a gap of {context.training.label_gap}, "
            "because the truth about a transaction is known that much later."
        ),
    ]


def _time(blocks: Sequence[TimeBlock]) -> list[Element]:
    rows = [
        [
            f"{block.begins:%Y-%m-%d %H:%M}",
            f"{block.rows:,}",
            f"{block.frauds:,}",
            _number(block.counts.recall),
            _number(block.counts.fpr),
            "undefined"
            if block.precision is None
            else f"{block.precision.value:.4f} ({block.precision.low:.4f} to {block.precision.high:.4f})",
        ]
        for block in blocks
    ]
    return [
        Heading("Over the held-out time"),
        Table(["block begins", "transactions", "frauds", "recall", "FPR", "average precision"], rows),
    ]


def _features(context: RunContext, observed: Observed) -> list[Element]:
    names, shares = context.contract.feature_names, observed.importance.shares
    order = np.argsort(-shares, kind="stable")[:_FEATURES_SHOWN]
    rows = [[names[k], f"{shares[k]:.1%}", f"{observed.separations[k]:.4f}"] for k in order]
    return [
        Heading("What the model looks at"),
        Paragraph(
            f"Measured as the {observed.importance.method}. The last column says how well the feature ranks "
            "frauds by itself (ROC AUC)."
        ),
        Table(["feature", "share", "by itself"], rows),
    ]


def _limits(context: RunContext, loaded: Step, judgement: Judgement, observed: Observed) -> list[str]:
    limits = [
        "The figures hold for transactions like those of the held-out part. New kinds of fraud, other "
        "customers or a changed product make them worse, and no interval shows that beforehand.",
        "A fraud that nobody reported counts as legitimate, in training and in these figures.",
    ]
    if blocked := loaded.outcome.get("left_out_blocked"):
        limits.append(
            f"{blocked:,} blocked transactions without an explicit label are left out: what an earlier model "
            "blocked by mistake cannot be seen here."
        )
    if _SIMULATED in loaded["sources"]:
        limits.append("The data is simulated, at least in part: the figures say nothing about real payments.")
    if judgement.gate.frauds < 100:
        limits.append(f"Only {judgement.gate.frauds} frauds judge the model: the intervals are wide.")
    names = context.contract.feature_names
    for k in np.flatnonzero(observed.separations >= SUSPECT_AUC):
        limits.append(
            f"{names[k]} ranks frauds almost perfectly by itself (ROC AUC {observed.separations[k]:.4f}). "
            "Check that it is known when a transaction arrives and does not follow from the label."
        )
    if float(judgement.manifest.block_threshold) >= NEVER:
        limits.append("No score is precise enough to block by; every alert needs a review.")
    if judgement.comparison.reason is not None:
        limits.append(f"There is no comparison with a champion: {judgement.comparison.reason}.")
    return limits


def _origin(context: RunContext, trained: Step, judgement: Judgement, run_id: str) -> list[Element]:
    manifest = judgement.manifest
    rows = [
        ["manifest's digest (the version's)", manifest.digest()],
        ["code version", manifest.code_version],
        ["training run", context.run.prefix],
        ["MLflow run", run_id],
        ["seed", str(context.training.seed)],
        ["engines", ", ".join(f"{engine}: {file}" for engine, file in manifest.engines.items())],
    ]
    return [Heading("How it was made"), Table(["", ""], rows)]


def _interval(figures: Figures, name: str) -> str:
    low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
    return "" if low is None or high is None else f"{low:.4f} to {high:.4f}"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _money(value: float) -> str:
    return f"{value:,.2f}"


def _counts(counts: Any) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in counts.items())


def _share(part: Any) -> str:
    return f"{part['frauds'] / max(part['to'] - part['from'], 1):.3%}"
