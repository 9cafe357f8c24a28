"""The pure checks of data quality: bounds, small windows, odd features, and what a run comes to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from fraud_core.profile import Profile, make_profile
from fraud_core.quality import columns, flow, pipeline, stream
from fraud_core.quality.checks import Check, Limit, Status, insufficient, share_status
from fraud_core.quality.columns import WindowTally
from fraud_core.quality.report import alert_of
from fraud_core.quality.rules import QualityRules

RULES = QualityRules()
NOW = datetime(2026, 1, 10, 12, tzinfo=UTC)
NAMES = ("a", "b", "constant", "flag", "empty")


def rows(n: int, seed: int) -> NDArray[np.float32]:
    """Two features that rise together, a constant, a flag, and one that is never there."""
    source = np.random.default_rng(seed)
    first = source.normal(size=n)
    parts = [first, first + 0.1 * source.normal(size=n), np.full(n, 7.0), source.random(n) < 0.3]
    return np.column_stack([*parts, np.full(n, np.nan)]).astype(np.float32)


@pytest.fixture(scope="module")
def profile() -> Profile:
    labels = (np.arange(4000) % 20 == 0).astype(np.int8)
    return make_profile(
        "c/1",
        NAMES,
        rows(4000, 1),
        labels,
        held_out_labels=labels,
        held_out_scores=np.where(labels, 0.9, 0.1),
        threshold=0.5,
    )


def tally_of(profile: Profile, vectors: NDArray[np.float32]) -> WindowTally:
    tally = WindowTally(profile)
    for start in range(0, len(vectors), 300):
        tally.add(vectors[start : start + 300])
    return tally


def outcomes(tally: WindowTally) -> dict[str, Status]:
    checks = (
        columns.missing_values(tally, RULES),
        columns.outliers(tally, RULES),
        columns.distribution_shift(tally, RULES, 0.3),
        columns.anomalies(tally, RULES),
    )
    return {check.name: check.status for check in checks}


def test_rows_like_the_reference_pass_also_with_constant_and_empty_features(profile: Profile) -> None:
    assert set(outcomes(tally_of(profile, rows(2000, 2))).values()) == {Status.PASSED}
    assert Profile.from_json(profile.to_json()) == profile


def test_each_change_fails_its_check(profile: Profile) -> None:
    empty, torn, odd, constant = (rows(2000, 2) for _ in range(4))
    empty[:, 0] = np.nan
    torn[:200, 1] = -torn[:200, 1]  # each value is usual, the pair is not
    odd[:300, 3] = 5
    constant[:, 2] = 8
    assert outcomes(tally_of(profile, empty))["missing_values"] is Status.FAILED
    assert outcomes(tally_of(profile, torn)) == {
        "missing_values": Status.PASSED,
        "outliers": Status.PASSED,
        "distribution_shift": Status.PASSED,
        "anomalies": Status.FAILED,
    }
    assert outcomes(tally_of(profile, odd))["outliers"] is Status.FAILED
    assert outcomes(tally_of(profile, constant))["outliers"] is Status.FAILED


def test_an_older_profile_allows_more_outliers_and_has_no_anomalies(profile: Profile) -> None:
    features = tuple(one.model_copy(update={"outliers": None}) for one in profile.features)
    older = profile.model_copy(update={"features": features, "multivariate": None})
    tally = tally_of(older, rows(2000, 2))
    assert columns.outliers(tally, RULES).status is Status.PASSED
    anomalies = columns.anomalies(tally, RULES)
    assert (anomalies.status, "train a new version" in anomalies.sentence) == (Status.INSUFFICIENT, True)


@pytest.mark.parametrize("count", [0, 1, 20, 499])
def test_few_rows_are_insufficient(profile: Profile, count: int) -> None:
    assert set(outcomes(tally_of(profile, rows(count, 2))).values()) == {Status.INSUFFICIENT}


def test_repeated_rows_are_counted_across_portions(profile: Profile) -> None:
    vectors = rows(1000, 2)
    vectors[700:800] = vectors[:100]
    assert tally_of(profile, vectors).repeated == 100


def test_a_few_bad_rows_of_few_do_not_fail() -> None:
    limit = Limit(warn=0.01, fail=0.05)
    assert share_status(2, 20, limit) is not Status.FAILED  # a tenth of them
    assert share_status(200, 2000, limit) is Status.FAILED
    assert share_status(0, 0, limit) is Status.PASSED


def arrivals(count: int, earlier: list[int], age_days: int = 30) -> flow.Arrivals:
    return flow.Arrivals(
        now=NOW,
        rows=count,
        earlier=earlier,
        first=NOW - timedelta(days=age_days),
        last=NOW,
        ahead=0,
        late=0,
        delay_p50=1.0,
        delay_p99=2.0,
    )


@pytest.mark.parametrize(
    ("count", "earlier", "status"),
    [
        (0, [100] * 7, Status.FAILED),
        (5, [6, 7, 8], Status.PASSED),  # within chance
        (0, [2, 3, 2], Status.FAILED),  # nothing at all
        (60, [100] * 7, Status.WARNED),
        (40, [100] * 7, Status.FAILED),
        (250, [100] * 7, Status.FAILED),
        (100, [0, 0, 100, 90], Status.INSUFFICIENT),
    ],
)
def test_volume(count: int, earlier: list[int], status: Status) -> None:
    assert flow.volume(arrivals(count, earlier), RULES).status is status


def test_a_new_installation_needs_nothing_but_time() -> None:
    assert flow.volume(arrivals(5, [], age_days=1), RULES).expected
    assert not flow.volume(arrivals(5, []), RULES).expected


def test_a_short_run_varies_and_a_long_one_does_not() -> None:
    def run(longest: float, usual: float, earlier: int = 20) -> Status:
        return pipeline.durations([pipeline.RunDurations("dag", 5, longest, earlier, usual)], RULES).status

    assert run(15, 4) is Status.PASSED  # within a minute
    assert run(70, 4) is Status.FAILED
    assert run(900, 400) is Status.PASSED
    assert run(1300, 400) is Status.FAILED
    assert run(1300, 400, earlier=2) is Status.INSUFFICIENT


def test_a_recreated_topic_is_not_complete() -> None:
    topic = stream.TopicProgress("t", {0: None}, {0: 0}, {0: 10}, 5.0, recreated=True)
    assert topic.lag == 10
    found = stream.completeness(None, 0, 0, topic, "The topic t was created again.")
    assert (found.status, found.severity) == (Status.FAILED, "high")


def test_the_alert_names_the_worst_first() -> None:
    checks = [
        Check("volume", Status.FAILED, "Half."),
        Check("schema", Status.FAILED, "Bad."),
        insufficient("anomalies", "No profile."),
        insufficient("pipeline_durations", "New.", expected=True),
        Check("outliers", Status.WARNED, "Some."),
    ]
    alert = alert_of(checks, {"anomalies": 24, "pipeline_durations": 99}, 24)
    assert (alert.severity, alert.title) == ("high", "Data quality: schema, volume, anomalies")
    assert alert.text.splitlines()[-1] == "anomalies: no verdict for 24 runs in a row. No profile."
    assert alert_of(checks[3:], {"pipeline_durations": 99}, 24).severity == "none"
