"""How the gateway and the replicas of the API share the work while a release over HTTP runs.

The version is on a replica of its own. What follows from the release's state reaches gateway and replicas at
different times, so each change of state is spread over a settling time in three steps: a request that was
mirrored must never meet a replica that decides, and nothing is counted while requests of two stages mix.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from fraud_core.canary.lifecycle import IN_TRAFFIC, JUDGED, State

# Tests reach the replica of the release by this header, as long as it decides nothing.
REPLICA_HEADER: Final = "X-Fraud-Replica"
RELEASE_REPLICA: Final = "release"
# Services of the gateway's own file, which holds the addresses.
CHAMPION_SERVICE: Final = "api@file"
RELEASE_SERVICE: Final = "canary@file"
MIDDLEWARE: Final = "retry@file"
SCORING_RULE: Final = "Method(`POST`) && (Path(`/predict`) || Path(`/predict/batch`))"
_ENTRY_POINT: Final = "web"
_SERVED: Final = JUDGED | {State.VALIDATED}
# Above the routes of the file, which lead to the champion.
_SCORING_PRIORITY: Final = 1000
_TEST_PRIORITY: Final = 2000


@dataclass(frozen=True, slots=True)
class Phase:
    """What a release over HTTP is given now.

    Attributes:
        served: the replica of the release scores with its version.
        decides: what that replica scores is stored as a decision.
        reachable: tests reach it through the gateway.
        mirrored: it gets a copy of each scoring request.
        weight: the share of the scoring requests that it answers, in percent.
        counted: what both arms do belongs to the stage.
    """

    served: bool = False
    decides: bool = False
    reachable: bool = False
    mirrored: bool = False
    weight: int = 0
    counted: bool = False


NO_RELEASE: Final = Phase()


def phase(state: State, percent: int, age: timedelta, settling: timedelta) -> Phase:
    """The phase of a release.

    Args:
        percent: of the requests, in the state's stage.
        age: since the stage began.
        settling: until the change has reached everybody.
    """
    if state not in _SERVED:
        return NO_RELEASE
    first = state == State.CANARY
    return Phase(
        served=True,
        decides=state in IN_TRAFFIC and not (first and age < settling / 3),
        reachable=state == State.VALIDATED,
        mirrored=state == State.SHADOW,
        weight=0 if state not in IN_TRAFFIC or (first and age < settling * 2 / 3) else percent,
        counted=state in JUDGED and age >= settling,
    )


def gateway_document(now: Phase) -> dict[str, Any]:
    """Traefik's dynamic configuration.

    It is never empty: Traefik ignores an empty one, and would keep the weights of a release that has ended.
    """
    routers = {"scoring": _router(SCORING_RULE, "scoring", _SCORING_PRIORITY)}
    if now.reachable:
        rule = f"Header(`{REPLICA_HEADER}`, `{RELEASE_REPLICA}`)"
        routers["release-tests"] = _router(rule, RELEASE_SERVICE, _TEST_PRIORITY)
    return {"http": {"routers": routers, "services": {"scoring": _scoring_service(now)}}}


def _router(rule: str, service: str, priority: int) -> dict[str, Any]:
    return {
        "entryPoints": [_ENTRY_POINT],
        "rule": rule,
        "service": service,
        "priority": priority,
        "middlewares": [MIDDLEWARE],
    }


def _scoring_service(now: Phase) -> dict[str, Any]:
    if now.mirrored:
        mirrors = [{"name": RELEASE_SERVICE, "percent": 100}]
        return {"mirroring": {"service": CHAMPION_SERVICE, "mirrors": mirrors}}
    shares = [{"name": CHAMPION_SERVICE, "weight": 100 - now.weight}]
    if now.weight:
        shares.append({"name": RELEASE_SERVICE, "weight": now.weight})
    # A replica that is not healthy loses its share to the other one.
    return {"weighted": {"services": shares, "healthCheck": {}}}
