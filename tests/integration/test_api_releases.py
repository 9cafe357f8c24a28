"""Releases by the API: who is served by which model, what takes a release back, and what survives what."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml

from config.constants import ALIAS_CHALLENGER, ALIAS_SHADOW
from config.parameters import read_yaml
from config.settings import CONFIG_DIR
from fraud_adapters.postgres.deployments import open_deployment
from fraud_adapters.postgres.release_counts import read_counts, store_counts
from fraud_adapters.postgres.session import Session
from fraud_core.canary.evidence import SCORE_BINS, Arm
from fraud_core.canary.lifecycle import Mode
from tests.support.api_server import ApiServer, ForkedApi, cloned, creditcard, problem, wait_until
from tests.support.faulty_models import Fault, make_faulty_model
from tests.support.publisher import Publisher
from tests.support.small_model import make_model
from tests.support.stored_rows import CREDITCARD, run

WINDOW_SECONDS = 4
PAIRED = {
    "frauds": 3000,
    "both": 2850,
    "champion_only": 20,
    "candidate_only": 25,
    "legitimate": 20000,
    "false_both": 100,
    "false_champion_only": 10,
    "false_candidate_only": 10,
}
Story = tuple[ApiServer, Publisher, str]


@pytest.fixture(scope="module")
def database(template: Any, postgres_admin_url: str) -> Iterator[Any]:
    with cloned(template, postgres_admin_url, "api_releases") as clone:
        yield clone


@pytest.fixture(scope="module")
def publisher(mlflow_uri: str, database: Any, tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    return Publisher(mlflow_uri, database.url("owner"), tmp_path_factory.mktemp("versions"))


def configuration(folder: Path) -> Path:
    """Shorter windows, and few calls are enough: by configuration, the code is the same."""
    content = read_yaml(CONFIG_DIR / "config.yaml")
    content["release"] |= {"window": f"PT{WINDOW_SECONDS}S", "max_extensions": 1, "abandoned_after": "PT15S"}
    content["release"]["judgement"] |= {
        "min_calls": 30,
        "min_rows": 60,
        "max_error_rate": 0.1,
        "latency_quantile": 0.8,
        "max_latency_ms": 450,  # below the limit after which the champion answers
        "max_alert_rate_change": 3,
        "max_score_distance": 0.4,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def server(
    mlflow_uri: str, database: Any, publisher: Publisher, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    folder = configuration(tmp_path_factory.mktemp("api-releases"))
    extra = {"MLFLOW_TRACKING_URI": mlflow_uri, "FRAUD_CONFIG_DIR": str(folder)}
    publisher.promote(publisher.version(make=partial(make_model, contract=CREDITCARD)))
    running = ForkedApi(database.url("api"), folder / "models", folder / "api.log", extra=extra)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def admin(server: ApiServer) -> Iterator[httpx.Client]:
    with server.client("admin") as client:
        yield client
        for release in client.get("/deployments").json()["deployments"]:
            if release["ended_at"] is None:
                client.post(f"/deployments/{release['deployment_id']}/abort")
        wait_until(lambda: server.metric("fraud_api_canary_percent") == 0, server)


def opened(admin: httpx.Client, version: str) -> int:
    """A release that passed its validation."""
    answer = admin.post("/deployments", json={"version": version})
    assert answer.status_code == 201, answer.text
    number: int = answer.json()["deployment_id"]
    checks = {"passed": True, "reason": "All checks passed.", "findings": {}, "paired": PAIRED}
    assert admin.post(f"/deployments/{number}/validation", json=checks).json()["state"] == "validated"
    return number


def in_traffic(server: ApiServer, admin: httpx.Client, number: int, percent: int = 10) -> None:
    answer = admin.post(f"/deployments/{number}/traffic", json={"percent": percent})
    assert answer.status_code == 200, answer.text
    wait_until(lambda: server.metric("fraud_api_canary_percent") == percent, server, 20)


def send(client: httpx.Client, requests: int, rows: int = 20, **options: Any) -> list[dict[str, Any]]:
    """Predictions of fresh transactions, stored."""
    found: list[dict[str, Any]] = []
    for _ in range(requests):
        records = [creditcard(uuid4().hex) for _ in range(rows)]
        answer = client.post("/predict", json={"new_data": records}, **options)
        assert answer.status_code == 200, answer.text
        found += answer.json()["predictions"]
        assert [one["transaction_id"] for one in found[-rows:]] == [one["transaction_id"] for one in records]
    return found


def details(admin: httpx.Client, number: int) -> dict[str, Any]:
    content: dict[str, Any] = admin.get(f"/deployments/{number}").json()
    return content


def roles(publisher: Publisher) -> Counter[tuple[str, str]]:
    rows = run(publisher._owner_url, "SELECT role, model_version FROM predictions")
    return Counter((role, version) for role, version in rows)


def drive(server: ApiServer, admin: httpx.Client, number: int) -> dict[str, Any]:
    """Send traffic until the stage says what follows."""
    with server.client() as client:
        for _ in range(200):
            send(client, 5)
            answer = admin.post(f"/deployments/{number}/evaluate")
            assert answer.status_code == 200, answer.text
            content: dict[str, Any] = answer.json()
            if content["next"] != "wait":
                return content
    raise AssertionError(f"nothing followed: {content}")


def test_a_good_version_goes_all_the_way(
    server: ApiServer, publisher: Publisher, admin: httpx.Client
) -> None:
    before = details_of_champion(admin)
    version = publisher.version(make=partial(make_model, contract=CREDITCARD))
    publisher.promote(version, ALIAS_CHALLENGER)
    number = admin.post("/deployments", json={"run_id": "manual__1"}).json()["deployment_id"]
    again = admin.post("/deployments", json={"run_id": "manual__1"})
    assert (again.status_code, again.json()["deployment_id"], again.json()["version"]) == (
        200,
        number,
        version,
    )
    early = problem(admin.post(f"/deployments/{number}/traffic", json={"percent": 10}), 409)
    assert early["detail"] == "start is not possible in the state validating."
    checks = {"passed": True, "reason": "All checks passed.", "paired": PAIRED}
    admin.post(f"/deployments/{number}/validation", json=checks)

    in_traffic(server, admin, number, 10)
    problem(admin.post(f"/deployments/{number}/traffic", json={"percent": 50}), 409)
    first = drive(server, admin, number)
    assert (first["next"], first["verdict"]) == ("advance", "promote"), details(admin, number)["events"][-1]
    served = roles(publisher)
    total = served["canary", version] + served["champion", before]
    assert 0.05 < served["canary", version] / total < 0.16
    wait_until(
        lambda: details(admin, number)["evidence"]["canary"]["rows"] == served["canary", version], server, 5
    )
    shown = details(admin, number)
    assert shown["judgement"]["verdict"] == "promote"

    in_traffic(server, admin, number, 50)
    more = problem(admin.post(f"/deployments/{number}/traffic", json={"percent": 60}), 409)
    assert more["detail"] == "The release has its last share already: 50 %."
    problem(admin.post(f"/deployments/{number}/promote"), 409)
    assert drive(server, admin, number)["next"] == "advance"
    promoted = admin.post(f"/deployments/{number}/promote").json()
    assert promoted["state"] == "promoted"
    assert promoted["reason"] == details(admin, number)["events"][-2]["details"]["sentence"]
    assert admin.post(f"/deployments/{number}/promote").json() == promoted
    assert details_of_champion(admin) == version
    aliases = {
        one["version"]: one["aliases"] for one in admin.get("/models").json()["versions"] if one["aliases"]
    }
    assert aliases[before] == ["previous"]
    assert "champion" in aliases[version]
    kinds = [event["kind"] for event in details(admin, number)["events"] if event["kind"] != "judged"]
    assert [kind for kind in kinds if kind != "extended"] == [
        *("opened", "validated", "canary", "widened", "promoted")
    ]
    problem(admin.post(f"/deployments/{number}/abort"), 409)


def details_of_champion(admin: httpx.Client) -> str:
    version: str = admin.get("/models").json()["models"][0]["version"]
    return version


def test_who_has_the_canary_keeps_it(server: ApiServer, publisher: Publisher, admin: httpx.Client) -> None:
    """The first tenth is part of the first half; the next release draws other cards."""
    records = [creditcard(uuid4().hex) for _ in range(300)]

    def canaries(number: int, percent: int) -> set[str]:
        in_traffic(server, admin, number, percent)
        with server.client() as client:
            answers = client.post("/predict/batch", json={"transactions": records}).json()["predictions"]
        version = details(admin, number)["version"]
        return {one["transaction_id"] for one in answers if one["model_version"] == version}

    first = opened(admin, publisher.version())
    tenth = canaries(first, 10)
    run(
        publisher._owner_url,
        "UPDATE deployments SET state = 'widened', traffic_percent = 50 WHERE ended_at IS NULL",
    )
    wait_until(lambda: server.metric("fraud_api_canary_percent") == 50, server)
    with server.client() as client:
        answers = client.post("/predict/batch", json={"transactions": records}).json()["predictions"]
    version = details(admin, first)["version"]
    half = {one["transaction_id"] for one in answers if one["model_version"] == version}
    assert tenth < half
    assert 10 < len(tenth) < 60
    assert 110 < len(half) < 190
    admin.post(f"/deployments/{first}/abort")
    second = canaries(opened(admin, publisher.version()), 10)
    assert second != tenth


@pytest.mark.parametrize("fault", ["crashing", "nan", "slow"])
def test_a_version_that_goes_wrong_is_taken_back(
    server: ApiServer, publisher: Publisher, admin: httpx.Client, fault: Fault
) -> None:
    """No request fails, and the champion serves everything again within a minute."""
    version = publisher.version(make=partial(make_faulty_model, contract=CREDITCARD, fault=fault))
    number = opened(admin, version)
    in_traffic(server, admin, number)
    began = time.monotonic()
    with server.client() as client:
        while details(admin, number)["state"] == "canary" and time.monotonic() - began < 90:
            send(client, 10)
            answer = client.post("/predict", json=creditcard())
            assert answer.status_code == 200, answer.text
    ended = details(admin, number)
    assert ended["state"] == "rolled_back", ended
    assert time.monotonic() - began < 60
    wait_until(lambda: server.metric("fraud_api_canary_percent") == 0, server, 5)
    assert roles(publisher)["canary", version] == 0 or fault == "slow"
    with server.client() as client:
        assert {one["model_version"] for one in send(client, 5)} == {details_of_champion(admin)}
    assert admin.post(f"/deployments/{number}/evaluate").json()["next"] == "roll_back"


def test_without_traffic_nothing_is_promoted(
    server: ApiServer, publisher: Publisher, admin: httpx.Client
) -> None:
    """No traffic is no evidence: the stage is extended, then the release is to be withdrawn."""
    number = opened(admin, publisher.version())
    in_traffic(server, admin, number)
    seen: list[dict[str, Any]] = []

    def over() -> bool:
        seen.append(admin.post(f"/deployments/{number}/evaluate").json())
        return bool(seen[-1]["next"] != "wait")

    wait_until(over, server, 30)
    assert (seen[-1]["next"], seen[-1]["verdict"], seen[-1]["extensions"]) == ("withdraw", "inconclusive", 1)
    answer = admin.post(f"/deployments/{number}/rollback", json={"reason": "no traffic", "withdrawn": True})
    assert answer.json()["state"] == "withdrawn"
    assert admin.post(f"/deployments/{number}/evaluate").json()["next"] == "withdraw"


def test_a_release_that_nobody_drives_is_withdrawn(
    server: ApiServer, publisher: Publisher, admin: httpx.Client
) -> None:
    number = opened(admin, publisher.version())
    in_traffic(server, admin, number)
    wait_until(lambda: details(admin, number)["state"] == "withdrawn", server, 60)
    assert server.metric("fraud_api_canary_percent") == 0


def test_a_release_survives_the_death_of_its_replica(
    server: ApiServer, publisher: Publisher, admin: httpx.Client
) -> None:
    version = publisher.version()
    number = opened(admin, version)
    in_traffic(server, admin, number)
    with server.client() as client:
        send(client, 10)
    wait_until(lambda: details(admin, number)["evidence"]["canary"]["rows"] > 0, server, 10)
    before = details(admin, number)["evidence"]["canary"]["rows"]
    assert server.process is not None
    server.process.kill()
    server.process.wait(30)
    server.start()
    wait_until(lambda: server.metric("fraud_api_canary_percent") == 10, server, 10)
    assert details(admin, number)["evidence"]["canary"]["rows"] >= before


def test_what_must_not_be_released_is_refused(
    server: ApiServer, publisher: Publisher, admin: httpx.Client
) -> None:
    champion = details_of_champion(admin)
    for version, word in (
        ("999", "not in model_versions"),
        (champion, "already"),
        (publisher.version(passed=False), "did not pass"),
        (publisher.version(digest="0" * 64), "must not serve"),
    ):
        assert word in problem(admin.post("/deployments", json={"version": version}), 422)["detail"]
    number = opened(admin, publisher.version())
    problem(admin.post("/deployments", json={"version": publisher.version()}), 409)
    problem(admin.post(f"/deployments/{number}/promote", json={"force": True}), 409)
    problem(admin.post("/deployments/999999/abort"), 404)
    for path, body in (
        ("traffic", {"percent": 0}),
        ("traffic", {"percent": 100}),
        ("traffic", {"percent": "ten"}),
        ("rollback", {}),
        ("validation", {"passed": True}),
        ("validation", {"passed": True, "reason": "x", "paired": {**PAIRED, "both": 4000}}),
    ):
        problem(admin.post(f"/deployments/{number}/{path}", json=body), 422)


def test_a_validation_that_failed_ends_the_release(publisher: Publisher, admin: httpx.Client) -> None:
    answer = admin.post("/deployments", json={"version": publisher.version()})
    number = answer.json()["deployment_id"]
    body = {"passed": False, "reason": "Its recall is 40 points lower.", "findings": {"recall": 0.5}}
    refused = admin.post(f"/deployments/{number}/validation", json=body).json()
    assert (refused["state"], refused["reason"]) == ("refused", body["reason"])
    assert details(admin, number)["findings"] == {"recall": 0.5}
    problem(admin.post(f"/deployments/{number}/traffic", json={"percent": 10}), 409)


def test_a_shadow_scores_everything_and_decides_nothing(
    server: ApiServer, publisher: Publisher, admin: httpx.Client
) -> None:
    version = publisher.version()
    publisher.promote(version, ALIAS_SHADOW)
    before = server.metric('fraud_api_shadow_total{outcome="scored"}')

    def scored() -> bool:
        with server.client() as client:
            found.extend(send(client, 1, 30))
            found.append(client.post("/predict", json=creditcard()).json())
        return server.metric('fraud_api_shadow_total{outcome="scored"}') > before

    found: list[dict[str, Any]] = []
    wait_until(scored, server, 20)
    last = [one["transaction_id"] for one in found[-31:]]
    query = "SELECT count(*) FROM shadow_predictions WHERE model_version = %s AND transaction_id = ANY(%s)"
    wait_until(lambda: run(publisher._owner_url, query, version, last)[0][0] == len(last), server, 10)
    assert version not in {one["model_version"] for one in found}
    publisher.remove(ALIAS_SHADOW)


def test_every_transition_is_in_the_audit_log(publisher: Publisher, admin: httpx.Client) -> None:
    number = opened(admin, publisher.version())
    admin.post(f"/deployments/{number}/abort", json={"reason": "a mistake"})
    query = (
        "SELECT actor, action FROM audit_log WHERE (details->>'deployment')::bigint = %s ORDER BY entry_id"
    )
    assert run(publisher._owner_url, query, number) == [
        ("admin", "deployment_opened"),
        ("admin", "deployment_validated"),
        ("admin", "deployment_aborted"),
    ]
    assert run(publisher._owner_url, "SELECT * FROM audit_verify()") == []


def test_labels_about_its_traffic_take_a_release_back(
    server: ApiServer, publisher: Publisher, admin: httpx.Client
) -> None:
    """A canary that passes frauds which the champion would have caught shows it once they are labelled."""
    version = publisher.version(make=partial(make_model, contract=CREDITCARD))
    number = opened(admin, version)
    in_traffic(server, admin, number)
    with server.client() as client:
        answers = send(client, 60, 40)
    owner = publisher._owner_url
    by_canary: dict[bool, list[str]] = {True: [], False: []}
    for one in answers:
        by_canary[one["model_version"] == version].append(one["transaction_id"])
    assert len(by_canary[True]) > 120
    # What the arms said is made to differ: all of these were frauds, and only the champion caught them.
    for canary, ids in by_canary.items():
        flag = "UPDATE predictions SET is_fraud_predicted = %s WHERE transaction_id = ANY(%s)"
        run(owner, flag, not canary, ids)
        label = (
            "INSERT INTO labels (label_id, transaction_id, label, source, reported_at, matures_at)"
            " SELECT gen_random_uuid(), unnest(%s), 1, 'analyst', now(), now()"
        )
        run(owner, label, ids)
    found = admin.post(f"/deployments/{number}/evaluate").json()
    assert (found["next"], found["state"]) == ("roll_back", "rolled_back"), details(admin, number)
    judged = [event["details"] for event in details(admin, number)["events"] if event["kind"] == "judged"][-1]
    assert judged["evidence"]["live"]["canary"]["caught"] == 0
    assert judged["evidence"]["live"]["control"]["caught"] == len(by_canary[False])
    assert any(
        check["name"].startswith("live") and check["outcome"] == "failed" for check in judged["checks"]
    )


def test_sums_that_are_stored_again_count_once(database: Any) -> None:
    """An answer to COMMIT may be lost, so the replica stores its sums again, and later ones over them."""
    with closing(Session(database.url("api"), "test")) as session:
        number = session.run(
            lambda cursor: open_deployment(
                cursor, name="another", version="2", previous="1", mode=Mode.CANARY, salt="s", run_id=None
            )
        )
        assert number is not None
        minute = datetime.now(UTC).replace(second=0, microsecond=0)

        def store(replica: str, calls: int) -> int:
            counts = Arm(calls, 1, 0, 2 * calls, 0, (2 * calls,) + (0,) * (SCORE_BINS - 1))
            session.run(lambda cursor: store_counts(cursor, number, 10, "canary", replica, minute, counts))
            return session.run(lambda cursor: read_counts(cursor, number, 10))["canary"].calls

        assert [store("one", 3), store("one", 3), store("one", 5), store("one", 3)] == [3, 3, 5, 5]
        assert store("two", 3) == 8
        session.run(
            lambda cursor: cursor.execute(
                "UPDATE deployments SET state = 'aborted', ended_at = now() WHERE deployment_id = %s",
                (number,),
            )
        )
