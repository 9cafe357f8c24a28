"""Replicas and the database are killed while releases run: traffic is served, the state is right."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml

from config.constants import ALIAS_CHAMPION
from config.parameters import read_yaml
from config.settings import CONFIG_DIR
from fraud_adapters.models.registry import Registry
from fraud_core.canary.assignment import positions
from tests.support.api_server import PLAIN, ApiServer, ForkedApi, creditcard
from tests.support.killable_servers import KillableServers, Server
from tests.support.publisher import Publisher
from tests.support.servers import cloned_database
from tests.support.small_model import make_model
from tests.support.stored_rows import CREDITCARD, run

IDS = [f"fixed-{number}" for number in range(200)]
FOLLOW_SECONDS = 3.0  # within which every replica follows a change, or is ready again
BODY = {"transactions": [creditcard(one, seed=number) for number, one in enumerate(IDS)]}
PAIRED = {
    "frauds": 3000,
    "both": 2900,
    "champion_only": 10,
    "candidate_only": 15,
    "legitimate": 20_000,
    "false_both": 100,
    "false_champion_only": 5,
    "false_candidate_only": 5,
}


@dataclass
class Round:
    """One answer about all ids: when, and which of them the second version served."""

    begun: float
    ended: float
    versions: list[str]


@dataclass
class World:
    replicas: list[ApiServer]
    publisher: Publisher
    postgres: Server
    owner: str
    source: random.Random
    token: str = ""
    admin: str = ""
    done: threading.Event = field(default_factory=threading.Event)
    rounds: list[Round] = field(default_factory=list)
    unserved: list[str] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    disturbed: list[tuple[float, float]] = field(default_factory=list)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """As the admin, to any replica that answers; repeated until one does."""
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            replica = self.source.choice(self.replicas)
            with suppress(httpx.TransportError):
                headers = {"Authorization": f"Bearer {self.admin}"}
                answer = httpx.request(
                    method, replica.url + path, headers=headers, timeout=20, **PLAIN, **options
                )
                if answer.status_code < 500:
                    return answer
            time.sleep(0.1)
        raise AssertionError(f"no replica answers {method} {path}")

    def serve(self) -> None:
        """A client that asks one replica, and the other where the first does not answer."""
        headers = {"Authorization": f"Bearer {self.token}"}
        while not self.done.is_set():
            begun, problems = time.monotonic(), []
            for replica in self.source.sample(self.replicas, 2):
                try:
                    answer = httpx.post(
                        f"{replica.url}/predict/batch", json=BODY, headers=headers, timeout=20, **PLAIN
                    )
                except httpx.TransportError as error:
                    problems.append(type(error).__name__)
                    continue
                if answer.status_code == 200:
                    found = [one["model_version"] for one in answer.json()["predictions"]]
                    self.rounds.append(Round(begun, time.monotonic(), found))
                    break
                problems.append(f"{answer.status_code} {answer.text[:200]}")
            else:
                self.unserved.append("; ".join(problems))
            time.sleep(0.03)

    def disturb(self) -> None:
        """Kill one part at a time, and start it again."""
        while not self.done.wait(self.source.uniform(0.5, 3)):
            part = self.source.choice(["replica 1", "replica 2", "postgres"])
            begun = time.monotonic()
            if part == "postgres":
                self.postgres.restart(self.source.choice([signal.SIGKILL, signal.SIGQUIT]))
            else:
                replica = self.replicas[int(part[-1]) - 1]
                assert replica.process is not None
                replica.process.kill()
                replica.process.wait(30)
                replica.start()
            self.disturbed.append((begun, time.monotonic()))
            self.kills[part] += 1


@pytest.fixture
def world(servers: KillableServers, mlflow_uri: str, tmp_path: Path, seed: int) -> Iterator[World]:
    content = read_yaml(CONFIG_DIR / "config.yaml")
    content["release"] |= {"window": "PT3S", "max_extensions": 2, "abandoned_after": "PT20S"}
    content["release"]["judgement"] |= {
        "min_calls": 5,
        "min_rows": 60,
        "max_error_rate": 0.9,
        "latency_quantile": 0.5,
        "max_score_distance": 0.9,
        "max_alert_rate_change": 5,
    }
    # The same few ids again and again are not independent: what is tried here is not the judgement.
    content["release"]["judgement"]["sample_ratio"]["tolerance"] = 0.9
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with cloned_database(servers.template, "release_kills") as database:
        owner = database.url("owner")
        publisher = Publisher(mlflow_uri, owner, tmp_path / "versions")
        publisher.promote(publisher.version(make=partial(make_model, contract=CREDITCARD)))
        extra = {"MLFLOW_TRACKING_URI": mlflow_uri, "FRAUD_CONFIG_DIR": str(tmp_path)}
        replicas: list[ApiServer] = [
            ForkedApi(database.url("api"), tmp_path / f"models-{n}", tmp_path / f"api-{n}.log", extra=extra)
            for n in (1, 2)
        ]
        for replica in replicas:
            replica.start()
        place = World(replicas, publisher, servers.postgres, owner, random.Random(seed))
        place.token, place.admin = replicas[0].token(), replicas[0].token("admin")
        yield place
        for replica in replicas:
            replica.stop()


@pytest.mark.proof
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("releases", [int(os.environ.get("RELEASES", "50"))])
def test_releases_survive_the_death_of_everything_around_them(world: World, releases: int) -> None:
    threads = [threading.Thread(target=world.serve), threading.Thread(target=world.disturb)]
    outcomes: list[tuple[int, str, str, list[tuple[float, str]]]] = []
    for thread in threads:
        thread.start()
    try:
        for number in range(releases):
            outcomes.append(_release(world, number))
    finally:
        world.done.set()
        for thread in threads:
            thread.join()
    assert world.unserved == []
    assert sum(world.kills.values()) >= releases
    ended = run(world.owner, "SELECT state, traffic_percent = 0, ended_at IS NULL FROM deployments")
    assert len(ended) == releases
    assert {(without_share, runs) for _, without_share, runs in ended} == {(True, False)}
    assert Counter(state for state, _, _ in ended) == Counter(state for _, _, state, _ in outcomes)
    promoted = [version for _, version, state, _ in outcomes if state == "promoted"]
    assert promoted, "no release came to its end"
    assert _champion(world) == promoted[-1]
    assert run(world.owner, "SELECT * FROM audit_verify()") == []
    moved = [_moved_back(world, *outcome) for outcome in outcomes]
    assert sum(moved) == 0
    _shares_are_as_planned(world, outcomes)
    ends = Counter(state for _, _, state, _ in outcomes)
    print(f"\n{len(world.rounds):,} rounds of {len(IDS)}; killed {dict(world.kills)}; {dict(ends)}")


def _champion(world: World) -> str | None:
    with Registry(world.publisher._mlflow_uri) as registry:
        return registry.version_of_alias(CREDITCARD.registered_model, ALIAS_CHAMPION)


def _release(world: World, number: int) -> tuple[int, str, str, list[tuple[float, str]]]:
    """Drive one release to an end; returns its id, version, state, and when which stage had begun."""
    seed = 1 + number % 3
    version = world.publisher.version(make=partial(make_model, contract=CREDITCARD, seed=seed))
    body = {"version": version, "run_id": f"kill-{uuid4().hex}"}
    release = world.request("POST", "/deployments", json=body).json()
    deployment = int(release["deployment_id"])
    stages: list[tuple[float, str]] = []

    def post(path: str, **content: Any) -> httpx.Response:
        return world.request("POST", f"/deployments/{deployment}/{path}", json=content)

    post("validation", passed=True, reason="a test", paired=PAIRED)
    for percent in (10, 50):
        if post("traffic", percent=percent).status_code != 200:
            break
        stages.append((time.monotonic(), str(percent)))
        if world.source.random() < 0.1:
            post("abort", reason="at random")
        if _judged(post) != "advance":
            post("rollback", reason="not convinced", withdrawn=True)
            break
    else:
        post("promote")
    stages.append((time.monotonic(), "end"))
    state = world.request("GET", f"/deployments/{deployment}").json()["state"]
    return deployment, version, state, stages


def _judged(post: Callable[[str], httpx.Response]) -> str:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        following = post("evaluate").json().get("next", "roll_back")
        if following != "wait":
            return str(following)
        time.sleep(0.3)
    raise AssertionError("a stage does not end")


def _moved_back(
    world: World, deployment: int, version: str, _state: str, stages: list[tuple[float, str]]
) -> int:
    """How often an id that the canary served was served by another version while the release went on."""
    begun, ended = stages[0][0], stages[-1][0]
    known: set[int] = set()
    back = 0
    for one in sorted(world.rounds, key=lambda found: found.begun):
        if not begun + FOLLOW_SECONDS < one.begun or not one.ended < ended - FOLLOW_SECONDS:
            continue
        if any(abs(one.begun - at) < FOLLOW_SECONDS for at, _ in stages):
            continue  # one replica may follow later than the other
        served = {row for row, found in enumerate(one.versions) if found == version}
        back += len(known - served)
        known |= served
    return back


def _shares_are_as_planned(
    world: World, outcomes: list[tuple[int, str, str, list[tuple[float, str]]]]
) -> None:
    """In the middle of each stage exactly those ids are served by the canary that the salt draws."""
    checked = 0
    for deployment, version, _, stages in outcomes:
        ((salt,),) = run(world.owner, "SELECT salt FROM deployments WHERE deployment_id = %s", deployment)
        drawn = positions(IDS, salt)
        for (begun, percent), (ended, _) in pairwise(stages):
            planned = {row for row, at in enumerate(drawn) if at < int(percent) / 100}
            for one in world.rounds:
                if begun + FOLLOW_SECONDS < one.begun and one.ended < ended - FOLLOW_SECONDS / 3:
                    assert {row for row, found in enumerate(one.versions) if found == version} in (
                        planned,
                        set(),
                    )
                    checked += bool(planned)
    assert checked
