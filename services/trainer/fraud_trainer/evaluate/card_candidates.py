"""The part of the model card about the kinds of model that were fitted, and why one of them was chosen."""

from __future__ import annotations

from collections.abc import Mapping

from config.job_results.trainer import CandidateResult
from config.parameters import Training
from fraud_adapters.documents import Element, Heading, Paragraph, Table
from fraud_adapters.objectstore.run_store import Step

_TREATMENTS = {"none": "as they are", "weights": "weighted up", "smote": "added to (SMOTE)"}
_HEADER = (
    "candidate",
    "average precision, calibration part",
    "average precision, earlier blocks",
    "frauds in training",
    "seconds",
    "",
)


def candidates_section(training: Training, trained: Step) -> list[Element]:
    """Each candidate's figures, or that there were none because the model was trained elsewhere."""
    outcome = trained.outcome
    heading = Heading("Candidates")
    results: Mapping[str, CandidateResult] | None = outcome.get("candidates")
    if not results:
        return [heading, Paragraph("None: the model was trained elsewhere and imported.")]
    chosen = str(outcome["candidate"])
    rows = [_row(name, result, chosen) for name, result in results.items()]
    return [heading, Paragraph(str(outcome["choice"])), Table(_HEADER, rows), Paragraph(_notes(training))]


def _row(name: str, result: CandidateResult, chosen: str) -> list[str]:
    verdict = "chosen" if name == chosen else ""
    if reason := result.get("left_out"):
        verdict = f"left out: {reason}"
    seconds = result.get("seconds")
    return [
        name,
        _number(result.get("average_precision")),
        _on_blocks(result),
        _TREATMENTS.get(result.get("imbalance", ""), ""),
        "" if seconds is None else f"{seconds:.1f}",
        verdict,
    ]


def _on_blocks(result: CandidateResult) -> str:
    """Of each treatment of rare frauds, and of the best parameters that a search found."""
    scores = [f"{option} {_number(score)}" for option, score in result.get("imbalance_scores", {}).items()]
    if (found := result.get("blocks_score")) is not None:
        scores.append(f"search {_number(found)} ({result.get('trials', 0)} trials)")
    return ", ".join(scores) or "not measured"


def _notes(training: Training) -> str:
    return (
        "The calibration part is later than what the candidates learnt from, and earlier than the held-out "
        f"part, which has no say in the choice. The earlier blocks are {training.prequential_blocks} of the "
        "training part, each scored by a model that learnt from what came before it; they are measured only "
        "where several treatments of rare frauds or several parameters are compared."
    )


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
