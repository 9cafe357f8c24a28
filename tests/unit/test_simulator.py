"""The simulator: reproducible, one distribution, and an optimum that is really one."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from config.parameters import read_yaml
from config.settings import CONFIG_DIR
from fraud_core.contract import Contract
from fraud_core.features import feature_matrix
from fraud_core.gate import GatePolicy, evaluate
from fraud_core.metrics import curve
from fraud_core.quantise import quantise
from fraud_producer.drift import drifted
from fraud_producer.optimum import Optimum, compute, log_likelihood_ratio
from fraud_producer.population import ULB_OVERLAP, Population, population
from fraud_producer.simulator import Simulator, draw, seconds_of_year
from tests.support.later import Later

stats = Later("scipy.stats")

CREDITCARD = Contract.from_mapping(read_yaml(CONFIG_DIR / "contracts" / "creditcard.yaml"))
SPECIFICATION = GatePolicy(min_frauds=1000, min_recall=0.95, max_fpr=0.02, min_f1=0.85)
MIDNIGHT = datetime(2026, 5, 4, tzinfo=UTC)
SEED = 20250101


@pytest.fixture(scope="module")
def default() -> Population:
    return population(SEED, 0.05, 0.02)


@pytest.fixture(scope="module")
def optimum(default: Population) -> Optimum:
    return compute(default, SPECIFICATION)


def simulator(of: Population, delay: timedelta = timedelta(days=7)) -> Simulator:
    return Simulator(CREDITCARD, of, delay)


def gate(figures: Optimum) -> bool:
    metrics = {"recall": figures.recall, "fpr": figures.fpr, "f1": figures.f1}
    return evaluate("specification", SPECIFICATION, metrics, frauds=10_000).passed


def test_the_same_run_makes_the_same_transactions(default: Population) -> None:
    moments = [MIDNIGHT + timedelta(seconds=n) for n in range(50)]
    first, again = (simulator(default).at("run", moments) for _ in range(2))
    assert first.batch.ids == again.batch.ids
    assert first.due == again.due
    assert all(np.array_equal(first.batch.columns[n], again.batch.columns[n]) for n in first.batch.columns)
    other = simulator(default).at("another run", moments)
    assert not set(other.batch.ids) & set(first.batch.ids)
    assert not np.array_equal(other.batch.columns["v1"], first.batch.columns["v1"])


def test_a_longer_run_begins_with_the_shorter_one(default: Population) -> None:
    short, long = draw(default, "run", 20), draw(default, "run", 500)
    assert np.array_equal(long.values[:20], short.values)
    assert np.array_equal(long.labels[:20], short.labels)
    assert np.array_equal(long.seconds[:20], short.seconds)


def test_records_are_in_the_kaggle_format(default: Population) -> None:
    transactions = simulator(default).day("run", MIDNIGHT, 2000)
    columns = transactions.batch.columns
    assert set(columns) == {field.name for field in CREDITCARD.inputs}
    for field in CREDITCARD.inputs:
        assert np.array_equal(columns[field.name], quantise(columns[field.name], field.scale))
        assert np.abs(columns[field.name]).max() < field.limit
    assert columns["amount"].min() >= 0
    assert len(set(transactions.batch.ids)) == 2000
    assert min(transactions.batch.event_times) >= MIDNIGHT
    assert max(transactions.batch.event_times) < MIDNIGHT + timedelta(days=1)
    start_of_year = datetime(2026, 1, 1, tzinfo=UTC)
    elapsed = [(moment - start_of_year).total_seconds() for moment in transactions.batch.event_times]
    assert np.allclose(columns["time"], elapsed, atol=0.006)
    assert feature_matrix(CREDITCARD, transactions.batch).shape == (2000, 30)


def test_the_clock_starts_anew_each_year() -> None:
    assert seconds_of_year(datetime(2027, 1, 1, 0, 0, 1, tzinfo=UTC)) == 1.0
    assert seconds_of_year(datetime(2028, 12, 31, 23, 59, 59, tzinfo=UTC)) < 1e8


def test_two_runs_draw_from_one_distribution(default: Population) -> None:
    first, second = draw(default, "a", 20_000), draw(default, "b", 20_000)
    values = [
        stats.ks_2samp(first.values[:, column], second.values[:, column]).pvalue
        for column in range(first.values.shape[1])
    ]
    values.append(stats.ks_2samp(first.seconds, second.seconds).pvalue)
    assert min(values) > 0.01 / len(values), "Bonferroni"
    assert abs(first.labels.mean() - 0.05) < 0.007
    assert abs(second.labels.mean() - 0.05) < 0.007


def test_another_population_is_told_apart(default: Population) -> None:
    """The check above can fail."""
    shifted = draw(drifted(default, ["feature-shift=0.3"]), "b", 20_000)
    first = draw(default, "a", 20_000)
    assert min(stats.ks_2samp(first.values[:, c], shifted.values[:, c]).pvalue for c in range(28)) < 1e-6


@pytest.mark.parametrize("hour", [3, 12, 19])
def test_the_fraud_rate_is_the_same_at_every_hour(default: Population, hour: int) -> None:
    labels = draw(default, "r", 40_000, np.full(40_000, hour * 3600.0 + 5)).labels
    assert abs(labels.mean() - 0.05) < 0.005


def test_the_hour_says_which_pattern_occurs(default: Population) -> None:
    shares = default.pattern_shares_by_hour()
    assert np.allclose(shares.sum(axis=1), 1)
    assert np.abs(shares[3] - shares[15]).max() > 0.2
    marginal = np.array(default.legitimate.hours)
    by_pattern = np.array([p.hours for p in default.patterns])
    assert np.allclose(np.array(default.shares) @ by_pattern, marginal, atol=1e-6)


def test_labels_are_due_around_the_delay(default: Population) -> None:
    transactions = simulator(default, timedelta(hours=10)).day("run", MIDNIGHT, 3000)
    delays = [
        (due - at) / timedelta(hours=1)
        for due, at in zip(transactions.due, transactions.batch.event_times, strict=True)
    ]
    assert min(delays) > 0
    assert 9.5 < float(np.median(delays)) < 10.5


def test_the_densities_are_those_of_the_sample(default: Population) -> None:
    """E[p1/p0] under p0 is 1 and E[p0/p1] under p1 is 1, if sampler and density agree."""
    drawn = draw(replace(default, fraud_rate=0.5, overlap=0.3), "check", 200_000)
    mixed = replace(default, overlap=0.3)
    ratio = np.exp(log_likelihood_ratio(mixed, drawn.values, drawn.seconds))
    assert abs(ratio[drawn.labels == 0].mean() - 1) < 0.02
    assert abs((1 / ratio[drawn.labels == 1]).mean() - 1) < 0.02


def test_the_default_optimum_is_what_was_asked_for(optimum: Optimum) -> None:
    assert 0.975 <= optimum.recall <= 0.985
    assert 0.0025 <= optimum.fpr <= 0.0035
    assert optimum.f1 > 0.95
    assert optimum.reachable
    assert gate(optimum)
    assert Optimum.from_mapping(optimum.to_mapping()) == optimum


def test_the_optimum_holds_on_other_draws(default: Population, optimum: Optimum) -> None:
    drawn = draw(default, "fresh", 200_000)
    ratio = log_likelihood_ratio(default, drawn.values, drawn.seconds)
    flagged = ratio >= np.log(optimum.threshold)
    frauds = drawn.labels == 1
    assert abs(flagged[frauds].mean() - optimum.recall) < 0.005
    assert abs(flagged[~frauds].mean() - optimum.fpr) < 0.0008


def test_no_simple_score_beats_the_likelihood_ratio(default: Population) -> None:
    drawn = draw(default, "fresh", 60_000)
    best = curve(drawn.labels, log_likelihood_ratio(default, drawn.values, drawn.seconds))
    # The nearest centre, weighted as a linear discriminant: good, but not optimal.
    centre = np.array(default.shares) @ np.array([p.mean for p in default.patterns])
    linear = curve(drawn.labels, drawn.values @ (centre / np.array(default.legitimate.scale) ** 2))
    at_one_percent = [float(c.recall[np.searchsorted(c.fpr, 0.01) - 1]) for c in (best, linear)]
    assert at_one_percent[0] > at_one_percent[1] + 0.02


def test_at_the_difficulty_of_real_data_the_gate_is_out_of_reach() -> None:
    hard = compute(population(SEED, 0.05, ULB_OVERLAP), SPECIFICATION, sample=150_000)
    assert 0.87 <= hard.recall <= 0.90
    assert 0.015 <= hard.fpr <= 0.019
    assert not hard.reachable
    assert not gate(hard)


def test_the_optimum_is_quick(default: Population) -> None:
    spent = []
    for _ in range(3):  # a busy machine may slow one down
        started = time.process_time()
        compute(default, SPECIFICATION)
        spent.append(time.process_time() - started)
        if spent[-1] < 2:
            return
    raise AssertionError(f"took {spent} CPU seconds")


def test_another_seed_is_another_population_of_the_same_difficulty(optimum: Optimum) -> None:
    other = compute(population(SEED + 1, 0.05, 0.02), SPECIFICATION, sample=150_000)
    assert other.population != optimum.population
    assert abs(other.recall - optimum.recall) < 0.005
    assert abs(other.fpr - optimum.fpr) < 0.001


def test_the_overlap_raises_the_difficulty(optimum: Optimum) -> None:
    harder = compute(population(SEED, 0.05, 0.06), SPECIFICATION, sample=100_000)
    easier = compute(population(SEED, 0.05, 0.0), SPECIFICATION, sample=100_000)
    assert harder.recall < optimum.recall < easier.recall
    assert harder.fpr > optimum.fpr > easier.fpr
    assert easier.recall < 1, "even the cores are not perfectly separable"


class TestDrift:
    def test_nothing_asked_changes_nothing(self, default: Population) -> None:
        assert drifted(default, []) == default
        zero = drifted(default, ["amount-scale=0", "feature-shift=0", "new-pattern=0", "fraud-rate=0"])
        assert zero == default

    def test_amount_scale_multiplies_amounts(self, default: Population) -> None:
        doubled = draw(drifted(default, ["amount-scale=1.0"]), "r", 5000)
        plain = draw(default, "r", 5000)
        assert np.allclose(np.exp(doubled.values[:, 28] - plain.values[:, 28]), 2.0)

    def test_feature_shift_moves_six_features(self, default: Population) -> None:
        moved = draw(drifted(default, ["feature-shift=1.5"]), "r", 5000).values.mean(axis=0)
        plain = draw(default, "r", 5000).values.mean(axis=0)
        steps = np.abs(moved - plain) / np.array(default.legitimate.scale)
        assert np.sort(steps)[-6:] == pytest.approx(1.5)
        assert np.count_nonzero(steps > 1e-9) == 6

    def test_a_new_pattern_is_found_by_no_old_rule(self, default: Population) -> None:
        changed = drifted(default, ["new-pattern=0.4"])
        drawn = draw(changed, "r", 60_000)
        frauds = drawn.labels == 1
        old = log_likelihood_ratio(default, drawn.values, drawn.seconds)[frauds] > np.log(10)
        new = log_likelihood_ratio(changed, drawn.values, drawn.seconds)[frauds] > np.log(10)
        assert new.mean() > 0.95
        assert old.mean() < 0.85, "the optimum follows the drift; a model made before it does not"

    def test_fraud_rate_is_scaled(self, default: Population) -> None:
        assert abs(draw(drifted(default, ["fraud-rate=1.0"]), "r", 40_000).labels.mean() - 0.10) < 0.006

    def test_the_optimum_follows(self, default: Population, optimum: Optimum) -> None:
        changed = drifted(default, ["feature-shift=2", "amount-scale=1", "fraud-rate=1"])
        figures = compute(changed, SPECIFICATION, sample=100_000)
        assert figures.population != optimum.population
        assert figures.fraud_rate == pytest.approx(0.1)
        assert figures.recall == pytest.approx(optimum.recall, abs=0.006), "both classes moved alike"
        assert figures.precision > optimum.precision

    @pytest.mark.parametrize(
        "option",
        [
            "weather=1",
            "amount-scale",
            "amount-scale=x",
            "amount-scale=-1",
            "new-pattern=1",
            "fraud-rate=30",
            "feature-shift=nan",
            "fraud-rate=-1",
        ],
    )
    def test_a_wrong_option_is_refused(self, default: Population, option: str) -> None:
        with pytest.raises(ValueError, match=option.partition("=")[0]):
            drifted(default, [option])


@pytest.mark.parametrize(("rate", "overlap"), [(0.0, 0.02), (1.0, 0.02), (0.05, -0.1), (0.05, 0.5)])
def test_impossible_parameters_are_refused(rate: float, overlap: float) -> None:
    with pytest.raises(ValueError, match="must"):
        population(SEED, rate, overlap)
