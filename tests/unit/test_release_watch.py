"""The watch over a release: whom it serves, when it stops doing so, and what it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, cast

import pytest

from fraud_adapters.models.registry import RegistryFailure
from fraud_adapters.models.version_files import ModelRefused
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_adapters.postgres.deployments import Deployment
from fraud_adapters.postgres.release_counts import CANARY
from fraud_api.metrics import Metrics
from fraud_api.model_holder import Serving
from fraud_api.releases import watch as watch_module
from fraud_api.releases.counts import Counts, Stage
from fraud_api.releases.releases import ACTOR, Releases
from fraud_api.releases.watch import BLIND_SECONDS, ReleaseWatch
from fraud_core.canary.lifecycle import Action, Mode, State

NOW: Final = datetime(2026, 5, 1, tzinfo=UTC)
RELEASE: Final = Deployment(
    deployment_id=3,
    name="fraud-wire",
    version="7",
    previous_version="6",
    mode=Mode.CANARY,
    state=State.CANARY,
    traffic_percent=10,
    salt="salt",
    run_id=None,
    reason=None,
    started_at=NOW,
    stage_started_at=NOW,
    extensions=0,
    ended_at=None,
    findings=None,
    paired=None,
    read_at=NOW,
)


class Installation:
    """A database with a release, a registry, and a clock; each can fail."""

    def __init__(self) -> None:
        self.name = RELEASE.name
        self.running: Deployment | None = RELEASE
        self.database_error: Exception | None = None
        self.load_error: Exception | None = None
        self.evidence_against: str | None = None
        self.abandoned = False
        self.seconds = 1000.0
        self.loaded: list[str] = []
        self.ended: list[tuple[str, int, Action, str]] = []
        self.added = 0  # calls that arrived in the database
        self.metrics = Metrics()
        self.counts = Counts(0.2, lambda: NOW)

    # As a session.
    def run(self, work: Callable[[Any], Any]) -> Any:
        if self.database_error is not None:
            raise self.database_error
        return work(self)

    # As the holder of models.
    def load(self, version: str) -> Serving:
        if self.load_error is not None:
            raise self.load_error
        self.loaded.append(version)
        return Serving(version, cast(Any, None), cast(Any, None))

    # As the releases.
    def judge_early(self, release: Deployment) -> str | None:
        return self.evidence_against

    def is_abandoned(self, release: Deployment) -> bool:
        return self.abandoned

    def end(self, actor: str, deployment_id: int, action: Action, reason: str) -> None:
        self.ended.append((actor, deployment_id, action, reason))
        self.running = None

    def percent(self) -> float | None:
        return self.metrics.registry.get_sample_value("fraud_api_canary_percent")


@pytest.fixture
def installation(monkeypatch: pytest.MonkeyPatch) -> Installation:
    made = Installation()

    def store_sums(_: Any, replica: str, sums: dict[Any, Any]) -> None:
        assert replica == made.counts.replica
        made.added += sum(arm.calls for arm in sums.values())

    monkeypatch.setattr(watch_module, "monotonic", lambda: made.seconds)
    monkeypatch.setattr(watch_module, "running_deployment", lambda _cursor, _name: made.running)
    monkeypatch.setattr(watch_module, "store_sums", store_sums)
    return made


@pytest.fixture
def watch(installation: Installation) -> ReleaseWatch:
    return ReleaseWatch(
        cast(Releases, installation),
        cast(Any, installation),
        installation.load,
        installation.counts,
        installation.metrics,
    )


def test_a_release_in_traffic_is_served_with_its_share(
    watch: ReleaseWatch, installation: Installation
) -> None:
    watch.poll()
    assert watch.canary is not None
    assert (watch.canary.serving.version, watch.canary.salt, watch.canary.share) == ("7", "salt", 0.1)
    assert installation.percent() == 10
    same = watch.canary
    watch.poll()
    assert watch.canary is same
    installation.running = replace(RELEASE, state=State.WIDENED, traffic_percent=50)
    watch.poll()
    assert watch.canary.stage == Stage(3, 50)
    assert installation.loaded == ["7"], "a larger share needs no other model"


def test_a_release_that_has_ended_is_not_served(watch: ReleaseWatch, installation: Installation) -> None:
    watch.poll()
    installation.running = None
    watch.poll()
    assert (watch.canary, installation.percent()) == (None, 0)


@pytest.mark.parametrize("state", [State.VALIDATING, State.VALIDATED])
def test_a_release_before_its_traffic_is_not_served(
    watch: ReleaseWatch, installation: Installation, state: State
) -> None:
    installation.running = replace(RELEASE, state=state, traffic_percent=0)
    watch.poll()
    assert (watch.canary, installation.loaded, installation.ended) == (None, [], [])


def test_who_does_not_see_the_database_for_long_stops_the_canary(
    watch: ReleaseWatch, installation: Installation
) -> None:
    """Nobody could take the release back; once the database answers, it goes on."""
    watch.poll()
    installation.database_error = DatabaseUnavailable("The database does not answer.")
    for seconds, served in ((BLIND_SECONDS - 1, True), (0.9, True), (0.2, False), (60, False)):
        installation.seconds += seconds
        watch.poll()
        assert (watch.canary is not None) == served, seconds
    assert installation.percent() == 0
    installation.database_error = None
    watch.poll()
    assert (watch.canary is not None, installation.percent()) == (True, 10)
    assert installation.ended == []


def test_every_answer_of_the_database_starts_the_time_anew(
    watch: ReleaseWatch, installation: Installation
) -> None:
    for _ in range(3):
        installation.database_error = None
        watch.poll()
        installation.seconds += BLIND_SECONDS - 1
        installation.database_error = DatabaseUnavailable("The database does not answer.")
        watch.poll()
        assert watch.canary is not None


@pytest.mark.parametrize(
    "error", [DatabaseUnavailable("The database does not answer."), ArithmeticError("a fault of ours")]
)
def test_what_could_not_be_added_is_added_later(
    watch: ReleaseWatch, installation: Installation, error: Exception
) -> None:
    installation.counts.failed(Stage(3, 10), CANARY, 1, 0.1)
    installation.database_error = error
    if isinstance(error, DatabaseUnavailable):
        watch.poll()
    else:
        with pytest.raises(ArithmeticError):
            watch.poll()
    installation.counts.failed(Stage(3, 10), CANARY, 1, 0.1)
    installation.database_error = None
    watch.poll()
    assert installation.added == 2
    watch.flush()
    assert installation.added == 2


@pytest.mark.parametrize(
    "error",
    [
        ModelRefused("The files do not match."),
        RegistryFailure("MLflow does not answer."),
        OSError("No space left on device"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_version_that_cannot_be_loaded_gets_no_traffic(
    watch: ReleaseWatch,
    installation: Installation,
    error: Exception,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    installation.load_error = error
    for _ in range(3):
        watch.poll()
        assert (watch.canary, installation.percent()) == (None, 0)
    # Printed, unless another test of the process has configured the log.
    said = capsys.readouterr().out + caplog.text
    assert said.count("canary_not_loaded") == 1, "the same problem is logged once"
    installation.load_error = None
    watch.poll()
    assert watch.canary is not None


def test_evidence_against_it_ends_a_release_at_once(watch: ReleaseWatch, installation: Installation) -> None:
    watch.poll()
    installation.evidence_against = "Roll back: the error rate is 12.00%."
    watch.poll()
    assert installation.ended == [(ACTOR, 3, Action.ROLL_BACK, "Roll back: the error rate is 12.00%.")]
    assert (watch.canary, installation.percent()) == (None, 0)


@pytest.mark.parametrize("state", [State.VALIDATING, State.CANARY])
def test_a_release_that_nobody_drives_is_withdrawn(
    watch: ReleaseWatch, installation: Installation, state: State
) -> None:
    installation.running = replace(RELEASE, state=state)
    installation.abandoned = True
    watch.poll()
    [(actor, number, action, reason)] = installation.ended
    assert (actor, number, action) == (ACTOR, 3, Action.WITHDRAW)
    assert reason.startswith("Nobody has driven the release on")
    assert watch.canary is None
