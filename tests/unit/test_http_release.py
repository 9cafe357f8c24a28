"""What gateway and replicas do in each state of a release over HTTP, and while it changes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fraud_core.canary.http_release import NO_RELEASE, Phase, gateway_document, phase
from fraud_core.canary.lifecycle import ENDED, State

SETTLING = timedelta(seconds=6)
SETTLED = timedelta(seconds=7)


@pytest.mark.parametrize(
    ("state", "age", "expected"),
    [
        (State.VALIDATED, 0, Phase(served=True, reachable=True)),
        (State.SHADOW, 1, Phase(served=True, mirrored=True)),
        (State.SHADOW, 7, Phase(served=True, mirrored=True, counted=True)),
        # A request that was mirrored just before must not be decided twice.
        (State.CANARY, 1, Phase(served=True)),
        (State.CANARY, 3, Phase(served=True, decides=True)),
        (State.CANARY, 5, Phase(served=True, decides=True, weight=10)),
        (State.CANARY, 7, Phase(served=True, decides=True, weight=10, counted=True)),
        (State.WIDENED, 1, Phase(served=True, decides=True, weight=10)),
        (State.WIDENED, 7, Phase(served=True, decides=True, weight=10, counted=True)),
        (State.VALIDATING, 7, NO_RELEASE),
    ],
)
def test_a_change_reaches_everybody_in_steps(state: State, age: int, expected: Phase) -> None:
    assert phase(state, 10, timedelta(seconds=age), SETTLING) == expected


@pytest.mark.parametrize("state", sorted(ENDED))
def test_what_has_ended_is_served_nowhere(state: State) -> None:
    assert phase(state, 50, timedelta(0), SETTLING) == NO_RELEASE


@pytest.mark.parametrize("state", sorted(State))
def test_the_gateway_never_splits_what_is_mirrored(state: State) -> None:
    for age in (timedelta(0), timedelta(seconds=3), SETTLED):
        now = phase(state, 10, age, SETTLING)
        assert not (now.mirrored and (now.weight or now.decides))
        assert not now.weight or now.decides


def test_without_a_release_the_document_still_says_who_scores() -> None:
    """Traefik would ignore an empty one and keep the latest shares."""
    document = gateway_document(NO_RELEASE)["http"]
    assert list(document["routers"]) == ["scoring"]
    shares = document["services"]["scoring"]["weighted"]["services"]
    assert shares == [{"name": "api@file", "weight": 100}]


def test_the_document_follows_the_phase() -> None:
    def scoring(now: Phase) -> dict[str, object]:
        service: dict[str, object] = gateway_document(now)["http"]["services"]["scoring"]
        return service

    assert scoring(Phase(mirrored=True)) == {
        "mirroring": {"service": "api@file", "mirrors": [{"name": "canary@file", "percent": 100}]}
    }
    assert scoring(Phase(weight=10)) == {
        "weighted": {
            "services": [{"name": "api@file", "weight": 90}, {"name": "canary@file", "weight": 10}],
            "healthCheck": {},
        }
    }
    routers = gateway_document(Phase(reachable=True))["http"]["routers"]
    assert routers["release-tests"]["service"] == "canary@file"
    assert routers["release-tests"]["priority"] > routers["scoring"]["priority"]
