"""Releases as the API leaves them in its database: one that was rolled back, and one in traffic."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, cast

import numpy as np

from config.release import Release as ReleaseParameters
from fraud_adapters.postgres.deployments import open_deployment
from fraud_adapters.postgres.release_counts import CANARY, CONTROL
from fraud_adapters.postgres.session import Cursor, Session
from fraud_api.model_holder import ModelHolder, ModelSource
from fraud_api.releases.counts import Counts, Stage, store_sums
from fraud_api.releases.releases import Evaluation, Releases
from fraud_api.releases.request_metrics import NoMetrics
from fraud_core.canary.evidence import Paired
from fraud_core.canary.lifecycle import Action, Mode
from tests.support.stored_rows import CREDITCARD, Database, batch, predictions

PERCENT: Final = 10
CALLS: Final = 5  # a minute and arm
PAIRED: Final = Paired(3000, 2850, 20, 25, 20000, 100, 10, 10)


def store_releases(database: Database, name: str = CREDITCARD.registered_model) -> Evaluation:
    """Version 6 was rolled back, version 7 serves a tenth of the cards; returns what is said of that one."""
    with closing(Session(database.url("api"), "test")) as session:
        # Neither of them is asked by what follows: no version is loaded, no alias moved.
        nowhere = cast(ModelHolder, None), cast(ModelSource, None)
        releases = Releases(name, session, *nowhere, ReleaseParameters(), requests=NoMetrics())
        refused = _in_traffic(session, releases, "6", minutes=[4, 3])
        releases.evaluate("rollout", refused)
        releases.end("api", refused, Action.ROLL_BACK, "Roll back: the error rate is 20.00%.")
        return releases.evaluate("rollout", _in_traffic(session, releases, "7", minutes=[2, 1, 0]))


def _in_traffic(session: Session, releases: Releases, version: str, minutes: Sequence[int]) -> int:
    """A release that passed its validation, and served so many minutes ago."""
    opened = session.run(
        lambda cursor: open_deployment(
            cursor,
            name=releases.name,
            version=version,
            previous="5",
            mode=Mode.CANARY,
            salt="salt",
            run_id=None,
        )
    )
    assert opened is not None
    releases.validated("rollout", opened, True, "All checks passed.", {"smoke": "passed"}, PAIRED)
    releases.traffic("rollout", opened, PERCENT)
    for ago in minutes:
        counts = _counts(Stage(opened, PERCENT), datetime.now(UTC) - timedelta(minutes=ago), version)
        session.run(partial(_store, counts))
    return opened


def _store(counts: Counts, cursor: Cursor) -> None:
    store_sums(cursor, counts.replica, counts.unstored())


def _counts(stage: Stage, moment: datetime, version: str) -> Counts:
    """What a replica counts in a minute; one call of the canary fails."""
    counts = Counts(slow_seconds=0.2, clock=lambda: moment)
    for arm, rows in ((CONTROL, 90), (CANARY, 10)):
        scores = np.linspace(0.01, 0.95, rows)
        decided = replace(
            predictions(CREDITCARD, batch(rows)),
            scores=scores,
            predicted=scores >= 0.9,
            model_version=version,
        )
        for call in range(CALLS):
            counts.scored(stage, arm, decided, 0.3 if call == 0 else 0.01)
    counts.failed(stage, CANARY, 10, 0.5)
    return counts
