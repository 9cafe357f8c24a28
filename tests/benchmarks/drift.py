"""Whether drift monitoring is quiet without drift and loud with it, and whether its estimates hold.

    ./fraud bench drift [--seed 1] [--write]

No server is needed: windows are drawn from the simulator's populations and judged by the code and with the
configuration that the monitor uses. The champion is the best possible model of the undrifted population,
whose scores are exactly calibrated. `--write` puts tables and plots into docs/results/drift.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from config.parameters import Parameters, load_parameters
from config.settings import CONFIG_DIR
from fraud_core.drift.concept import concept_bounds
from fraud_core.drift.estimate import COMPARED, Coverage, are_confirmed, estimate_performance
from fraud_core.drift.features import judge_features, share_drifted
from fraud_core.drift.statistics import corrected_psi, homogeneity_p
from fraud_core.drift.target import judge_rate
from fraud_core.drift.window import WindowCounts
from fraud_core.intervals import clopper_pearson
from fraud_core.profile import Profile, make_profile
from fraud_monitor.drift import rules
from fraud_producer.drift import drifted
from fraud_producer.optimum import compute, log_likelihood_ratio
from fraud_producer.population import FEATURES, Population, population
from fraud_producer.simulator import draw
from tests.benchmarks import drift_plots, machine
from tests.benchmarks.ulb import CREDITCARD

NAMES: Final = (*(f"v{number + 1}" for number in range(FEATURES)), "amount")
TRAINING_ROWS: Final = 72_000  # the training part of 30 days of simulated history
HELD_OUT_ROWS: Final = 26_000
POOL_ROWS: Final = 100_000
HOURS: Final = 24 * 30
STABLE_SIZES: Final = (500, 1_000, 5_000, 20_000, 100_000, 1_000_000)
SIZES: Final = (500, 2_000, 20_000)
STRENGTHS: Final = {
    "amount-scale": (0.5, 1.0, 1.5),
    "feature-shift": (0.3, 0.6, 1.0),
    "new-pattern": (0.1, 0.3, 0.6),
    "fraud-rate": (0.5, 1.0, 2.0),
}
NOTHING: Final = ("none", 0.0)
KEYS: Final = [(kind, strength) for kind, strengths in STRENGTHS.items() for strength in strengths]
# Without drift, and the middle strength of each.
ESTIMATED: Final = [NOTHING, *((kind, strengths[1]) for kind, strengths in STRENGTHS.items())]
REPEATS: Final = 100
SEQUENCES: Final = 10
EVIDENTLY_REPEATS: Final = 2


@dataclass(frozen=True, slots=True)
class Pool:
    """Rows of a population, scored by the champion: features [n, k], scores, flagged and labels [n]."""

    features: NDArray[np.float32]
    scores: NDArray[np.float64]
    flagged: NDArray[np.bool_]
    labels: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Setting:
    """What is judged by: the configuration, the champion's profile and its threshold on the ratio."""

    parameters: Parameters
    base: Population
    profile: Profile
    threshold: float


def main() -> None:
    options = _options()
    started, load = time.monotonic(), machine.load()
    setting = make_setting()
    base = pool(setting, setting.base, "base")
    sections = measured(Measurement(setting, base, options.seed, options.evidently), options.workers)
    text = report(sections)
    print(text)
    if options.write:
        seconds = time.monotonic() - started
        head = f"# Drift: quiet and loud\n\n    {machine.command()}\n\n{machine.origin_of_models()}"
        head += f" {seconds:.0f} s, load average before: {load:.1f}."
        (machine.RESULTS / "drift.md").write_text(f"{head}\n\n{text}\n", encoding="utf-8")
        drift_plots.draw(machine.RESULTS, sections)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--evidently", type=int, default=EVIDENTLY_REPEATS, help="repeats of its preset")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--write", action="store_true")
    return parser.parse_args()


@dataclass(frozen=True, slots=True)
class Measurement:
    """What all parts share; workers inherit it."""

    setting: Setting
    base: Pool
    seed: int
    evidently: int

    def pool(self, key: tuple[str, float]) -> Pool:
        """Rows under a drift, or without one."""
        if key == NOTHING:
            return self.base
        people = drifted(self.setting.base, [f"{key[0]}={key[1]}"])
        return pool(self.setting, people, key[0])

    def source(self, *part: int) -> np.random.Generator:
        """Random numbers of a part, whichever worker measures it."""
        return np.random.default_rng([self.seed, *part])


_shared: list[Measurement] = []


def measured(shared: Measurement, workers: int) -> dict[str, Any]:
    """All sections, their parts spread over processes."""
    _shared[:] = [shared]
    parts: list[tuple[str, Any]] = [("known", None), ("power", None), ("daily", None)]
    parts += [("stable", size) for size in STABLE_SIZES]
    parts += [("drifts", key) for key in KEYS] + [("estimates", key) for key in ESTIMATED]
    parts += [("evidently", key) for key in (NOTHING, *KEYS)]
    sections: dict[str, Any] = {name: [] for name, _ in parts}
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork")) as executor:
        for (name, _), rows in zip(parts, executor.map(_part, parts), strict=True):
            sections[name] += rows
            print(f"{name}: {json.dumps(rows)}", file=sys.stderr, flush=True)
    return sections


def _part(part: tuple[str, Any]) -> list[dict[str, Any]]:
    name, key = part
    [shared] = _shared
    number = list(PARTS).index(name)
    if name in {"drifts", "estimates", "evidently"}:
        source = shared.source(number, [NOTHING, *KEYS].index(key))
    else:
        source = shared.source(number, key or 0)
    return list(PARTS[name](shared, source, key))


# --- Populations ------------------------------------------------------------------------------------


def make_setting() -> Setting:
    parameters = load_parameters(CONFIG_DIR, "production")
    simulator = parameters.simulator
    base = population(simulator.seed, simulator.fraud_rate, simulator.overlap)
    threshold = compute(base, parameters.gate_in_force, sample=60_000).threshold
    unscored = Setting(parameters, base, None, threshold)  # type: ignore[arg-type]
    learnt, held_out = (
        pool(unscored, base, name, rows)
        for name, rows in (("training", TRAINING_ROWS), ("held out", HELD_OUT_ROWS))
    )
    profile = make_profile(
        CREDITCARD.schema_id,
        NAMES,
        learnt.features,
        learnt.labels.astype(np.int8),
        held_out_labels=held_out.labels.astype(np.int8),
        held_out_scores=held_out.scores,
        threshold=_score(base, threshold),
    )
    return Setting(parameters, base, profile, threshold)


def pool(setting: Setting, people: Population, name: str, rows: int = POOL_ROWS) -> Pool:
    """Rows of a population, scored by the undrifted population's likelihood ratio."""
    drawn = draw(people, name, rows)
    ratio = np.exp(log_likelihood_ratio(setting.base, drawn.values, drawn.seconds))
    scores = np.asarray(_score(setting.base, ratio))
    features = drawn.values.copy()
    features[:, FEATURES] = np.exp(features[:, FEATURES])
    return Pool(features.astype(np.float32), scores, ratio >= setting.threshold, drawn.labels == 1)


def _score(base: Population, ratio: Any) -> Any:
    """The chance of a fraud, by Bayes' rule."""
    return base.fraud_rate * ratio / (base.fraud_rate * ratio + 1 - base.fraud_rate)


@dataclass(frozen=True, slots=True)
class Shares:
    """The shares of a pool's rows in each bin of each feature, and of those the champion flags."""

    bins: list[NDArray[np.float64]]
    flagged: float

    def window(self, profile: Profile, rows: int, source: np.random.Generator) -> WindowCounts:
        """Counts of a window of that many rows; features are drawn independently of each other."""
        counts = WindowCounts(profile)
        counts.rows = rows
        for one, shares in zip(counts.features, self.bins, strict=True):
            one.bins += source.multinomial(rows, shares)
        counts.scores.rows[0] = rows
        counts.scores.flagged[0] = source.binomial(rows, self.flagged)
        return counts


def shares_of(profile: Profile, rows: Pool) -> Shares:
    counts = WindowCounts(profile)
    counts.add(rows.features)
    return Shares([one.bins / one.bins.sum() for one in counts.features], float(rows.flagged.mean()))


def mixed(first: WindowCounts, second: WindowCounts) -> WindowCounts:
    """Both windows' rows together."""
    counts = WindowCounts(first.profile)
    counts.rows = first.rows + second.rows
    for one, a, b in zip(counts.features, first.features, second.features, strict=True):
        one.bins += a.bins + b.bins
    counts.scores.rows += first.scores.rows + second.scores.rows
    counts.scores.flagged += first.scores.flagged + second.scores.flagged
    return counts


@dataclass(frozen=True, slots=True)
class Judged:
    """Which alarms a window raises."""

    medium: bool
    high: bool
    rate: bool
    features: int  # that have drifted

    @property
    def any(self) -> bool:
        return self.medium or self.high or self.rate


def judge(setting: Setting, counts: WindowCounts) -> Judged:
    rule = rules.data_rule(setting.parameters)
    found = judge_features(counts, rule)
    severities = {one.severity for one in found}
    rate = judge_rate(
        "predicted_rate",
        int(counts.scores.flagged.sum()),
        counts.scored,
        setting.profile.alert_rate,
        rules.rate_rule(setting.parameters),
    )
    return Judged(
        medium="medium" in severities,
        high="high" in severities or (share_drifted(found) or 0.0) >= rule.share,
        rate=rate.severity == "medium",
        features=sum(one.drifted for one in found),
    )


# --- Data and target drift ----------------------------------------------------------------------------


def stable(shared: Measurement, source: np.random.Generator, size: int) -> Iterator[dict[str, Any]]:
    """30 days of hourly windows without drift: alarms over all features together."""
    setting, shares = shared.setting, shares_of(shared.setting.profile, shared.base)
    judged = [judge(setting, _stable_window(setting, shares, size, source)) for _ in range(HOURS)]
    yield {
        "rows": size,
        "alarms": sum(one.medium or one.high for one in judged),
        "rate_alarms": sum(one.rate for one in judged),
        "drifted": sum(one.features > 0 for one in judged),
        "naive": naive_alarms(setting, shares, size, source),
    }


def _stable_window(setting: Setting, shares: Shares, rows: int, source: np.random.Generator) -> WindowCounts:
    if rows > 5_000:
        return shares.window(setting.profile, rows, source)
    # Rows themselves, with how their features depend on each other.
    drawn = draw(setting.base, f"stable/{source.integers(2**62)}", rows)
    features = drawn.values.copy()
    features[:, FEATURES] = np.exp(features[:, FEATURES])
    counts = WindowCounts(setting.profile)
    counts.add(features.astype(np.float32))
    counts.scores.rows[0] = rows
    counts.scores.flagged[0] = source.binomial(rows, shares.flagged)
    return counts


def naive_alarms(setting: Setting, shares: Shares, rows: int, source: np.random.Generator) -> float:
    """The share of windows in which some feature has a chi-square p-value below 5 %, not corrected."""
    reference = [np.array(one.histogram.shares) * setting.profile.rows for one in setting.profile.features]
    alarms = 0
    for _ in range(100):
        window = shares.window(setting.profile, rows, source)
        p_values = [
            homogeneity_p(one.bins.astype(float), other)
            for one, other in zip(window.features, reference, strict=True)
        ]
        alarms += min(p_values) < 0.05
    return alarms / 100


def known_psi(shared: Measurement, source: np.random.Generator, _key: None) -> Iterator[dict[str, Any]]:
    """Windows of a shifted normal feature whose true PSI on the reference's deciles is known."""
    reference = source.normal(size=(TRAINING_ROWS, 1)).astype(np.float32)
    nothing = np.zeros(100)
    profile = make_profile(
        "known/1",
        ("shifted",),
        reference,
        np.zeros(TRAINING_ROWS, np.int8),
        held_out_labels=nothing.astype(np.int8),
        held_out_scores=nothing,
        threshold=0.5,
    )
    rule = rules.data_rule(shared.setting.parameters)
    for true in (0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7):
        shift = shift_for(true)
        for rows in (500, 1_000, 10_000):
            severities = []
            for _ in range(400):
                counts = WindowCounts(profile)
                counts.add(source.normal(shift, 1, size=(rows, 1)).astype(np.float32))
                severities.append(judge_features(counts, rule)[0].severity)
            yield {
                "psi": true,
                "rows": rows,
                "medium": float(np.mean([one != "none" for one in severities])),
                "high": float(np.mean([one == "high" for one in severities])),
            }


def shift_for(true_psi: float) -> float:
    """The shift of a standard normal at which its PSI on the deciles has this value, by bisection."""
    normal = NormalDist()
    edges = [normal.inv_cdf(step / 10) for step in range(1, 10)]
    low, high = 0.0, 3.0
    for _ in range(60):
        middle = (low + high) / 2
        below = [0.0, *(normal.cdf(edge - middle) for edge in edges), 1.0]
        moved = np.diff(below)
        value = float(np.sum((moved - 0.1) * np.log(moved / 0.1)))
        low, high = (middle, high) if value < true_psi else (low, middle)
    return low


def drifts(
    shared: Measurement, source: np.random.Generator, key: tuple[str, float]
) -> Iterator[dict[str, Any]]:
    """A drift at each window size: the rate of detection in one window, and the delay."""
    setting, profile = shared.setting, shared.setting.profile
    calm, moved = shares_of(profile, shared.base), shares_of(profile, shared.pool(key))
    largest = max(
        corrected_psi(np.asarray(one * POOL_ROWS), np.array(feature.histogram.shares) * profile.rows)
        for one, feature in zip(moved.bins, profile.features, strict=True)
    )
    for size in SIZES:
        judged = [judge(setting, moved.window(profile, size, source)) for _ in range(REPEATS)]
        delays = [delay(setting, calm, moved, size, source) for _ in range(SEQUENCES)]
        yield {
            "kind": key[0],
            "strength": key[1],
            "rows": size,
            "largest_psi": largest,
            "any": float(np.mean([one.any for one in judged])),
            "high": float(np.mean([one.high for one in judged])),
            "rate": float(np.mean([one.rate for one in judged])),
            "drifted": float(np.mean([one.features for one in judged])),
            "found": float(np.mean([one is not None for one in delays])),
            "delay": float(np.median([24.0 if one is None else one for one in delays])),
        }


def delay(
    setting: Setting, calm: Shares, moved: Shares, rows: int, source: np.random.Generator
) -> int | None:
    """Hours from the begin of drift to the first alarm of either window; None if there is none in 24."""
    since: WindowCounts | None = None
    for hour in range(1, 25):
        window = moved.window(setting.profile, rows, source)
        since = window if since is None else mixed(since, window)
        kept = calm.window(setting.profile, max(0, (24 - hour) * rows), source)
        day = mixed(since, kept) if hour < 24 else since
        if judge(setting, window).any or judge(setting, day).any:
            return hour
    return None


def evidently(
    shared: Measurement, source: np.random.Generator, key: tuple[str, float]
) -> Iterator[dict[str, Any]]:
    """Evidently's default preset on windows of each size beside 5,000 rows of the reference."""
    import pandas as pd  # noqa: PLC0415

    warnings.simplefilter("ignore")
    from evidently import DataDefinition, Dataset, Report  # noqa: PLC0415
    from evidently.presets import DataDriftPreset  # noqa: PLC0415

    definition: Any = DataDefinition(numerical_columns=list(NAMES))

    def dataset(rows: Pool, size: int) -> Any:
        chosen = rows.features[source.integers(0, len(rows.features), size)]
        return Dataset.from_pandas(pd.DataFrame(chosen, columns=list(NAMES)), data_definition=definition)

    rows = shared.pool(key)
    for size in SIZES:
        drifted_columns = []
        for _ in range(shared.evidently):
            snapshot = Report([DataDriftPreset()]).run(dataset(rows, size), dataset(shared.base, 5_000))
            drifted_columns.append(snapshot.dict()["metrics"][0]["value"]["count"])
        yield {
            "kind": key[0],
            "strength": key[1],
            "rows": size,
            "columns": float(np.mean(drifted_columns)),
            "dataset": float(np.mean([count >= 0.5 * len(NAMES) for count in drifted_columns])),
        }


# --- Concept drift --------------------------------------------------------------------------------------


def critical_below(setting: Setting, frauds: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each number of labelled frauds, the most caught with which recall is critical; -1: never."""
    bound = concept_bounds(setting.parameters.gate_in_force)["recall"][1]
    confidence = setting.parameters.drift.confidence
    known: dict[int, int] = {}
    for n in map(int, np.unique(frauds)):
        low, high = -1, n
        while low < high:
            middle = (low + high + 1) // 2
            if clopper_pearson(middle, n, confidence)[1] < bound:
                low = middle
            else:
                high = middle - 1
        known[n] = low if n >= setting.parameters.drift.concept.min_labels else -1
    return np.array([known[int(n)] for n in frauds])


def power(shared: Measurement, source: np.random.Generator, _key: None) -> list[dict[str, Any]]:
    """How often a lower recall is found, by the number of labelled frauds."""
    sizes = np.array([100, 150, 200, 250, 300, 400, 500, 600, 800, 1000])
    limits = critical_below(shared.setting, sizes)
    return [
        {
            "recall": recall,
            "frauds": int(n),
            "critical": float(np.mean(source.binomial(n, recall, 20_000) <= limit)),
        }
        for recall in (0.955, 0.93, 0.92, 0.90, 0.85)
        for n, limit in zip(sizes, limits, strict=True)
    ]


def daily(shared: Measurement, source: np.random.Generator, _key: None) -> Iterator[dict[str, Any]]:
    """24 hourly looks a day at the newest labelled frauds: the share of days with a false critical."""
    newest, days = shared.setting.parameters.drift.concept.frauds, 4_000
    limit = int(critical_below(shared.setting, np.array([newest]))[0])
    for recall in (0.955, 0.95):
        for an_hour in (5, 50, 1_000):
            ends = newest + an_hour * np.arange(1, 25)
            alarmed = 0
            for _ in range(days):
                caught = np.concatenate([[0], np.cumsum(source.random(ends[-1]) < recall)])
                alarmed += bool((caught[ends] - caught[ends - newest] <= limit).any())
            yield {"recall": recall, "frauds_an_hour": an_hour, "days": alarmed / days}


# --- Estimates without labels -----------------------------------------------------------------------------


def estimates(
    shared: Measurement, source: np.random.Generator, key: tuple[str, float]
) -> Iterator[dict[str, Any]]:
    """Error of the estimates and coverage of their intervals, where nothing changed and under a drift.

    The labels of the `COMPARED` windows before each one are known.
    """
    rows = shared.pool(key)
    for size in (2_000, 20_000):
        figures = _estimated(shared.setting, rows, size, source)
        yield {"kind": key[0], "strength": key[1], "rows": size, **figures}


def _estimated(setting: Setting, rows: Pool, size: int, source: np.random.Generator) -> dict[str, float]:
    errors: dict[str, list[float]] = {}
    covered: dict[str, list[bool]] = {}
    confidence = setting.parameters.drift.estimate_confidence
    calm: list[bool] = []
    for _ in range(100 + COMPARED):
        index = source.integers(0, len(rows.scores), size)
        labels, flagged = rows.labels[index], rows.flagged[index]
        counts = WindowCounts(setting.profile)
        counts.add(rows.features[index])
        counts.add_scores(rows.scores[index], flagged)
        judged = judge(setting, counts)
        held_out = np.array(setting.profile.scores.shares) * setting.profile.scored_rows
        score_psi = corrected_psi(counts.scores.rows.astype(float), held_out)
        limit = setting.parameters.drift.inputs.drifted_psi
        calm.append(judged.features == 0 and score_psi < limit and not judged.rate)
        truths = {
            "recall": flagged[labels].mean(),
            "fpr": flagged[~labels].mean(),
            "precision": labels[flagged].mean(),
        }
        for one in estimate_performance(setting.profile, counts.scores, confidence):
            truth = float(truths[one.metric])
            errors.setdefault(one.metric, []).append(one.value - truth)
            covered.setdefault(one.metric, []).append(one.low <= truth <= one.high)
    trusted = []
    for end in range(COMPARED, len(calm)):
        latest = {
            metric: Coverage(COMPARED, sum(held[end - COMPARED : end])) for metric, held in covered.items()
        }
        trusted.append(calm[end] and are_confirmed(latest, confidence))
    result = {"calm": float(np.mean(calm)), "trusted": float(np.mean(trusted))}
    for metric, values in errors.items():
        result[f"{metric}_error"] = float(np.mean(np.abs(values)))
        result[f"{metric}_bias"] = float(np.mean(values))
        result[f"{metric}_covered"] = float(np.mean(covered[metric]))
    return result


PARTS: Final[dict[str, Callable[..., Iterable[dict[str, Any]]]]] = {
    "stable": stable,
    "known": known_psi,
    "drifts": drifts,
    "evidently": evidently,
    "power": power,
    "daily": daily,
    "estimates": estimates,
}

# --- The report ---------------------------------------------------------------------------------------------


def report(sections: dict[str, Any]) -> str:
    return "\n\n".join(
        [
            _stable_text(sections["stable"]),
            _known_text(sections["known"]),
            _drifts_text(sections["drifts"], sections["evidently"]),
            _concept_text(sections["power"], sections["daily"]),
            _estimates_text(sections["estimates"]),
        ]
    )


def _stable_text(rows: Sequence[dict[str, Any]]) -> str:
    head = ["rows an hour", "alarms", "of the rate", "windows with a drifted feature", "any p < 0.05"]
    body = [
        [f"{one['rows']:,}", one["alarms"], one["rate_alarms"], one["drifted"], f"{one['naive']:.0%}"]
        for one in rows
    ]
    return (
        f"## Quiet: 30 days of hourly windows without drift\n\n"
        f"Of {HOURS} windows of each size, those with a data-drift alarm (medium or high) over all "
        f"{len(NAMES)} features together. Windows of up to 5,000 rows are simulated row by row; larger ones "
        "by the counts in their bins. The last column is what a test of each feature at 5 % would say.\n\n"
        + machine.table(head, body)
    )


def _known_text(rows: Sequence[dict[str, Any]]) -> str:
    head = ["true PSI", "rows", "medium or worse", "high"]
    body = [
        [f"{one['psi']:g}", f"{one['rows']:,}", f"{one['medium']:.1%}", f"{one['high']:.1%}"] for one in rows
    ]
    return (
        "## A known PSI\n\nA normal feature, shifted so that its true PSI on the reference's deciles is "
        "known; 400 windows each.\n\n![](drift-psi.png)\n\n" + machine.table(head, body)
    )


def _drifts_text(rows: Sequence[dict[str, Any]], preset: Sequence[dict[str, Any]]) -> str:
    head = ["drift", "largest true PSI", "rows an hour", "found in one window", "high", "by the rate"]
    head += ["drifted features", "found in 24 h", "median delay, h"]
    head += ["Evidently: drifted columns", "dataset drift"]
    theirs = {(one["kind"], one["strength"], one["rows"]): one for one in preset}
    body = [
        [
            f"{one['kind']}={one['strength']:g}",
            f"{one['largest_psi']:.2f}",
            f"{one['rows']:,}",
            f"{one['any']:.0%}",
            f"{one['high']:.0%}",
            f"{one['rate']:.0%}",
            f"{one['drifted']:.1f}",
            f"{one['found']:.0%}",
            f"{one['delay']:.0f}" if one["found"] >= 0.5 else "> 24",
            f"{theirs[one['kind'], one['strength'], one['rows']]['columns']:.1f}",
            f"{theirs[one['kind'], one['strength'], one['rows']]['dataset']:.0%}",
        ]
        for one in rows
    ]
    calm = [
        f"{one['columns']:.1f} of windows of {one['rows']:,} rows"
        for one in preset
        if one["kind"] == NOTHING[0]
    ]
    return (
        "## Loud: the simulator's drifts\n\nWithout labels: by the inputs, and by the predicted rate. The "
        "delay is that of the first alarm of the hour's or the day's window. A new fraud pattern moves few "
        "inputs and shows in labels; see below.\n\n![](drift-found.png)\n\n"
        + machine.table(head, body)
        + "\n\nThe last two columns are Evidently's default preset beside 5,000 rows of the reference: "
        "columns it calls drifted, and how often it calls the data drifted (from half of the columns on). "
        f"Without drift it calls drifted, of {len(NAMES)} columns in the mean: {', '.join(calm)}."
    )


def _concept_text(rows: Sequence[dict[str, Any]], days: Sequence[dict[str, Any]]) -> str:
    recalls = sorted({one["recall"] for one in rows}, reverse=True)
    sizes = sorted({one["frauds"] for one in rows})
    known = {(one["recall"], one["frauds"]): one["critical"] for one in rows}
    body = [[n, *(f"{known[recall, n]:.1%}" for recall in recalls)] for n in sizes]
    return (
        "## Concept drift: recall against the bound of 95 %\n\nHow often one look is critical, by the "
        "labelled frauds it rests on and the true recall:\n\n![](drift-power.png)\n\n"
        + machine.table(["labelled frauds", *(f"recall {recall:.1%}" for recall in recalls)], body)
        + "\n\nDays with a false critical: 24 looks at the newest labelled frauds, of which some are new "
        "each hour.\n\n"
        + machine.table(
            ["true recall", "new labelled frauds an hour", "days with a critical"],
            [[f"{one['recall']:.1%}", one["frauds_an_hour"], f"{one['days']:.2%}"] for one in days],
        )
    )


def _estimates_text(rows: Sequence[dict[str, Any]]) -> str:
    metrics = ("recall", "fpr", "precision")
    head = ["drift", "rows", "calm", "trusted"]
    head += [f"{metric}: {word}" for metric in metrics for word in ("mean error", "bias", "covered")]
    body = [
        [
            f"{one['kind']}={one['strength']:g}",
            f"{one['rows']:,}",
            f"{one['calm']:.0%}",
            f"{one['trusted']:.0%}",
            *(
                text
                for metric in metrics
                for text in (
                    f"{one[f'{metric}_error']:.4f}",
                    f"{one[f'{metric}_bias']:+.4f}",
                    f"{one[f'{metric}_covered']:.0%}",
                )
            ),
        ]
        for one in rows
    ]
    return (
        f"## Estimates without labels against the truth\n\n{100 + COMPARED} windows each: the mean absolute "
        "error, the bias, and how often the 95 % interval holds the window's true figure. `calm` is how "
        "often neither inputs nor scores have moved, `trusted` how often the monitor stands by the estimate "
        f"once the labels of the {COMPARED} windows before are known. The lines below the first two are what "
        "it must not claim to know: there a score does not mean what it meant on the held-out part.\n\n"
        + machine.table(head, body)
    )


if __name__ == "__main__":
    main()
