"""Consumers killed at every point of their work lose and double nothing; wrong commit orders are detected.

`make proof` runs the same in full; see docs/faults.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.consumers import BOUNDED, KINDS, ConsumerPool, SignalPlan
from tests.faults.feed import MALFORMED, Feed
from tests.faults.kill import campaign, drain
from tests.faults.oracle import judge
from tests.faults.points import AFTER_COMMIT, DEAD_LETTERS_LAST, OFFSET_FIRST, POINTS, RIGHT
from tests.support.killable_servers import KillableServers
from tests.support.streaming_installation import StreamInstallation


def test_kills_lose_and_double_nothing(servers: KillableServers, tmp_path: Path, seed: int) -> None:
    result = campaign(servers, seed=seed, directory=tmp_path, kills=20, transactions=2000)
    assert not result.findings, result.summary()
    assert result.killed == 20
    assert {point for _, point in result.kills} > set(POINTS)


@pytest.mark.parametrize("kinds", [(BOUNDED,), pytest.param(KINDS, marks=pytest.mark.proof)])
def test_the_wrong_commit_order_is_found_out(
    servers: KillableServers, tmp_path: Path, seed: int, kinds: tuple[str, ...]
) -> None:
    """Deterministic: each round of all points kills one consumer between committing position and rows."""
    result = campaign(
        servers,
        seed=seed,
        directory=tmp_path,
        kills=len(kinds) * (len(POINTS) + 1),
        transactions=500,
        order=OFFSET_FIRST,
        kinds=kinds,
    )
    names = {finding.name for finding in result.findings}
    assert {"lost", "without a deciding prediction"} <= names, result.summary()


@pytest.mark.parametrize(
    ("order", "expected"),
    [(RIGHT, set()), (DEAD_LETTERS_LAST, {"bad records that are not on the dead-letter topic"})],
)
def test_a_dead_letter_is_published_before_the_position_passes_it(
    installation: StreamInstallation, feed: Feed, workers: ConsumerPool, order: str, expected: set[str]
) -> None:
    feed.send(5)
    feed.put_bad(MALFORMED[0])
    feed.flush()
    doomed = workers.bounded(installation, signal_plan=SignalPlan(AFTER_COMMIT), commit_order=order)
    doomed.wait()
    assert doomed.killed, doomed.end_of_log()
    drain(installation, workers)
    assert {finding.name for finding in judge(installation, feed)} == expected
