"""Search for parameters within a budget: Optuna over one kind of model, FLAML over all kinds (AutoML)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from time import monotonic
from typing import Any, Final, cast

from config.candidates import Automl, Imbalance, Member, Search
from fraud_trainer.candidates.learners import SEARCHED, Learners
from fraud_trainer.candidates.model_types import CandidateFailed, Progress, Rows
from fraud_trainer.candidates.prequential import prequential_score

AUTOML: Final = "automl"
# The isolation forest knows no labels; a bag is an XGBoost that is found by itself.
AUTOML_KINDS: Final[tuple[Member, ...]] = (
    "xgboost",
    "random_forest",
    "logistic_regression",
    "neural_network",
)


@dataclass(frozen=True, slots=True)
class Found:
    """The best parameters, their mean average precision on the blocks, and how many trials were made."""

    kind: Member
    parameters: dict[str, Any]
    score: float
    trials: int


@dataclass(frozen=True, slots=True)
class Trials:
    """What a trial needs: rows to compare on, in `blocks` blocks of time; `progress` gets a line for each."""

    learners: Learners
    rows: Rows
    blocks: int
    option: Imbalance
    seed: int
    progress: Progress

    def score(self, kind: Member, parameters: dict[str, Any]) -> float:
        """The mean average precision; 0 where it cannot be computed."""
        learner = self.learners.make(kind, parameters)
        score = prequential_score(learner, self.rows, self.blocks, self.option, self.seed)
        return 0.0 if score is None else score


def search(trials: Trials, kind: Member, settings: Search) -> Found:
    """The parameters with the best mean average precision, the configured ones among those tried.

    With a budget of trials alone the same seed gives the same parameters; a budget of seconds depends on the
    machine.
    """
    import optuna  # noqa: PLC0415 - takes a second

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = SEARCHED[kind]
    names = {name: {_key(value): value for value in values} for name, values in space.items()}
    configured = trials.score(kind, {})
    best, made, started = Found(kind, {}, configured, 1), 1, monotonic()
    _report(trials, kind, made, settings.trials, configured, configured, started)

    def objective(trial: Any) -> float:
        nonlocal best, made
        chosen = {name: trial.suggest_categorical(name, list(values)) for name, values in names.items()}
        parameters = {name: names[name][key] for name, key in chosen.items()}
        score = trials.score(kind, parameters)
        made += 1
        if score > best.score:
            best = Found(kind, parameters, score, made)
        _report(trials, kind, made, settings.trials, score, best.score, started)
        return score

    grid = {name: list(values) for name, values in names.items()}
    samplers: dict[str, Callable[[], Any]] = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=trials.seed),
        "random": lambda: optuna.samplers.RandomSampler(seed=trials.seed),
        "grid": lambda: optuna.samplers.GridSampler(grid, seed=trials.seed),
    }
    remaining = min(settings.trials - 1, prod(map(len, grid.values())))
    if remaining > 0:
        study = optuna.create_study(direction="maximize", sampler=samplers[settings.method]())
        study.optimize(objective, n_trials=remaining, timeout=settings.seconds)
    return Found(kind, best.parameters, best.score, made)


def automl(trials: Trials, settings: Automl) -> Found:
    """What FLAML's cost-frugal search finds over the kinds of model that can be served.

    Wu, Wang and Huang (2021), Frugal Optimization for Cost-related Hyperparameters. Models are compared on
    blocks of time instead of FLAML's own folds, and are exported as every candidate is.

    Raises:
        CandidateFailed: no trial gave a model.
    """
    with warnings.catch_warnings():
        # It warns of its optional parts that are not installed.
        warnings.simplefilter("ignore")
        from flaml.tune.sample import choice, randint  # noqa: PLC0415 - takes a second
        from flaml.tune.searcher.blendsearch import CFO  # noqa: PLC0415
        from flaml.tune.tune import run  # noqa: PLC0415
    kinds = [{"kind": kind} | _positions(kind, randint) for kind in AUTOML_KINDS]
    made, best, started = 0, 0.0, monotonic()

    def evaluate(config: dict[str, Any]) -> dict[str, float]:
        nonlocal made, best
        kind, parameters = _of_flaml(config["model"])
        score = trials.score(kind, parameters)
        made, best = made + 1, max(best, score)
        _report(trials, f"{AUTOML} {kind}", made, settings.trials, score, best, started)
        return {"average_precision": score}

    space = {"model": choice(kinds)}
    searcher = CFO(space=space, metric="average_precision", mode="max", seed=trials.seed)
    result = run(
        evaluate,
        config=space,
        metric="average_precision",
        mode="max",
        search_alg=searcher,
        num_samples=settings.trials,
        time_budget_s=settings.seconds,
        verbose=0,
    )
    if not best or result.best_config is None:
        raise CandidateFailed(f"AutoML found no model that ranks frauds in {made} trials.")
    kind, parameters = _of_flaml(result.best_config["model"])
    return Found(kind, parameters, best, made)


def _positions(kind: Member, randint: Callable[[int, int], Any]) -> dict[str, Any]:
    """Positions in the lists of values, which the search walks along."""
    return {f"{kind}.{name}": randint(0, len(values)) for name, values in SEARCHED[kind].items()}


def _of_flaml(config: dict[str, Any]) -> tuple[Member, dict[str, Any]]:
    kind = cast(Member, config["kind"])
    parameters = {
        name: values[int(config[f"{kind}.{name}"])]
        for name, values in SEARCHED[kind].items()
        if f"{kind}.{name}" in config
    }
    return kind, parameters


def _key(value: Any) -> str | float | int:
    """The value as Optuna takes it: lists are named by their text."""
    return str(value) if isinstance(value, list) else cast(float, value)


def _report(  # noqa: PLR0917
    trials: Trials, kind: str, made: int, of: int, score: float, best: float, started: float
) -> None:
    trials.progress(
        "search_trial",
        candidate=kind,
        trial=made,
        of=of,
        average_precision=round(score, 4),
        best=round(best, 4),
        seconds=round(monotonic() - started, 1),
    )
