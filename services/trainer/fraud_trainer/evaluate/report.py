"""The reports of a validation as artefacts of its MLflow run: plots, figures, comparison, model card."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import orjson
import xgboost

from config.constants import MODEL_CARD
from fraud_adapters.documents import Picture, to_html, to_markdown
from fraud_adapters.job.scratch import scratch_directory
from fraud_adapters.objectstore.run_store import Step
from fraud_core.decision import is_fraud
from fraud_core.manifest import Manifest
from fraud_core.metrics import confusion
from fraud_core.profile import calibration_bins
from fraud_core.ranking import CALIBRATION_BINS
from fraud_trainer.evaluate import explaining, findings, model_card, plots
from fraud_trainer.evaluate.explaining import Contributions
from fraud_trainer.evaluate.figures import Scored
from fraud_trainer.evaluate.judgement import Judgement
from fraud_trainer.run_context import RunContext
from fraud_trainer.train.fitting import Examples

PLOTS: Final = "plots"
EVALUATION: Final = "evaluation"
# The order in which the model card shows them, and their titles there.
_TITLES: Final = {
    "precision_recall": "Precision and recall at every threshold",
    "roc": "Recall at every rate of false alarms",
    "confusion_matrix": "Right and wrong decisions at the threshold",
    "score_distribution": "Scores of legitimate transactions and of frauds",
    "calibration": "Whether a score of 0.3 means 30 % frauds",
    "threshold_cost": "What a transaction costs at every threshold",
    "over_time": "Average precision over the held-out time",
    "feature_importance": "What the model looks at",
    "shap_summary": "How features move the score",
}


def report(context: RunContext, run_id: str, trained: Step, judgement: Judgement) -> None:
    """Draw and write everything, and store it with the run."""
    importance, contributions = judgement.importance, _contributions(context, trained, judgement)
    scored = Scored(judgement.scores, float(trained["threshold"]))
    days = _days(judgement)
    blocks = findings.over_time(judgement.moments, judgement.held_out, scored, context.training)
    with scratch_directory() as directory:
        plotted, written, cards = (_folder(directory, name) for name in (PLOTS, EVALUATION, "card"))
        _draw(context, judgement, scored, blocks, plotted)
        names = context.contract.feature_names
        plots.feature_importance(names, importance, plotted / "feature_importance.svg")
        if contributions is not None:
            plots.shap_summary(names, contributions, plotted / "shap_summary.svg")
        _write_figures(judgement, scored, written)
        card = model_card.model_card(
            context,
            trained,
            judgement,
            model_card.Observed(
                blocks=blocks,
                daily=findings.daily(
                    judgement.held_out, scored, float(trained["block_threshold"]), days, context.training
                ),
                importance=importance,
                separations=explaining.single_feature_auc(
                    judgement.held_out.features, judgement.held_out.labels
                ),
                run_id=run_id,
                pictures=_pictures(plotted),
            ),
        )
        name = PurePosixPath(MODEL_CARD)
        (cards / name.name).write_text(to_html(card.title, card.elements), encoding="utf-8")
        (cards / f"{name.stem}.md").write_text(to_markdown(card.elements), encoding="utf-8")
        for folder, path in ((plotted, PLOTS), (written, EVALUATION), (cards, str(name.parent))):
            context.tracking().log_files(run_id, folder, path)


def read_trees(
    context: RunContext, trained: Step, manifest: Manifest, held_out: Examples
) -> xgboost.Booster | None:
    """The model's trees if it is made of trees on the contract's features, else None."""
    file = manifest.engines.get("xgboost")
    if file is None:
        return None
    content = context.run.get(file, trained["digests"][file])
    return explaining.load_trees(content, held_out.features.shape[1])


def _contributions(context: RunContext, trained: Step, judgement: Judgement) -> Contributions | None:
    trees = read_trees(context, trained, judgement.manifest, judgement.held_out)
    if trees is None:
        return None
    held_out = judgement.held_out
    return explaining.contributions(trees, held_out.features, held_out.labels, context.training.seed)


def _draw(
    context: RunContext,
    judgement: Judgement,
    scored: Scored,
    blocks: list[findings.TimeBlock],
    directory: Path,
) -> None:
    labels, scores = judgement.held_out.labels, scored.scores
    counts = confusion(labels, is_fraud(scores, scored.threshold))
    points, costs = findings.costs_by_threshold(judgement.held_out, scored, context.training)
    figures = {name: value or 0.0 for name, value in judgement.metrics.items()}
    bins = calibration_bins(labels, scores, CALIBRATION_BINS)
    plots.precision_recall(points, counts, figures["average_precision"], directory / "precision_recall.svg")
    plots.roc(points, counts, figures["roc_auc"], directory / "roc.svg")
    plots.confusion_matrix(counts, directory / "confusion_matrix.svg")
    plots.calibration(bins, figures["calibration_error"], directory / "calibration.svg")
    plots.score_distribution(labels, scores, scored.threshold, directory / "score_distribution.svg")
    plots.threshold_cost(points.thresholds, costs, scored.threshold, directory / "threshold_cost.svg")
    plots.over_time(
        [f"{block.begins:%Y-%m-%d\n%H:%M}" for block in blocks],
        [(of.value, of.low, of.high) if (of := block.precision) else None for block in blocks],
        directory / "over_time.svg",
    )


def _write_figures(judgement: Judgement, scored: Scored, directory: Path) -> None:
    counts = confusion(judgement.held_out.labels, is_fraud(scored.scores, scored.threshold))
    documents: dict[str, Any] = {
        "comparison.json": judgement.comparison.to_mapping(),
        "figures.json": {"figures": judgement.metrics, "confusion": asdict(counts)},
        "gate.json": judgement.gate.to_mapping(),
        "classification_report.json": findings.classification_report(counts),
    }
    for name, content in documents.items():
        (directory / name).write_bytes(
            orjson.dumps(
                content, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY
            )
        )
    (directory / "classification_report.txt").write_text(
        findings.classification_text(counts), encoding="utf-8"
    )


def _pictures(directory: Path) -> list[Picture]:
    return [
        Picture(title, f"../{PLOTS}/{path.name}", path.read_bytes())
        for name, title in _TITLES.items()
        if (path := directory / f"{name}.svg").is_file()
    ]


def _days(judgement: Judgement) -> float:
    """How long the held-out part lasted; at least a minute, so that a rate can be given."""
    span = np.ptp(judgement.moments) / findings.DAY_MICROSECONDS
    return max(float(span), 1 / 1440)


def _folder(directory: Path, name: str) -> Path:
    folder = directory / name
    folder.mkdir()
    return folder
