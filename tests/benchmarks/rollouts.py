"""How often a release is promoted, rolled back or left inconclusive, by what is true of the candidate.

    ./fraud bench rollouts [--rollouts 2000] [--seed 1] [--write]

No server is needed: thousands of rollouts are simulated over the judgement of the core with the configuration
of production, looks, windows, extensions and both stages included. `--write` puts the tables into
docs/results/rollouts.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from config.parameters import load_parameters
from config.release import Release
from config.settings import CONFIG_DIR
from fraud_core.canary import findings as found
from fraud_core.canary.evidence import SCORE_BINS
from fraud_core.canary.findings import Codes, Finding
from fraud_core.canary.labelled_checks import paired_findings
from fraud_core.canary.tables import ArmTable, Floats, PairedTable, TrafficTable
from fraud_core.canary.traffic_checks import alert_rate, sample_ratio, traffic_findings
from tests.benchmarks import machine

# --- What is true ---------------------------------------------------------------------------------------

RECALL: Final = 0.95  # of the champion
FPR: Final = 0.003
ERRORS: Final = 0.001  # of calls, where nothing is wrong
SLOW: Final = 0.01  # of calls that take longer than the bound
DISAGREEMENT: Final = 0.025  # of frauds that one of two equally good models catches and the other does not
FALSE_DISAGREEMENT: Final = 0.002  # of legitimate ones that one of them flags and the other does not
HISTORY_SECONDS: Final = 86_400  # the mature labels of so much traffic are scored by both models,
HISTORY_FRAUDS: Final = 1_200  # the newest with so many frauds at most,
HISTORY_LEGITIMATE: Final = 250_000  # and with so many others


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is true of the candidate.

    Attributes:
        moved: the share of scores that leave the lowest bin.
        disagreement: the share of frauds that one of the models catches and the other does not, less the
            difference of their recall.
        only_live: the history shows nothing of it.
    """

    name: str
    errors: float = ERRORS
    slow: float = SLOW
    recall: float = RECALL
    fpr: float = FPR
    moved: float = 0.0
    disagreement: float = DISAGREEMENT
    only_live: bool = False


UNCHANGED: Final = Scenario("unchanged")
SCENARIOS: Final = (
    UNCHANGED,
    *(Scenario(f"errors +{points} %", errors=ERRORS + points / 100) for points in (1, 2, 3, 5, 10)),
    *(Scenario(f"{slow:.0%} of calls over 200 ms", slow=slow) for slow in (0.1, 0.2)),
    *(Scenario(f"recall −{points} points", recall=RECALL - points / 100) for points in (2, 5, 10)),
    *(Scenario(f"FPR +{points} points", fpr=FPR + points / 100) for points in (0.5, 2)),
    *(Scenario(f"{moved:.0%} of scores moved", moved=moved) for moved in (0.05, 0.2)),
    Scenario("better: recall +2, FPR −0.1 points", recall=RECALL + 0.02, fpr=FPR - 0.001),
)
BAD: Final = tuple(one for one in SCENARIOS if one.recall <= RECALL - 0.05 or one.errors >= 0.02)


@dataclass(frozen=True, slots=True)
class Cell:
    """Transactions a second, the share of frauds, and how many transactions a call scores."""

    rate: int
    fraud: float
    per_call: int = 1

    def __str__(self) -> str:
        calls = "" if self.per_call == 1 else f", {self.per_call} a call"
        return f"{self.rate:,} a second, {self.fraud:.1%} fraud{calls}"


CELLS: Final = tuple(Cell(rate, fraud) for rate in (1, 10, 100, 1_000) for fraud in (0.002, 0.01, 0.05))
SUFFICIENT: Final = Cell(100, 0.01)
SPARSE: Final = Cell(1, 0.002)
BATCHES: Final = Cell(100, 0.01, per_call=100)


def score_shares(cell: Cell, scenario: Scenario) -> Floats:
    """The shares of scores in each bin; from the middle on a transaction is flagged."""
    half = SCORE_BINS // 2

    def falling(ratio: float) -> Floats:
        weights = np.float64(ratio) ** np.arange(half, dtype=np.float64)
        return np.asarray(weights / weights.sum(), dtype=np.float64)

    fraud = np.concatenate([(1 - scenario.recall) * falling(0.6), scenario.recall * falling(0.75)[::-1]])
    other = np.concatenate([(1 - scenario.fpr) * falling(0.05), scenario.fpr * falling(0.7)])
    other[0] -= scenario.moved
    other[1:5] += scenario.moved / 4
    return cell.fraud * fraud + (1 - cell.fraud) * other


def draw_paired(cell: Cell, scenario: Scenario, n: int, source: np.random.Generator) -> PairedTable:
    """The mature history of n rollouts."""
    frauds = min(round(cell.rate * HISTORY_SECONDS * cell.fraud), HISTORY_FRAUDS)
    legitimate = min(round(frauds * (1 - cell.fraud) / cell.fraud), HISTORY_LEGITIMATE)
    drop, rise = RECALL - scenario.recall, scenario.fpr - FPR

    def split(total: int, difference: float, disagreement: float) -> tuple[Floats, Floats]:
        """Those that only the one with more of them has, and the other one."""
        one, other = disagreement / 2 + max(difference, 0.0), disagreement / 2 + max(-difference, 0.0)
        counts = source.multinomial(total, [one, other, 1 - one - other], size=n).astype(np.float64)
        return counts[:, 0], counts[:, 1]

    champion, candidate = split(frauds, drop, scenario.disagreement)
    false_candidate, false_champion = split(legitimate, rise, FALSE_DISAGREEMENT)
    return PairedTable(
        frauds=np.full(n, float(frauds)),
        champion_only=champion,
        candidate_only=candidate,
        legitimate=np.full(n, float(legitimate)),
        false_champion_only=false_champion,
        false_candidate_only=false_candidate,
    )


def draw_traffic(
    cell: Cell, scenario: Scenario, share: float, source: np.random.Generator, *, seconds: float, n: int
) -> TrafficTable:
    """What n stages count in so many seconds."""
    shared_calls = source.poisson(cell.rate * seconds / cell.per_call, n).astype(np.float64)

    def arm(part: float, truth: Scenario) -> ArmTable:
        shares = score_shares(cell, truth)
        if cell.per_call == 1:
            rows = cell.rate * seconds * part
            scores = source.poisson(rows * (1 - truth.errors) * shares, (n, SCORE_BINS)).astype(np.float64)
            errors = source.poisson(rows * truth.errors, n).astype(np.float64)
            calls = assigned = scores.sum(axis=1) + errors
        else:
            calls = shared_calls
            errors = source.binomial(calls.astype(np.int64), truth.errors).astype(np.float64)
            scored_rows = (calls - errors)[:, None] * cell.per_call * part
            scores = source.poisson(scored_rows * shares).astype(np.float64)
            assigned = scores.sum(axis=1) + np.round(errors * cell.per_call * part)
        slow = source.binomial(calls.astype(np.int64), truth.slow).astype(np.float64)
        return ArmTable(
            calls=calls,
            errors=errors,
            slow=slow,
            rows=assigned,
            flagged=scores[:, SCORE_BINS // 2 :].sum(axis=1),
            scores=scores,
        )

    return TrafficTable(arm(1 - share, UNCHANGED), arm(share, scenario), np.full(n, share))


# --- Rollouts -------------------------------------------------------------------------------------------

Findings = dict[str, Finding]
Judge = Callable[[TrafficTable, Findings], Codes]
Table = TypeVar("Table", TrafficTable, ArmTable, Finding)


def judge(release: Release, traffic: TrafficTable, paired: Findings) -> Codes:
    """The judgement that the platform uses."""
    findings = traffic_findings(traffic, release.judgement) | paired
    return found.verdicts(found.voided(findings))


def always(traffic: TrafficTable, _paired: Findings) -> Codes:
    """A control: promotes whatever is shown."""
    return np.full(len(traffic.share), found.PROMOTE, np.int8)


def never(traffic: TrafficTable, _paired: Findings) -> Codes:
    """A control: never decides."""
    return np.full(len(traffic.share), found.INCONCLUSIVE, np.int8)


def observed(release: Release, traffic: TrafficTable, paired: Findings) -> Codes:
    """A control: holds what was observed against the bounds, with nothing allowed for chance."""
    rules, canary = release.judgement, traffic.canary
    with np.errstate(invalid="ignore"):
        beyond = (
            (canary.errors > rules.max_error_rate * canary.calls)
            | (canary.slow > rules.max_slow_share * canary.calls)
            | (paired["recall"].value > rules.max_recall_drop)
            | (paired["fpr"].value > rules.max_fpr_rise)
        )
    return np.where(beyond, found.ROLL_BACK, found.PROMOTE).astype(np.int8)


def taken(table: Table, rows: NDArray[np.intp]) -> Table:
    """Some rows of a table of arrays."""
    values: dict[str, Any] = {}
    for field in fields(table):
        value = getattr(table, field.name)
        if isinstance(value, np.ndarray):
            values[field.name] = value[rows]
        elif isinstance(value, ArmTable):
            values[field.name] = taken(value, rows)
    return replace(table, **values)


def added(one: TrafficTable, other: TrafficTable) -> TrafficTable:
    """The counts of both."""

    def arms(first: ArmTable, second: ArmTable) -> ArmTable:
        return ArmTable(
            **{
                field.name: getattr(first, field.name) + getattr(second, field.name)
                for field in fields(ArmTable)
            }
        )

    return TrafficTable(arms(one.control, other.control), arms(one.canary, other.canary), one.share)


def looks(window: float, windows: int, densest: bool) -> list[tuple[float, bool]]:
    """When a stage is judged, in seconds, and whether a window ends then.

    The API looks every two seconds. Here the looks become rarer as the stage goes on, each at most half as
    late again as the one before, and at least four in a window: a roll-back comes that much later, and
    promotions are the same.
    """
    times, now = [], 0.0
    while now < window * windows:
        end = (now // window + 1) * window
        step = 2.0 if densest else min(max(2.0, now * 0.5 // 2 * 2), window / 4)
        now = min(now + step, end)
        times.append((now, now == end))
    return times


@dataclass(frozen=True, slots=True)
class Rollouts:
    """How n rollouts ended, as verdict codes, and after how many seconds, both [n]."""

    verdicts: Codes
    seconds: Floats

    def share(self, code: int) -> float:
        return float(np.mean(self.verdicts == code))

    def figures(self) -> dict[str, Any]:
        """Rates of the verdicts, and the median and 90 % quantile of the time to one, in minutes."""
        decided = self.seconds / 60
        rolled = decided[self.verdicts == found.ROLL_BACK]
        return {
            "promoted": self.share(found.PROMOTE),
            "rolled_back": self.share(found.ROLL_BACK),
            "inconclusive": self.share(found.INCONCLUSIVE),
            "median": float(np.median(decided)),
            "slowest": float(np.quantile(decided, 0.9)),
            "rolled_back_after": float(np.median(rolled)) if len(rolled) else None,
        }


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a set of rollouts shares."""

    release: Release
    rollouts: int
    densest: bool = False


def simulate(
    simulation: Simulation, cell: Cell, scenario: Scenario, decide: Judge, source: np.random.Generator
) -> Rollouts:
    """Rollouts through both stages: a model that passes the first one meets fresh counts in the second."""
    release, n = simulation.release, simulation.rollouts
    history = UNCHANGED if scenario.only_live else scenario
    paired = paired_findings(draw_paired(cell, history, n, source), release.judgement)
    verdicts, seconds = np.full(n, found.PROMOTE, np.int8), np.zeros(n)
    active = np.arange(n)
    for percent in (release.canary_percent, release.widened_percent):
        stage = partial(draw_traffic, cell, scenario, percent / 100, source)
        passed = []
        last, counts = 0.0, stage(seconds=0.0, n=len(active))
        for now, window_ends in looks(
            release.window.total_seconds(), release.max_extensions + 1, simulation.densest
        ):
            counts = added(counts, stage(seconds=now - last, n=len(active)))
            codes = decide(counts, {name: taken(one, active) for name, one in paired.items()})
            ended = codes == found.ROLL_BACK
            verdicts[active[ended]] = found.ROLL_BACK
            seconds[active] += now - last
            if window_ends:
                advanced = codes == found.PROMOTE
                passed.append(active[advanced])
                ended |= advanced
            kept = np.flatnonzero(~ended)
            active, counts, last = active[kept], taken(counts, kept), now
            if not len(active):
                break
        verdicts[active] = found.INCONCLUSIVE
        active = np.concatenate(passed) if passed else active[:0]
    return Rollouts(verdicts, seconds)


# --- What is measured -----------------------------------------------------------------------------------

EXACT: Final = {  # each figure exactly at its bound
    "error rate 1 %": Scenario("at its bound", errors=0.01),
    "5 % of calls over 200 ms": Scenario("at its bound", slow=0.05),
    "alert rate × 1.5": Scenario(
        "at its bound", fpr=FPR + 0.5 * (0.01 * RECALL + 0.99 * FPR) / 0.99, only_live=True
    ),
    "distance of scores 0.1": Scenario("at its bound", moved=0.1 / 0.99),
}
CONTROLS: Final = ("always promotes", "never decides", "what was observed")
DISAGREEMENTS: Final = (0.01, 0.025, 0.05, 0.08)


@dataclass(frozen=True, slots=True)
class Setting:
    """What all parts share; workers inherit it."""

    production: Release
    demo: Release
    rollouts: int
    seed: int

    def judge(self, name: str) -> Judge:
        if name == "always promotes":
            return always
        if name == "never decides":
            return never
        return partial(observed if name == "what was observed" else judge, self.production)

    def source(self, *part: Any) -> np.random.Generator:
        """Random numbers of a part, whichever worker measures it."""
        return np.random.default_rng([self.seed, *json.dumps(part).encode()])


Row = dict[str, Any]


def main_cells(setting: Setting, number: int, judge_name: str = "") -> Iterator[Row]:
    """All scenarios in one cell."""
    cell, simulation = CELLS[number], Simulation(setting.production, setting.rollouts)
    for scenario in SCENARIOS:
        source = setting.source(judge_name, number, scenario.name)
        rollouts = simulate(simulation, cell, scenario, setting.judge(judge_name), source)
        yield {"judge": judge_name, "cell": number, "scenario": scenario.name, **rollouts.figures()}


def control_cells(setting: Setting, number: int) -> Iterator[Row]:
    """The same for judges that must not meet the aims."""
    fewer = replace(setting, rollouts=max(100, setting.rollouts // 5))
    for name in CONTROLS:
        yield from main_cells(fewer, number, name)


def every_look(setting: Setting, number: int) -> Iterator[Row]:
    """Where looks are every two seconds: a model exactly at a bound, in all other respects unchanged."""
    name = ["unchanged", *EXACT][number]
    simulation = Simulation(setting.production, max(100, setting.rollouts // 4), densest=True)
    scenario = EXACT.get(name, UNCHANGED)
    yield {"scenario": name, **_figures(setting, simulation, SUFFICIENT, scenario, name)}


def other_calls(setting: Setting, number: int) -> Iterator[Row]:
    """Calls of many transactions: a stream at 100 a second, and the demo with its own configuration."""
    demo = number == 1
    cell = Cell(10, 0.05, per_call=100) if demo else BATCHES
    simulation = Simulation(setting.demo if demo else setting.production, setting.rollouts)
    for scenario in SCENARIOS:
        figures = _figures(setting, simulation, cell, scenario, scenario.name)
        yield {"setting": number, "cell": str(cell), "scenario": scenario.name, **figures}


def disagreements(setting: Setting, number: int) -> Iterator[Row]:
    """By how many frauds the two models disagree on."""
    simulation = Simulation(setting.production, setting.rollouts)
    for recall in (RECALL, RECALL - 0.02, RECALL - 0.05):
        scenario = Scenario(f"{recall:.2f}", recall=recall, disagreement=DISAGREEMENTS[number])
        figures = _figures(setting, simulation, SUFFICIENT, scenario, recall)
        yield {"disagreement": DISAGREEMENTS[number], "recall": recall, **figures}


def _figures(setting: Setting, simulation: Simulation, cell: Cell, scenario: Scenario, *part: Any) -> Row:
    release = simulation.release
    source = setting.source(str(cell), simulation.densest, scenario.disagreement, *part)
    return simulate(simulation, cell, scenario, partial(judge, release), source).figures()


def cards(setting: Setting, number: int) -> Iterator[Row]:
    """False alarms where the transactions of a card are assigned together.

    New cards arrive at random; each brings all its transactions at once, a geometric number of them, of which
    all are flagged or none.
    """
    mean = (1.0, 1.5, 2.0)[number]
    stages, steps, seconds = setting.rollouts, 60, 15.0
    share, rules = setting.production.canary_percent / 100, setting.production.judgement
    source = setting.source("cards", number)

    def rows(rate: float) -> Floats:
        arrived = source.poisson(rate * seconds / mean, (stages, steps))
        more = source.negative_binomial(np.maximum(arrived, 1), 1 / mean) if mean > 1 else 0
        return np.cumsum(np.where(arrived > 0, arrived + more, 0), axis=1).astype(np.float64)

    flagged_rate = float(score_shares(SUFFICIENT, UNCHANGED)[SCORE_BINS // 2 :].sum())
    arms = {
        part: (rows(SUFFICIENT.rate * part * (1 - flagged_rate)), rows(SUFFICIENT.rate * part * flagged_rate))
        for part in (1 - share, share)
    }
    exact = {
        str(per_card): rules.model_copy(
            update={
                "sample_ratio": rules.sample_ratio.model_copy(
                    update={"rows_per_card": per_card, "tolerance": 0.0}
                )
            }
        )
        for per_card in (1.0, 2.0)
    }
    alarmed = {name: np.zeros(stages, dtype=bool) for name in (*exact, "alerts")}
    for step in range(steps):
        control, canary = (
            _rows_only(others[:, step] + flagged[:, step], flagged[:, step])
            for others, flagged in arms.values()
        )
        traffic = TrafficTable(control, canary, np.full(stages, share))
        alarmed["alerts"] |= alert_rate(traffic, rules).outcome == found.FAILED
        for per_card, strict in exact.items():
            alarmed[per_card] |= sample_ratio(traffic, strict).outcome == found.FAILED
    # The mean over transactions of how many their card brings.
    yield {"mean": 2 * mean - 1, **{name: float(alarms.mean()) for name, alarms in alarmed.items()}}


def _rows_only(rows: Floats, flagged: Floats) -> ArmTable:
    nothing = np.zeros_like(rows)
    return ArmTable(rows, nothing, nothing, rows, flagged, np.zeros((len(rows), SCORE_BINS)))


PARTS: Final[dict[str, tuple[Callable[[Setting, int], Iterator[Row]], int]]] = {
    "every": (every_look, 1 + len(EXACT)),
    "main": (main_cells, len(CELLS)),
    "controls": (control_cells, len(CELLS)),
    "calls": (other_calls, 2),
    "disagreements": (disagreements, len(DISAGREEMENTS)),
    "cards": (cards, 3),
}


# --- Aims -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Aim:
    """A figure of some scenarios and cells that must not be above, or below, a bound."""

    text: str
    scenarios: Sequence[Scenario]
    cells: Sequence[Cell]
    figure: str
    most: float | None = None
    least: float | None = None

    def worst(self, rows: Sequence[Row]) -> Row:
        names = {scenario.name for scenario in self.scenarios}
        within = [row for row in rows if row["scenario"] in names and CELLS[row["cell"]] in self.cells]
        return max(within, key=self._badness)

    def _badness(self, row: Row) -> float:
        value = row[self.figure]
        if value is None:
            return np.inf
        return float(value if self.least is None else -value)

    def met(self, rows: Sequence[Row]) -> bool:
        value = self.worst(rows)[self.figure]
        if value is None:
            return False
        return bool(value >= self.least if self.least is not None else value <= self.most)


def named(*names: str) -> tuple[Scenario, ...]:
    return tuple(scenario for scenario in SCENARIOS if scenario.name in names)


AIMS: Final = (
    Aim("a bad model promoted in at most 1 %, in every cell", BAD, CELLS, "promoted", most=0.01),
    Aim(
        "an unchanged one rolled back in at most 5 %, in every cell",
        (UNCHANGED,),
        CELLS,
        "rolled_back",
        most=0.05,
    ),
    Aim(
        "with evidence enough: a bad one rolled back in at least 95 %",
        BAD,
        (SUFFICIENT,),
        "rolled_back",
        least=0.95,
    ),
    Aim("an unchanged one promoted in at least 85 %", (UNCHANGED,), (SUFFICIENT,), "promoted", least=0.85),
    Aim(
        "an unchanged one inconclusive in at most 10 %", (UNCHANGED,), (SUFFICIENT,), "inconclusive", most=0.1
    ),
    Aim(
        "10 % errors rolled back within 2 minutes at the median",
        named("errors +10 %"),
        (SUFFICIENT,),
        "rolled_back_after",
        most=2.0,
    ),
    Aim(
        "with too little: an unchanged one inconclusive", (UNCHANGED,), (SPARSE,), "inconclusive", least=0.95
    ),
)


# --- The report -----------------------------------------------------------------------------------------

HEAD: Final = ["promoted", "rolled back", "inconclusive"]
HEAD_TIMES: Final = ["minutes to the verdict, median", "90 %", "to a roll-back, median"]


def figures_of(row: Row) -> list[str]:
    shares = [f"{row[name]:.1%}" for name in ("promoted", "rolled_back", "inconclusive")]
    after = row["rolled_back_after"]
    return [*shares, f"{row['median']:.1f}", f"{row['slowest']:.1f}", "" if after is None else f"{after:.1f}"]


def report(sections: dict[str, list[Row]], setting: Setting) -> str:
    return "\n\n".join(
        [
            _aims_text(sections),
            _main_text(sections["main"], setting),
            _every_text(sections["every"], setting),
            _calls_text(sections["calls"]),
            _disagreements_text(sections["disagreements"]),
            _cards_text(sections["cards"]),
        ]
    )


def _aims_text(sections: dict[str, list[Row]]) -> str:
    judges = {"judge": sections["main"]}
    judges |= {name: [row for row in sections["controls"] if row["judge"] == name] for name in CONTROLS}
    body = []
    for aim in AIMS:
        worst = aim.worst(sections["main"])
        value = worst[aim.figure]
        shown = f"{value:.1f} min" if aim.figure == "rolled_back_after" else f"{value:.2%}"
        where = f"{worst['scenario']}, {CELLS[worst['cell']]}"
        marks = ["met" if aim.met(rows) else "**missed**" for rows in judges.values()]
        body.append([aim.text, f"{shown} ({where})", *marks])
    head = ["aim", "worst figure", "the judgement", *CONTROLS]
    return (
        "## Aims\n\nBad: recall lower by 5 points or more, or an error rate of 2 % or more. The last three "
        "columns are controls, which have to miss some: a judge that promotes whatever is shown, one that "
        "never decides, and one that holds what was observed against the bounds with nothing allowed for "
        "chance.\n\n" + machine.table(head, body)
    )


def _main_text(rows: Sequence[Row], setting: Setting) -> str:
    release = setting.production
    parts = [
        f"## Every cell\n\n{setting.rollouts:,} rollouts each: {release.canary_percent} %, then "
        f"{release.widened_percent} % of the traffic, {release.window.total_seconds() / 60:.0f} minutes each "
        f"and up to {release.max_extensions} extensions. Without a change {ERRORS:.1%} of calls fail and "
        f"{SLOW:.0%} are slow, recall is {RECALL:.0%} and FPR {FPR:.1%}. Both models have scored the "
        f"mature labels of a day, at most the newest {HISTORY_FRAUDS:,} frauds and {HISTORY_LEGITIMATE:,} "
        f"others; on {DISAGREEMENT:.1%} of frauds and {FALSE_DISAGREEMENT:.1%} of others two equally good "
        "models disagree. What the history shows is acted upon at the first look, after 2 seconds. "
        "Inconclusive ones are withdrawn when the last extension is over."
    ]
    for number, cell in enumerate(CELLS):
        body = [[row["scenario"], *figures_of(row)] for row in rows if row["cell"] == number]
        parts.append(f"### {cell}\n\n" + machine.table(["candidate", *HEAD, *HEAD_TIMES], body))
    return "\n\n".join(parts)


def _every_text(rows: Sequence[Row], setting: Setting) -> str:
    return (
        "## Judged every two seconds, exactly at a bound\n\n"
        f"{setting.rollouts // 4:,} rollouts each at {SUFFICIENT}. One figure is exactly at its bound, "
        "all others are unchanged: each roll-back is a false alarm and each promotion a false pass.\n\n"
        + machine.table(
            ["candidate", *HEAD, *HEAD_TIMES], [[row["scenario"], *figures_of(row)] for row in rows]
        )
    )


def _calls_text(rows: Sequence[Row]) -> str:
    parts = [
        "## Calls of many transactions\n\nA stream that scores 100 transactions a call has a hundredth of "
        "the calls, on which errors and latency are judged. The demo has its own windows and asks for less "
        "before it promotes (`config.development.yaml`)."
    ]
    for number, name in enumerate(("Production", "Demo")):
        chosen = [row for row in rows if row["setting"] == number]
        body = [[row["scenario"], *figures_of(row)] for row in chosen]
        parts.append(
            f"### {name}: {chosen[0]['cell']}\n\n" + machine.table(["candidate", *HEAD, *HEAD_TIMES], body)
        )
    return "\n\n".join(parts)


def _disagreements_text(rows: Sequence[Row]) -> str:
    body = [
        [f"{row['disagreement']:.1%}", f"{row['recall'] - RECALL:+.0%}", *figures_of(row)[:3]] for row in rows
    ]
    return (
        f"## How much the models disagree\n\n{SUFFICIENT}, {HISTORY_FRAUDS:,} frauds. The more frauds one of "
        "two equally good models catches and the other does not, the more of them are needed.\n\n"
        + machine.table(["frauds they disagree on", "recall", *HEAD], body)
    )


def _cards_text(rows: Sequence[Row]) -> str:
    body = [[f"{row['mean']:g}", *(f"{row[name]:.2%}" for name in ("1.0", "2.0", "alerts"))] for row in rows]
    head = ["transactions of a card", "sample ratio, `rows_per_card` 1", "2, as configured", "alert rate"]
    return (
        "## Sticky cards\n\n"
        f"False alarms in stages of 15 minutes at {SUFFICIENT}, judged 60 times, where a card's transactions "
        "are assigned together and all are flagged or none; the sample ratio is judged without a tolerance "
        "here. The share varies by more than if each transaction were assigned alone. The first column is "
        "the mean over transactions of how many their card brings.\n\n" + machine.table(head, body)
    )


# --- Running --------------------------------------------------------------------------------------------

_shared: list[Setting] = []


def _part(part: tuple[str, int]) -> list[Row]:
    name, number = part
    [setting] = _shared
    return list(PARTS[name][0](setting, number))


def measured(setting: Setting, workers: int) -> dict[str, list[Row]]:
    """All sections, their parts spread over processes."""
    _shared[:] = [setting]
    parts = [(name, number) for name, (_, count) in PARTS.items() for number in range(count)]
    sections: dict[str, list[Row]] = {name: [] for name in PARTS}
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork")) as executor:
        for (name, _), rows in zip(parts, executor.map(_part, parts), strict=True):
            sections[name] += rows
            print(f"{name}: {json.dumps(rows)}", file=sys.stderr, flush=True)
    return sections


def main() -> None:
    options = _options()
    started, load = time.monotonic(), machine.load()
    production, demo = (load_parameters(CONFIG_DIR, name).release for name in ("production", "development"))
    setting = Setting(production, demo, options.rollouts, options.seed)
    text = report(measured(setting, options.workers), setting)
    print(text)
    if options.write:
        seconds = time.monotonic() - started
        head = f"# Verdicts on releases\n\n    {machine.command()}\n\n{machine.origin_of_models()}"
        head += f" {seconds:.0f} s, load average before: {load:.1f}."
        (machine.RESULTS / "rollouts.md").write_text(f"{head}\n\n{text}\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rollouts", type=int, default=2_000, help="of each scenario in each cell")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--write", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
