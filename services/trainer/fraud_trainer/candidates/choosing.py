"""Fits the configured candidates and chooses one, on rows that none of them was fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Final

from config.candidates import Imbalance, Member
from config.job_results.trainer import CandidateResult
from config.parameters import Training
from fraud_adapters.job.failures import LastingFailure
from fraud_trainer.candidates.final_fit import FinalFit, LocalFit
from fraud_trainer.candidates.learners import Learners
from fraud_trainer.candidates.model_types import (
    Calibrated,
    CandidateFailed,
    Fitted,
    Learner,
    Progress,
    Rows,
    row_weights,
)
from fraud_trainer.candidates.prequential import (
    average_precision,
    gain_is_certain,
    prequential_score,
)
from fraud_trainer.candidates.searching import AUTOML, Trials, automl, search
from fraud_trainer.candidates.voting import VOTING, vote_of
from fraud_trainer.train.calibration import CalibrationError

_FALLBACK: Final[Imbalance] = "none"


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen candidate, why, and what is recorded of each.

    `calibrated` holds its margins of the calibration part, which are computed once for each candidate.
    """

    fitted: Fitted
    calibrated: Calibrated
    sentence: str
    results: dict[str, CandidateResult]
    all_fitted: tuple[Fitted, ...]


@dataclass(frozen=True, slots=True)
class Parts:
    """Rows in order of time: `train` fits, `stopping` ends fits and weighs votes, `calibration` chooses."""

    train: Rows
    stopping: Rows
    calibration: Rows


def choose_candidate(
    training: Training,
    parts: Parts,
    progress: Progress,
    final: FinalFit | None = None,
    *,
    with_automl: bool = False,
) -> Choice:
    """Fit every candidate of the configuration and take one by average precision on the calibration part.

    A candidate is preferred to one that stands before it only if it gains more than `candidate_margin`, and
    that not by chance (`candidate_confidence`).

    Raises:
        CandidateFailed: none of them can be used; the sentence gives each reason.
    """
    final = final or LocalFit(parts.train, parts.stopping, training.seed)
    fitting = _Fitting(training, parts, progress, final)
    fitted: list[Fitted] = []
    calibrated: list[Calibrated] = []
    results: dict[str, CandidateResult] = {}
    for name in _in_order(training, with_automl=with_automl):
        started = monotonic()
        try:
            candidate, result = fitting.fit(name, fitted)
            found = candidate.calibrated(parts.calibration)
            result["average_precision"] = _score(found, parts.calibration)
            fitted.append(candidate)
            calibrated.append(found)
        except (CandidateFailed, CalibrationError) as error:
            result = CandidateResult(left_out=str(error))
        result["seconds"] = round(monotonic() - started, 2)
        results[name] = result
        progress("candidate", candidate=name, **_shown(result))
    if not fitted:
        reasons = "; ".join(f"{name}: {result['left_out']}" for name, result in results.items())
        raise CandidateFailed(f"No candidate can be used: {reasons}")
    best = _best(training, calibrated, parts.calibration)
    chosen = fitted[best]
    sentence = _sentence(chosen.name, results, parts, training)
    return Choice(chosen, calibrated[best], sentence, results, tuple(fitted))


def _in_order(training: Training, *, with_automl: bool) -> list[str]:
    """The candidates; a vote comes last, because it needs its members."""
    names = [name for name in training.candidates if name != VOTING]
    return [*names, *([AUTOML] if with_automl else []), *([VOTING] if VOTING in training.candidates else [])]


@dataclass(frozen=True, slots=True)
class _Fitting:
    training: Training
    parts: Parts
    progress: Progress
    final: FinalFit

    def fit(self, name: str, fitted: Sequence[Fitted]) -> tuple[Fitted, CandidateResult]:
        if name == VOTING:
            members = [candidate for candidate in fitted if candidate.name in self.training.voting]
            trees = {str(name): count for name, count in self.training.voting_trees.items()}
            vote = vote_of(members, self.parts.stopping, trees)
            return vote, CandidateResult(details=dict(vote.details))
        if name == AUTOML:
            return self._automl()
        kind: Member = name  # type: ignore[assignment] # the configuration allows no other
        result = CandidateResult()
        learners = Learners(self.training)
        option = self._imbalance(learners.make(kind), result)
        changes = self._search(kind, option, result)
        candidate = self.final.fit(learners.make(kind, changes), option)
        result["details"] = dict(candidate.details)
        # Where frauds count for more in training, margins are no longer logits of the true share.
        return replace(candidate, logit=candidate.logit and option == _FALLBACK), result

    def _automl(self) -> tuple[Fitted, CandidateResult]:
        found = automl(self._trials(_FALLBACK), self.training.automl)
        candidate = self.final.fit(Learners(self.training).make(found.kind, found.parameters), _FALLBACK)
        details: dict[str, Any] = {"kind": found.kind, **candidate.details}
        result = CandidateResult(
            details=details, parameters=found.parameters, trials=found.trials, blocks_score=found.score
        )
        part = replace(candidate.parts[0], name=AUTOML)
        return replace(candidate, name=AUTOML, parts=(part,)), result

    def _imbalance(self, learner: Learner, result: CandidateResult) -> Imbalance:
        """How to treat rare frauds: what has the best average precision on blocks of the training part."""
        options = self.training.imbalance
        if not learner.supervised:
            return _FALLBACK
        if len(options) == 1:
            result["imbalance"] = options[0]
            return options[0]
        scores: dict[str, float | None] = {}
        for option in options:
            try:
                scores[option] = prequential_score(
                    learner, self.parts.train, self.training.prequential_blocks, option, self.training.seed
                )
            except CandidateFailed as error:
                scores[option] = None
                self.progress("imbalance_left_out", candidate=learner.name, option=option, reason=str(error))
        known = {option: score for option in options if (score := scores[option]) is not None}
        chosen: Imbalance = max(known, key=lambda option: known[option]) if known else _FALLBACK
        result["imbalance"], result["imbalance_scores"] = chosen, scores
        return chosen

    def _search(self, kind: Member, option: Imbalance, result: CandidateResult) -> dict[str, Any]:
        settings = self.training.search
        if not settings.trials or kind not in settings.candidates:
            return {}
        found = search(self._trials(option), kind, settings)
        result["parameters"], result["trials"] = found.parameters, found.trials
        result["blocks_score"] = found.score
        return found.parameters

    def _trials(self, option: Imbalance) -> Trials:
        return Trials(
            Learners(self.training),
            self.parts.train,
            self.training.prequential_blocks,
            option,
            self.training.seed,
            self.progress,
        )


def _score(candidate: Calibrated, rows: Rows) -> float:
    """Average precision on the rows of the margins."""
    score = average_precision(rows.labels, candidate.margins, row_weights(rows))
    if score is None:
        raise LastingFailure("The calibration part has transactions of one kind only.")
    return score


def _best(training: Training, candidates: Sequence[Calibrated], rows: Rows) -> int:
    """The position of the first candidate, unless a later one is better for certain, and so on."""
    best = 0
    for position, candidate in enumerate(candidates):
        if position and gain_is_certain(
            rows,
            candidates[best].margins,
            candidate.margins,
            margin=training.candidate_margin,
            confidence=training.candidate_confidence,
            seed=training.seed,
        ):
            best = position
    return best


def _sentence(name: str, results: dict[str, CandidateResult], parts: Parts, training: Training) -> str:
    scores = {
        other: result["average_precision"] for other, result in results.items() if "left_out" not in result
    }
    frauds = int(parts.calibration.labels.sum())
    text = (
        f"{name} was chosen: average precision {scores.pop(name):.4f} on the {len(parts.calibration)} later "
        f"transactions of the calibration part, {frauds} of them frauds"
    )
    if scores:
        others = ", ".join(f"{other} {score:.4f}" for other, score in scores.items())
        text += (
            f"; {others}; a candidate that stands later must gain more than {training.candidate_margin:g}, "
            f"and in {training.candidate_confidence:.0%} of resamplings"
        )
    return f"{text}."


def _shown(result: CandidateResult) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in {"details", "imbalance_scores"}}
