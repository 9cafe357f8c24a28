"""The three verdicts on a release, and the statistics they rest on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.special import betaln, xlog1py, xlogy

from config.parameters import load_parameters
from config.release import Release
from config.settings import CONFIG_DIR
from fraud_core.canary.evidence import SCORE_BINS, Arm, Evidence, Labelled, LiveLabels, Paired
from fraud_core.canary.judgement import Check, Judgement, Outcome, Verdict, judge
from fraud_core.canary.labelled_checks import paired_findings
from fraud_core.canary.paired import difference_interval, score
from fraud_core.canary.rules import JudgementRules
from fraud_core.canary.sequential import JEFFREYS, Prior, interval
from fraud_core.canary.tables import ArmTable, PairedTable, TrafficTable
from tests.benchmarks import rollouts

RULES = JudgementRules()
ORDER = [Verdict.ROLL_BACK, Verdict.INCONCLUSIVE, Verdict.PROMOTE]


def arm(rows: int, *, errors: float = 0.001, slow: float = 0.01, flagged: float = 0.013) -> Arm:
    """An arm whose calls score a transaction each; shares of its rows."""
    high = round(rows * flagged)
    scores = (rows - high, *(0,) * (SCORE_BINS - 2), high)
    return Arm(rows, round(rows * errors), round(rows * slow), rows, high, scores)


ALIKE = Paired(1200, 1125, 15, 15, 120_000, 240, 120, 120)
CONTROL = arm(81_000)
GOOD = Evidence(CONTROL, arm(9_000), 0.1, ALIKE)


def check(judgement: Judgement, name: str) -> Check:
    [one] = [one for one in judgement.checks if one.name == name]
    return one


# --- Verdicts -------------------------------------------------------------------------------------------


def test_a_model_that_keeps_every_bound_is_promoted() -> None:
    judgement = judge(GOOD, RULES)
    assert judgement.verdict is Verdict.PROMOTE
    assert {one.outcome for one in judgement.checks} == {Outcome.PASSED}
    assert judgement.sentence == (
        "Promote: every check passed, over 9,000 calls and 9,000 transactions of the canary."
    )
    assert [one.name for one in judgement.checks] == [
        "traffic",
        "scores",
        "sample_ratio",
        "errors",
        "latency",
        "alert_rate",
        "score_distribution",
        "recall",
        "fpr",
    ]


@pytest.mark.parametrize(
    ("name", "evidence", "sentence"),
    [
        ("errors", replace(GOOD, canary=arm(9_000, errors=0.03)), "The error rate is 3.00% (2.27% to"),
        ("latency", replace(GOOD, canary=arm(9_000, slow=0.08)), "The share of calls over 200 ms is 8.00%"),
        ("alert_rate", replace(GOOD, canary=arm(9_000, flagged=0.04)), "alert rate is +207.69%"),
        ("alert_rate", replace(GOOD, canary=arm(9_000, flagged=0.0)), "alert rate is -100.00%"),
        (
            "score_distribution",
            replace(GOOD, canary=replace(arm(9_000), scores=(0, 8_883, *(0,) * 17, 117))),
            "The distance of the distributions of scores is 98.70%",
        ),
        ("recall", replace(GOOD, paired=replace(ALIKE, both=1065, champion_only=75)), "is +5.00%"),
        ("fpr", replace(GOOD, paired=replace(ALIKE, false_candidate_only=1_320)), "is +1.00%"),
    ],
)
def test_a_bound_that_is_clearly_broken_rolls_back(name: str, evidence: Evidence, sentence: str) -> None:
    judgement = judge(evidence, RULES)
    assert judgement.verdict is Verdict.ROLL_BACK
    failed = check(judgement, name)
    assert failed.outcome is Outcome.FAILED
    assert sentence in failed.sentence
    assert failed.sentence.endswith(f"beyond the bound of {failed.bound:.2%}.")
    assert failed.sentence[1:] in judgement.sentence
    assert [one.name for one in judgement.checks if one.outcome is Outcome.FAILED] == [name]


def test_no_traffic_is_no_evidence() -> None:
    judgement = judge(replace(GOOD, canary=Arm()), RULES)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.sentence == (
        "Inconclusive: the canary got no traffic, which is no evidence for it or against it."
    )
    assert check(judgement, "traffic").outcome is Outcome.INSUFFICIENT
    assert check(judgement, "errors").value is None
    assert judge(Evidence(Arm(), Arm(), 0.1, ALIKE), RULES).verdict is Verdict.INCONCLUSIVE


def test_too_little_traffic_is_told_by_what_it_leaves_open() -> None:
    judgement = judge(Evidence(arm(810), arm(90), 0.1, ALIKE), RULES)
    assert judgement.sentence == (
        "Inconclusive: over 90 calls and 90 transactions of the canary there is not enough to tell on "
        "traffic, sample ratio, errors, latency, alert rate, score distribution."
    )


@pytest.mark.parametrize("lost", ["canary", "control"])
def test_missing_scores_are_a_failed_check(lost: str) -> None:
    unscored = replace(getattr(GOOD, lost), scores=(0,) * SCORE_BINS)
    judgement = judge(replace(GOOD, **{lost: unscored}), RULES)
    assert judgement.verdict is Verdict.ROLL_BACK
    assert "Counts are missing without an error" in check(judgement, "scores").sentence


def test_transactions_without_calls_are_a_failed_check() -> None:
    """Nothing would be known of errors and latency, which is not the same as no errors."""
    judgement = judge(replace(GOOD, canary=replace(arm(9_000), calls=0, errors=0, slow=0)), RULES)
    assert judgement.verdict is Verdict.ROLL_BACK
    assert check(judgement, "scores").outcome is Outcome.FAILED


def test_some_missing_scores_are_a_failed_check_unless_calls_failed() -> None:
    rows = arm(9_000, errors=0)
    fewer = (rows.scores[0] - 1, *rows.scores[1:])
    assert judge(replace(GOOD, canary=replace(rows, scores=fewer)), RULES).verdict is Verdict.ROLL_BACK
    failed_once = replace(rows, errors=1, scores=fewer)
    assert judge(replace(GOOD, canary=failed_once), RULES).verdict is Verdict.PROMOTE


def test_a_call_that_failed_leaves_no_score_and_is_counted_as_an_error() -> None:
    """The first call of all fails: that is one error, not missing data."""
    first = Arm(calls=1, errors=1, rows=1)
    assert judge(Evidence(arm(9), first, 0.1, ALIKE), RULES).verdict is Verdict.INCONCLUSIVE
    every = Arm(calls=20, errors=20, rows=20)
    judgement = judge(Evidence(arm(180), every, 0.1, ALIKE), RULES)
    assert judgement.verdict is Verdict.ROLL_BACK
    assert check(judgement, "scores").outcome is Outcome.INSUFFICIENT


def test_a_wrong_sample_ratio_leaves_the_comparisons_undecided() -> None:
    """With 20 % instead of 10 % of the traffic, and every transaction flagged."""
    judgement = judge(replace(GOOD, canary=arm(18_000, flagged=1.0)), RULES)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert check(judgement, "sample_ratio").outcome is Outcome.FAILED
    assert "planned were 10.00%: the arms cannot be compared." in judgement.sentence
    assert check(judgement, "alert_rate").outcome is Outcome.INSUFFICIENT
    assert check(judgement, "score_distribution").outcome is Outcome.INSUFFICIENT


def test_errors_roll_back_whatever_the_sample_ratio() -> None:
    judgement = judge(replace(GOOD, canary=arm(18_000, errors=0.1)), RULES)
    assert judgement.verdict is Verdict.ROLL_BACK


def test_without_labels_nothing_is_promoted() -> None:
    judgement = judge(replace(GOOD, paired=None), RULES)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "the drop in recall is unknown: no mature labelled transaction was scored by both" in (
        judgement.sentence
    )


def test_too_few_frauds_decide_nothing() -> None:
    few = Paired(99, 0, 99, 0, 120_000, 240, 120, 120)
    judgement = judge(replace(GOOD, paired=few), RULES)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert check(judgement, "recall").outcome is Outcome.INSUFFICIENT


def test_a_gain_in_recall_does_not_make_up_for_false_alarms() -> None:
    """The bounds are separate: who accepts more false alarms changes the bound, or forces the promotion."""
    traded = Paired(1200, 1000, 0, 200, 120_000, 240, 120, 1_500)
    judgement = judge(replace(GOOD, paired=traded), RULES)
    assert judgement.verdict is Verdict.ROLL_BACK
    assert check(judgement, "recall").outcome is Outcome.PASSED
    assert check(judgement, "fpr").outcome is Outcome.FAILED


def test_a_better_model_that_flags_less_is_promoted() -> None:
    """A fifth fewer alerts, because of fewer false ones, is within the tolerance."""
    better = Paired(1200, 1140, 0, 30, 120_000, 240, 120, 0)
    judgement = judge(Evidence(arm(810_000), arm(90_000, flagged=0.0104), 0.1, better), RULES)
    assert judgement.verdict is Verdict.PROMOTE


def labelled(frauds: int, caught: int, legitimate: int = 100_000, false_alarms: int = 300) -> Labelled:
    return Labelled(frauds, caught, legitimate, false_alarms)


@pytest.mark.parametrize(
    ("live", "name", "verdict"),
    [
        (LiveLabels(labelled(9_000, 8_550), labelled(2_000, 1_700)), "live_recall", Verdict.ROLL_BACK),
        (
            LiveLabels(labelled(9_000, 8_550), labelled(2_000, 1_900, 20_000, 400)),
            "live_fpr",
            Verdict.ROLL_BACK,
        ),
        (LiveLabels(labelled(50, 48), labelled(5, 0)), "live_recall", Verdict.PROMOTE),
    ],
)
def test_labels_of_live_traffic_may_roll_back_and_are_not_needed(
    live: LiveLabels, name: str, verdict: Verdict
) -> None:
    judgement = judge(replace(GOOD, live=live), RULES)
    assert judgement.verdict is verdict
    outcome = Outcome.FAILED if verdict is Verdict.ROLL_BACK else Outcome.INSUFFICIENT
    assert check(judgement, name).outcome is outcome


def test_labels_of_live_traffic_may_stand_for_the_history() -> None:
    rich = LiveLabels(labelled(90_000, 85_500), labelled(90_000, 85_500))
    judgement = judge(replace(GOOD, paired=None, live=rich), RULES)
    assert judgement.verdict is Verdict.PROMOTE
    assert check(judgement, "live_recall").outcome is Outcome.PASSED


def test_a_margin_promotes_on_less_and_rolls_back_as_before() -> None:
    """Forty calls cannot show an error rate below 1 %; a demo takes no error among them for an answer."""
    demo = load_parameters(CONFIG_DIR, "development").release.judgement
    calls = Arm(40, 0, 0, 400, 20, (380, *(0,) * (SCORE_BINS - 2), 20))
    control = Arm(40, 0, 0, 3_600, 180, (3_420, *(0,) * (SCORE_BINS - 2), 180))
    evidence = Evidence(control, calls, 0.1, ALIKE)
    assert judge(evidence, RULES).verdict is Verdict.INCONCLUSIVE
    assert judge(evidence, demo).verdict is Verdict.PROMOTE
    assert judge(replace(evidence, canary=replace(calls, errors=1)), demo).verdict is Verdict.INCONCLUSIVE
    assert judge(replace(evidence, canary=replace(calls, errors=8)), demo).verdict is Verdict.ROLL_BACK


def test_a_judgement_is_stored_as_json() -> None:
    stored = json.loads(json.dumps(judge(replace(GOOD, canary=Arm()), RULES).to_mapping()))
    assert stored["verdict"] == "inconclusive"
    assert {one["name"]: one["outcome"] for one in stored["checks"]}["recall"] == "passed"
    assert json.loads(json.dumps(GOOD.to_mapping()))["canary"]["rows"] == 9_000


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Arm(calls=-1), "Arm.calls must be at least 0, got -1."),
        (lambda: Arm(calls=1, errors=2), "Arm: errors (2) must be at most calls (1)."),
        (lambda: Arm(scores=(1,)), "Arm.scores must be 20 counts of at least 0, got (1,)."),
        (lambda: Arm(scores=(1, *(0,) * 19)), "Arm: the sum of scores (1) must be at most rows (0)."),
        (
            lambda: replace(ALIKE, champion_only=1_000),
            "Paired: the frauds caught (2140) must be at most frauds (1200).",
        ),
        (lambda: Labelled(1, 2, 0, 0), "Labelled: caught (2) must be at most frauds (1)."),
        (lambda: replace(GOOD, share=1.0), "Evidence.share must be between 0 and 1, got 1."),
    ],
)
def test_impossible_counts_are_refused_in_one_sentence(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(ValueError, match=r"\.$") as refused:
        make()
    assert str(refused.value) == sentence


# --- Properties -----------------------------------------------------------------------------------------


@st.composite
def arms(draw: st.DrawFn) -> Arm:
    """Any arm whose every row has its score."""
    scores = draw(st.lists(st.integers(0, 3_000), min_size=SCORE_BINS, max_size=SCORE_BINS))
    if draw(st.booleans()):
        scores[0] *= 20
    rows = sum(scores)
    calls = draw(st.integers(0, rows))
    return Arm(
        calls=calls,
        errors=draw(st.integers(0, calls)),
        slow=draw(st.integers(0, calls)),
        rows=rows,
        flagged=draw(st.integers(0, rows)),
        scores=tuple(scores),
    )


SHARES = st.sampled_from([0.1, 0.5])


@st.composite
def nearly_good(draw: st.DrawFn) -> Evidence:
    """Evidence near the bounds, where every verdict occurs."""
    rows = draw(st.integers(0, 20_000))
    canary = arm(rows, slow=draw(st.floats(0, 0.06)), flagged=draw(st.floats(0.008, 0.02)))
    paired = replace(
        ALIKE, both=1_000, champion_only=draw(st.integers(0, 80)), candidate_only=draw(st.integers(0, 80))
    )
    return Evidence(arm(9 * rows), canary, 0.1, draw(st.sampled_from([paired, None])))


@given(nearly_good(), st.data())
@settings(max_examples=150, deadline=None)
def test_more_errors_never_improve_the_verdict(evidence: Evidence, data: st.DataObject) -> None:
    calls = evidence.canary.calls
    most = calls if data.draw(st.booleans()) else calls // 40
    fewer, more = sorted(data.draw(st.tuples(st.integers(0, most), st.integers(0, most))))
    verdicts = [
        judge(replace(evidence, canary=replace(evidence.canary, errors=errors)), RULES).verdict
        for errors in (fewer, more)
    ]
    assert ORDER.index(verdicts[1]) <= ORDER.index(verdicts[0])


@given(nearly_good(), st.data())
@settings(max_examples=100, deadline=None)
def test_losing_more_frauds_never_improves_the_verdict(evidence: Evidence, data: st.DataObject) -> None:
    fewer, more = sorted(data.draw(st.tuples(st.integers(0, 120), st.integers(0, 120))))
    paired = replace(ALIKE, both=1_000)
    verdicts = [
        judge(replace(evidence, paired=replace(paired, champion_only=lost)), RULES).verdict
        for lost in (fewer, more)
    ]
    assert ORDER.index(verdicts[1]) <= ORDER.index(verdicts[0])


@given(st.lists(arms(), min_size=1, max_size=4), arms(), SHARES)
@settings(max_examples=50, deadline=None)
def test_the_order_in_which_counts_come_does_not_matter(parts: list[Arm], control: Arm, share: float) -> None:
    judgements = {
        judge(Evidence(control, sum(order, Arm()), share, ALIKE), RULES) for order in permutations(parts)
    }
    assert len(judgements) == 1


@given(arms(), arms(), SHARES, st.sampled_from([ALIKE, None]))
@settings(max_examples=150, deadline=None)
def test_every_verdict_follows_from_its_checks(
    control: Arm, canary: Arm, share: float, paired: Paired | None
) -> None:
    judgement = judge(Evidence(control, canary, share, paired), RULES)
    outcomes = {one.name: one.outcome for one in judgement.checks}
    against = {name for name, outcome in outcomes.items() if outcome is Outcome.FAILED} - {"sample_ratio"}
    assert (judgement.verdict is Verdict.ROLL_BACK) == bool(against)
    if judgement.verdict is Verdict.PROMOTE:
        assert set(outcomes.values()) == {Outcome.PASSED}
        assert paired is not None
        assert canary.rows >= RULES.min_rows
        assert canary.calls >= RULES.min_calls
    for one in judgement.checks:
        assert one.sentence.endswith(".")
        if one.low is not None and one.high is not None and one.value is not None:
            assert one.low <= one.value + 1e-6
            assert one.value <= one.high + 1e-6


@given(arms(), SHARES, st.sampled_from([ALIKE, None]))
@settings(max_examples=50, deadline=None)
def test_without_transactions_nothing_is_promoted(control: Arm, share: float, paired: Paired | None) -> None:
    assert judge(Evidence(control, Arm(), share, paired), RULES).verdict is not Verdict.PROMOTE
    nothing_compared = judge(Evidence(Arm(), control, share, paired), RULES)
    assert nothing_compared.verdict is not Verdict.PROMOTE


# --- Statistics -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", [JEFFREYS, Prior(0.01, 20.0), Prior(0.1, 50.0)])
@pytest.mark.parametrize(("successes", "trials"), [(0, 500), (3, 1_000), (450, 900), (1_000, 1_000), (2, 2)])
def test_an_end_is_where_the_mixture_reaches_one_over_the_level(
    prior: Prior, successes: int, trials: int
) -> None:
    low, high = interval(np.array([float(successes)]), np.array([float(trials)]), prior, 0.003, 0.01)
    one, other = prior.shape
    mixture = betaln(successes + one, trials - successes + other) - betaln(one, other)

    def excess(proportion: float, level: float) -> float:
        likelihood = xlogy(successes, proportion) + xlog1py(trials - successes, -proportion)
        return float(mixture - likelihood + np.log(level))

    observed = min(max(successes / trials, 1e-12), 1 - 1e-12)
    if successes:
        assert low[0] == pytest.approx(brentq(excess, 1e-15, observed, args=(0.003,), xtol=1e-12), abs=1e-6)
    else:
        assert low[0] == 0
    if successes < trials:
        end = brentq(excess, observed, 1 - 1e-15, args=(0.01,), xtol=1e-12)
        assert high[0] == pytest.approx(end, abs=1e-6)
    else:
        assert high[0] == 1


@pytest.mark.parametrize("rate", [0.01, 0.2])
def test_looking_after_every_trial_does_not_raise_the_false_alarm_rate(rate: float) -> None:
    """Of 2,000 sequences of 600 trials, those in which an end ever misses the truth."""
    paths, trials, level = 2_000, 600, 0.05
    source = np.random.default_rng(5)
    successes = np.zeros(paths)
    missed = np.zeros((2, paths), dtype=bool)
    for number in range(1, trials + 1):
        successes += source.random(paths) < rate
        low, high = interval(successes, np.full(paths, float(number)), Prior(rate, 20.0), level, level)
        missed |= np.array([low > rate, high < rate])
    allowed = level + 3 * (level / paths) ** 0.5
    assert missed.mean(axis=1).max() <= allowed
    # A fixed-sample interval of the same level would miss several times as often.
    assert missed[0].mean() > level / 20


def test_the_paired_interval_agrees_with_a_published_one() -> None:
    """Fagerland, Lydersen and Laake 2014, airway hyper-responsiveness: 1 and 7 of 21 pairs differ."""
    low, high = difference_interval(np.array([1.0]), np.array([7.0]), np.array([21.0]), 1.959964)
    assert (low[0], high[0]) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize(
    ("first", "second", "pairs", "difference"), [(12, 2, 50, 0.1), (2, 12, 50, 0.1), (15, 15, 1_200, 0.02)]
)
def test_the_score_uses_the_restricted_maximum(
    first: int, second: int, pairs: int, difference: float
) -> None:
    def likelihood(second_share: float) -> float:
        shares = second_share + difference, second_share, 1 - 2 * second_share - difference
        counts = first, second, pairs - first - second
        return -float(np.sum(xlogy(counts, shares)))

    best = minimize_scalar(
        likelihood, bounds=(1e-12, (1 - difference) / 2), method="bounded", options={"xatol": 1e-12}
    )
    variance = pairs * (2 * best.x + difference * (1 - difference))
    expected = (first - second - pairs * difference) / variance**0.5
    counted, other, of = (np.array([float(value)]) for value in (first, second, pairs))
    computed = score(counted, other, of, np.array([difference]))
    assert computed[0] == pytest.approx(expected, rel=1e-4)


def test_models_that_never_differ_are_known_to_be_alike_from_many_pairs_only() -> None:
    none = np.zeros(3)
    low, high = difference_interval(none, none, np.array([0.0, 100.0, 1_200.0]), 1.959964)
    assert (low[0], high[0]) == (-1, 1)
    assert high[1] == pytest.approx(1.96**2 / (100 + 1.96**2), abs=1e-4)
    assert high[2] < 0.004


# --- Configuration --------------------------------------------------------------------------------------


def test_production_judges_by_the_specified_bounds() -> None:
    release = load_parameters(CONFIG_DIR, "production").release
    assert release.window.total_seconds() == 15 * 60
    assert (release.canary_percent, release.widened_percent) == (10, 50)
    rules = release.judgement
    assert (rules.max_error_rate, rules.max_latency_ms, rules.latency_quantile) == (0.01, 200, 0.95)
    assert (rules.max_recall_drop, rules.max_fpr_rise) == (0.02, 0.005)
    assert rules.max_slow_share == 0.05
    # The file names every rule, with the value that the code has too.
    assert rules == RULES


def test_a_demo_has_shorter_windows_and_the_same_bounds() -> None:
    demo = load_parameters(CONFIG_DIR, "development").release
    assert demo.window < Release().window
    bounds = [name for name in JudgementRules.model_fields if name.startswith("max_")]
    assert {name: getattr(demo.judgement, name) for name in bounds} == {
        name: getattr(RULES, name) for name in bounds
    }


def test_the_second_stage_must_be_the_larger_one() -> None:
    with pytest.raises(ValueError, match="widened_percent must be more than canary_percent"):
        Release(canary_percent=50, widened_percent=10)


# --- Rollouts -------------------------------------------------------------------------------------------


def simulated(cell: rollouts.Cell, scenario: str, decide: rollouts.Judge | None = None) -> dict[str, float]:
    [truth] = rollouts.named(scenario)
    release = Release()
    simulation = rollouts.Simulation(release, rollouts=200)
    judged = decide or partial(rollouts.judge, release)
    return rollouts.simulate(simulation, cell, truth, judged, np.random.default_rng(3)).figures()


def test_where_there_is_evidence_the_judgement_decides() -> None:
    unchanged = simulated(rollouts.SUFFICIENT, "unchanged")
    assert unchanged["promoted"] >= 0.85
    assert unchanged["rolled_back"] <= 0.05
    for bad in rollouts.BAD:
        figures = simulated(rollouts.SUFFICIENT, bad.name)
        assert figures["rolled_back"] >= 0.95, bad.name
        assert figures["promoted"] <= 0.01, bad.name
    assert simulated(rollouts.SUFFICIENT, "errors +10 %")["rolled_back_after"] <= 2


def test_where_there_is_none_it_says_so() -> None:
    assert simulated(rollouts.SPARSE, "unchanged")["inconclusive"] >= 0.95
    assert simulated(rollouts.SPARSE, "errors +2 %")["promoted"] <= 0.01
    assert simulated(rollouts.SPARSE, "recall −5 points")["promoted"] <= 0.01


def test_a_judge_that_does_not_judge_misses_the_aims() -> None:
    assert simulated(rollouts.SUFFICIENT, "errors +10 %", rollouts.always)["promoted"] == 1
    assert simulated(rollouts.SUFFICIENT, "unchanged", rollouts.never)["inconclusive"] == 1


def evidence_of(traffic: TrafficTable, history: PairedTable, row: int) -> Evidence:
    """One row of the arrays."""

    def one(arms: ArmTable) -> Arm:
        counts = {
            name: int(getattr(arms, name)[row]) for name in ("calls", "errors", "slow", "rows", "flagged")
        }
        return Arm(**counts, scores=tuple(map(int, arms.scores[row])))

    columns = {field.name: int(getattr(history, field.name)[row]) for field in fields(history)}
    paired = Paired(both=0, false_both=0, **columns)
    return Evidence(one(traffic.control), one(traffic.canary), float(traffic.share[row]), paired)


def test_the_benchmark_simulates_the_judgement_itself() -> None:
    """The same counts give the same verdict, one by one and as arrays."""
    release, source = Release(), np.random.default_rng(11)
    cell = rollouts.Cell(10, 0.05)
    for scenario in rollouts.SCENARIOS:
        traffic = rollouts.draw_traffic(cell, scenario, 0.5, source, seconds=600, n=5)
        history = rollouts.draw_paired(cell, scenario, 5, source)
        codes = rollouts.judge(release, traffic, paired_findings(history, release.judgement))
        for row, code in enumerate(codes):
            one = judge(evidence_of(traffic, history, row), release.judgement)
            assert (
                one.verdict is {0: Verdict.INCONCLUSIVE, 1: Verdict.PROMOTE, 2: Verdict.ROLL_BACK}[int(code)]
            )
