"""Releases over HTTP: the real gateway splits requests between a main replica and that of the release."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from config import constants
from config.settings import CONFIG_DIR, ObjectStoreSettings
from fraud_adapters.job.failures import LastingFailure, RefusedFailure
from fraud_adapters.objectstore import ObjectStore
from fraud_core.canary.http_release import RELEASE_REPLICA, REPLICA_HEADER
from fraud_rollout.job import main as rollout
from tests.integration.gateway import Gateway, gateway
from tests.integration.release_versions import environment
from tests.integration.test_api_releases import PAIRED, configuration, details
from tests.support.api_server import (
    CLIENTS,
    PLAIN,
    ApiServer,
    ForkedApi,
    cloned,
    creditcard,
    problem,
    wait_until,
)
from tests.support.faulty_models import make_faulty_model
from tests.support.publisher import Publisher
from tests.support.small_model import make_model
from tests.support.stored_rows import CREDITCARD, run

TESTS = {REPLICA_HEADER: RELEASE_REPLICA}


@dataclass
class Installation:
    """Two replicas behind the gateway."""

    main: ApiServer
    release: ApiServer
    gateway: Gateway
    publisher: Publisher
    champion: str

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return run(self.publisher._owner_url, statement, *values)

    def client(self) -> httpx.Client:
        """A client behind the gateway that keeps no connection, as many clients would come."""
        headers = {"Authorization": f"Bearer {self.main.token()}"}
        limits = httpx.Limits(max_keepalive_connections=0)
        return httpx.Client(base_url=self.gateway.url, headers=headers, limits=limits, **PLAIN, timeout=20)

    def shares(self, requests: int) -> Counter[str]:
        """Which version answered how many requests."""
        with self.client() as client:
            answers = [client.post("/predict", json=creditcard(uuid4().hex)) for _ in range(requests)]
        assert [answer.status_code for answer in answers] == [200] * requests
        return Counter(answer.json()["model_version"] for answer in answers)

    def document(self) -> Any:
        return httpx.get(f"http://127.0.0.1:{self.main.metrics_port}/gateway", **PLAIN).json()


@pytest.fixture(scope="module")
def installation(
    template: Any, postgres_admin_url: str, mlflow_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("gateway-releases")
    with ExitStack() as exits:
        database = exits.enter_context(cloned(template, postgres_admin_url, "gateway_releases"))
        publisher = Publisher(mlflow_uri, database.url("owner"), folder / "versions")
        champion = publisher.version(make=partial(make_model, contract=CREDITCARD))
        publisher.promote(champion)
        extra = {"MLFLOW_TRACKING_URI": mlflow_uri, "FRAUD_CONFIG_DIR": str(configuration(folder))}
        main = ForkedApi(database.url("api"), folder / "main", folder / "main.log", extra=extra)
        release = ForkedApi(
            database.url("api"),
            folder / "release",
            folder / "release.log",
            extra=extra | {"API_REPLICA": "release"},
        )
        main.extra = extra | {"API_CANARY_METRICS_URL": f"http://127.0.0.1:{release.metrics_port}"}
        for server in (main, release):
            exits.callback(server.stop)
            server.start(ready=server is main)
        ports = {"canary": release.port, "provider": main.metrics_port}
        traefik = exits.enter_context(gateway(main.port, folder, **ports))
        yield Installation(main, release, traefik, publisher, champion)


@pytest.fixture
def admin(installation: Installation) -> Iterator[httpx.Client]:
    with installation.main.client("admin") as client:
        yield client
        for release in client.get("/deployments").json()["deployments"]:
            if release["ended_at"] is None:
                client.post(f"/deployments/{release['deployment_id']}/abort")
        wait_until(lambda: installation.release.metric("fraud_api_canary_percent") == 0)


GOOD = partial(make_model, contract=CREDITCARD)


def validated(installation: Installation, admin: httpx.Client, make: Any = GOOD) -> tuple[int, str]:
    """A release over HTTP that passed its validation, and its version."""
    version = installation.publisher.version(make=make)
    number = admin.post("/deployments", json={"version": version, "mode": "http"}).json()["deployment_id"]
    checks = {"passed": True, "reason": "All checks passed.", "findings": {}, "paired": PAIRED}
    assert admin.post(f"/deployments/{number}/validation", json=checks).json()["state"] == "validated"
    return number, version


def in_state(installation: Installation, number: int, state: str, percent: int) -> None:
    """Put a release into a state whose changes have reached everybody."""
    installation.rows(
        "UPDATE deployments SET state = %s, traffic_percent = %s,"
        " stage_started_at = clock_timestamp() - interval '10 seconds' WHERE deployment_id = %s",
        *(state, percent, number),
    )
    wait_until(lambda: weights(installation) == {"api@file": 100 - percent, "canary@file": percent})
    time.sleep(1)  # Traefik asks every half a second


def weights(installation: Installation) -> dict[str, int]:
    service = installation.document()["http"]["services"]["scoring"]
    return {one["name"]: one["weight"] for one in service["weighted"]["services"]}


def test_the_replica_is_ready_for_tests_before_any_traffic(
    installation: Installation, admin: httpx.Client
) -> None:
    """Its answers are the version's own, and nothing of them is kept."""
    with installation.client() as client:
        unready = problem(installation.release.get("/health/ready"), 503)
        assert unready["parts"]["model"]["detail"] == "No release over HTTP runs."
        assert client.get("/health/ready", headers=TESTS).json()["replica"] == "main"
        number, version = validated(installation, admin)
        # It starts now, and the gateway has nobody to send to meanwhile.
        wait_until(lambda: b'"release"' in client.get("/health/ready", headers=TESTS).content)
        ready = client.get("/health/ready", headers=TESTS).json()
        assert ready["replica"] == "release"
        assert ready["parts"]["model"]["version"] == version
        identifier = uuid4().hex
        tested = client.post("/predict", json=creditcard(identifier), headers=TESTS)
        assert (tested.status_code, tested.json()["model_version"]) == (200, version)
        assert client.post("/predict", json=creditcard(uuid4().hex)).json()["model_version"] != version
    for table in ("predictions", "shadow_predictions"):
        statement = f"SELECT 1 FROM {table} WHERE transaction_id = %s"
        assert installation.rows(statement, identifier) == []
    problem(admin.post(f"/deployments/{number}/traffic", json={"percent": 10}), 409)


def test_a_shadow_scores_everything_in_parallel_and_decides_nothing(
    installation: Installation, admin: httpx.Client
) -> None:
    number, version = validated(installation, admin)
    assert admin.post(f"/deployments/{number}/shadow").json()["state"] == "shadow"
    wait_until(lambda: "mirroring" in installation.document()["http"]["services"]["scoring"])
    time.sleep(1)
    assert installation.shares(30) == {installation.champion: 30}
    found = "SELECT count(*) FROM shadow_predictions WHERE model_version = %s"
    wait_until(lambda: installation.rows(found, version) == [(30,)], seconds=10)
    assert installation.rows("SELECT 1 FROM predictions WHERE model_version = %s", version) == []
    early = problem(admin.post(f"/deployments/{number}/traffic", json={"percent": 10}), 409)
    assert early["detail"] == "The stage was not evaluated yet."
    evaluated = admin.post(f"/deployments/{number}/evaluate").json()
    assert (evaluated["state"], evaluated["next"]) == ("shadow", "wait")


def test_requests_are_split_by_the_weights_and_come_back_within_seconds(
    installation: Installation, admin: httpx.Client
) -> None:
    number, version = validated(installation, admin)
    for state, percent in (("canary", 10), ("widened", 50)):
        in_state(installation, number, state, percent)
        shares = installation.shares(200)
        # Traefik takes turns, so the shares are nearly exact.
        assert abs(shares[version] - 2 * percent) <= 4, shares
        assert shares[version] + shares[installation.champion] == 200
        wait_until(lambda: sum(arm(admin, number, name) for name in ("control", "canary")) == 200, seconds=10)
        assert arm(admin, number, "canary") == shares[version]
        # The stage was put there by hand, so that its replica's metrics have counted all requests ever.
        answered = details(admin, number)["evidence"]["requests"]
        assert answered is not None
    stored = "SELECT role, count(*) FROM predictions WHERE model_version = %s GROUP BY role"
    assert [role for role, _ in installation.rows(stored, version)] == ["canary"]
    began = time.monotonic()
    admin.post(f"/deployments/{number}/rollback", json={"reason": "A test."})
    wait_until(lambda: set(installation.shares(10)) == {installation.champion}, seconds=10)
    assert time.monotonic() - began < 5
    assert set(installation.shares(100)) == {installation.champion}


def arm(admin: httpx.Client, number: int, name: str) -> int:
    rows: int = details(admin, number)["evidence"][name]["rows"]
    return rows


def test_a_replica_that_dies_takes_no_request_with_it(
    installation: Installation, admin: httpx.Client
) -> None:
    """What cannot be sent to it goes to the other one, until its share is taken away."""
    number, version = validated(installation, admin)
    in_state(installation, number, "widened", 50)
    assert installation.shares(20)[version] == 10
    process = installation.release.process
    assert process is not None
    process.kill()
    process.wait(30)
    try:
        assert installation.shares(60) == {installation.champion: 60}
    finally:
        installation.release.start(ready=False)
    wait_until(lambda: installation.release.get("/health/ready").status_code == 200)
    wait_until(lambda: installation.shares(10)[version] > 0, seconds=15)


@pytest.fixture
def verbs(
    installation: Installation, object_store: ObjectStoreSettings, tmp_path: Path
) -> Iterator[Callable[..., Any]]:
    """The rollout's verbs as jobs run them: behind the gateway, as their own client."""
    ObjectStore(object_store, constants.BUCKET_RUNS).ensure_bucket()
    variables = {
        "FRAUD_CONFIG_DIR": str(configuration(tmp_path)),
        "FRAUD_CONTRACT": CREDITCARD.name,
        "FRAUD_CONTRACTS_DIR": str(CONFIG_DIR / "contracts"),
        "API_URL": installation.gateway.url,
        "API_CLIENT_ID": "rollout",
        "API_CLIENT_SECRET": CLIENTS["rollout"],
        "S3_ENDPOINT_URL": object_store.endpoint_url,
        "AWS_ACCESS_KEY_ID": object_store.aws_access_key_id,
        "AWS_SECRET_ACCESS_KEY": object_store.aws_secret_access_key.get_secret_value(),
    }

    def run_verb(verb: str, number: int, *options: str) -> Any:
        arguments = [verb, "--dag", constants.DAG_CANARY_HTTP, f"--deployment-id={number}"]
        return rollout([*arguments, *options])

    with environment(**variables):
        yield run_verb


def test_the_endpoints_are_tested_before_a_version_is_a_shadow(
    installation: Installation, admin: httpx.Client, verbs: Callable[..., Any]
) -> None:
    number, version = validated(installation, admin)
    assert verbs("check-health", number, "--patience=20s")["version"] == version
    with pytest.raises(LastingFailure, match=r"endpoints\.json is missing"):
        verbs("shadow", number)
    tested = verbs("test-endpoints", number)
    assert {one["outcome"] for one in tested["findings"]} == {"passed"}, tested["findings"]
    assert tested["text"] == f"All {len(tested['findings'])} checks passed."
    assert verbs("shadow", number)["state"] == "shadow"
    events = {event["kind"]: event["details"] for event in details(admin, number)["events"]}
    assert events["shadow"]["findings"]["checks"] == tested["findings"]
    assert events["shadow"]["requests"]["canary"]["requests"] > 100
    wait_until(lambda: details(admin, number)["evidence"]["requests"]["canary"]["requests"] == 0)
    with pytest.raises(LastingFailure, match="is shadow: its endpoints are tested once it is validated"):
        verbs("test-endpoints", number)
    ended = verbs("rollback", number)
    assert ended["state"] == "withdrawn"
    stored = "SELECT 1 FROM predictions WHERE transaction_id LIKE %s"
    assert installation.rows(stored, f"release-{number}-%") == []


def test_a_version_whose_endpoints_fail_is_rolled_back(
    installation: Installation, admin: httpx.Client, verbs: Callable[..., Any]
) -> None:
    """A model that crashes is answered for by the champion, which is not what is to be released."""
    faulty = partial(make_faulty_model, contract=CREDITCARD, fault="crashing")
    number, version = validated(installation, admin, faulty)
    verbs("check-health", number, "--patience=20s")
    with pytest.raises(RefusedFailure, match=f"Version {version} gets no requests") as refused:
        verbs("test-endpoints", number)
    found = {one["name"]: one for one in refused.value.result["findings"]}
    assert found["predict"]["sentence"] == f"Version {installation.champion} answers instead of {version}."
    assert found["authentication"]["outcome"] == found["bad_input"]["outcome"] == "passed"
    ended = details(admin, number)
    assert (ended["state"], "answers instead of" in ended["reason"]) == ("rolled_back", True)
    wait_until(lambda: "release-tests" not in installation.document()["http"]["routers"])
    time.sleep(1)
    with pytest.raises(LastingFailure, match="leads to the champion's replicas alone"):
        verbs("check-health", number, "--patience=0.1s")
