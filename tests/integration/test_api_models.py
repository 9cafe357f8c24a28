"""Which model the API serves: it follows the alias, refuses what may not decide, outlives its registry."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg2
import pytest
import yaml

from config.constants import ALIAS_CHALLENGER, ALIAS_CHAMPION, ALIAS_PREVIOUS, ALIAS_SHADOW, MODEL_CARD
from config.parameters import read_yaml
from config.settings import CONFIG_DIR
from fraud_adapters.models.aliases import set_alias
from fraud_adapters.models.registry import Registry, RegistryFailure
from fraud_adapters.models.version_files import ModelRefused
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.prediction_queries import read_vectors
from fraud_monitor.replay.versions import load_version
from tests.support.api_server import (
    NOWHERE,
    ROOT,
    ApiServer,
    ForkedApi,
    cache_model,
    cloned,
    creditcard,
    problem,
    record_version,
    wait_until,
)
from tests.support.publisher import Publisher
from tests.support.repeated_requests import RepeatedRequests
from tests.support.stored_rows import CREDITCARD, WIRE, run

FOLLOW_SECONDS = 5.0
MAX_FILE_BYTES = 1_000_000


@pytest.fixture(scope="module")
def module_database(template: Any, postgres_admin_url: str) -> Iterator[Any]:
    with cloned(template, postgres_admin_url, "api_models") as clone:
        yield clone


@pytest.fixture(scope="module")
def publisher(mlflow_uri: str, module_database: Any, tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    return Publisher(mlflow_uri, module_database.url("owner"), tmp_path_factory.mktemp("versions"))


@pytest.fixture(scope="module")
def server(
    mlflow_uri: str, module_database: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    folder = tmp_path_factory.mktemp("api-models")
    configuration = read_yaml(CONFIG_DIR / "config.yaml")
    configuration["serving"]["max_model_file_bytes"] = MAX_FILE_BYTES
    (folder / "config.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    extra = {"MLFLOW_TRACKING_URI": mlflow_uri, "FRAUD_CONFIG_DIR": str(folder)}
    server = ForkedApi(module_database.url("api"), folder / "models", folder / "api.log", extra=extra)
    server.start(ready=False)
    yield server
    server.stop()


def served(server: ApiServer) -> str | None:
    part = server.get("/health/ready").json()["parts"]["model"]
    version: str | None = part.get("version")
    return version


def test_the_alias_is_followed(server: ApiServer, publisher: Publisher) -> None:
    """One story on one server: a model appears, is replaced under load, and bad ones are refused."""
    wait_until(lambda: server.get("/.well-known/jwks.json").status_code == 200, server)
    with server.client() as client:
        detail = problem(client.post("/predict", json=creditcard()), 503)["detail"]
        assert "model" in detail
        problem(client.post("/predict/batch", json={"transactions": [creditcard()]}), 503)
    parts = problem(server.get("/health/ready"), 503)["parts"]
    assert (parts["model"]["state"], parts["keys"]["state"]) == ("missing", "ok")
    assert server.get("/health/live").status_code == 200

    first, second = publisher.version(), publisher.version()
    publisher.promote(first)
    wait_until(lambda: served(server) == first, server, FOLLOW_SECONDS + 2)

    with RepeatedRequests(server) as hammer:
        wait_until(lambda: len(hammer.served_versions) > 50, server)
        promoted = time.monotonic()
        publisher.promote(second)
        wait_until(lambda: any(version == second for _, version in list(hammer.served_versions)), server, 10)
        assert hammer.first(second, promoted) < FOLLOW_SECONDS
        rolled_back = time.monotonic()
        publisher.promote(first)
        wait_until(
            lambda: any(
                at > rolled_back + 0.5 and version == first for at, version in list(hammer.served_versions)
            ),
            server,
            10,
        )
        wait_until(lambda: served(server) == first, server, 10)
        assert time.monotonic() - rolled_back < FOLLOW_SECONDS
        _flip_at_once(server, publisher, (second, first), flips=10)
        refused = _bad_versions_are_refused(server, publisher, first)
    assert hammer.failures == []
    assert {version for _, version in hammer.served_versions} == {first, second}
    assert server.metric("fraud_api_model_refused_total") >= refused
    assert server.metric('fraud_api_model_info{digest="') == 1


def _flip_at_once(server: ApiServer, publisher: Publisher, versions: tuple[str, str], flips: int) -> None:
    """Each reload answers with the version that the alias points to by then."""
    with server.client("admin") as client:
        for number in range(flips):
            version = versions[number % 2]
            publisher.promote(version)
            answer = client.post("/models/reload").json()
            assert (answer["version"], answer["problem"]) == (version, None)
            assert client.post("/predict", json=creditcard()).json()["model_version"] == version
    # Every version that was taken up is audited once, as moved in MLflow.
    assert publisher.alias_entries()[-flips:] == [("mlflow", versions[number % 2]) for number in range(flips)]


def _bad_versions_are_refused(server: ApiServer, publisher: Publisher, serving: str) -> int:
    bad = {
        "digest": publisher.version(digest="0" * 64),
        "gate": publisher.version(passed=False),
        "model_versions": publisher.version(recorded=False),
        f"model.onnx exceeds {MAX_FILE_BYTES:,} bytes": publisher.version(padding=2 * MAX_FILE_BYTES),
    }
    for word, version in bad.items():
        publisher.promote(version)
        wait_until(
            lambda word=word: word in server.get("/health/ready").json()["parts"]["model"].get("detail", ""),
            server,
            10,
        )
        assert served(server) == serving
    publisher.promote(serving)
    wait_until(lambda: "detail" not in server.get("/health/ready").json()["parts"]["model"], server, 10)
    return len(bad)


def test_the_previous_version_is_one_request_away(server: ApiServer, publisher: Publisher) -> None:
    older, newer = publisher.version(), publisher.version()
    publisher.promote(newer)
    with server.client("admin") as admin, server.client("reader") as reader:
        problem(reader.post("/models/rollback"), 403)
        problem(reader.post("/models/reload"), 403)
        assert "nothing to roll back to" in problem(admin.post("/models/rollback"), 409)["detail"]
        publisher.promote(older, ALIAS_PREVIOUS)
        assert admin.post("/models/reload").json()["version"] == newer
        answer = admin.post("/models/rollback").json()
        expected = {"champion": older, "champion_before": newer, "changed": True, "version": older}
        assert answer | expected == answer
        again = admin.post("/models/rollback").json()
        assert (again["champion"], again["changed"]) == (older, False)
        assert publisher.alias_entries()[-2:] == [("mlflow", newer), ("admin", older)]

        listed = reader.get("/models", params={"limit": 5}).json()
        assert [model["version"] for model in listed["models"]] == [older]
        aliases = {version["version"]: version["aliases"] for version in listed["versions"]}
        assert (aliases[older], aliases[newer]) == ([ALIAS_CHAMPION, ALIAS_PREVIOUS], [])
        pages = listed["versions"][0]["pages"]
        _, experiment, run_id = pages["run"].removeprefix("/#/").replace("/runs/", "/").split("/")
        assert publisher.experiment_of(run_id) == experiment
        assert pages["model_card"] == f"{pages['run']}/artifacts/{MODEL_CARD}"
        entry = listed["alias_history"][0]
        assert (entry["actor"], entry["version"], entry["details"]["reason"]) == ("admin", older, "rollback")
        assert len(listed["versions"]) == len(listed["alias_history"]) == 5
        problem(reader.get("/models", params={"limit": 0}), 422)

        # A version that must not serve is not rolled back to.
        publisher.promote(publisher.version(passed=False), ALIAS_PREVIOUS)
        assert "did not pass the gate" in problem(admin.post("/models/rollback"), 409)["detail"]
        assert served(server) == older
    publisher.remove(ALIAS_PREVIOUS)


def test_other_aliases_moved_by_hand_are_audited_once(server: ApiServer, publisher: Publisher) -> None:
    """Those that the platform moved, which adds an entry itself, are not audited again."""
    one, other = publisher.version(), publisher.version()
    name = CREDITCARD.registered_model
    with server.client("admin") as admin, server.client("reader") as reader:

        def entries(alias: str) -> list[tuple[str, str]]:
            history = reader.get("/models", params={"limit": 200}).json()["alias_history"]
            return [(of["actor"], of["version"]) for of in reversed(history) if of["alias"] == alias]

        for alias in (ALIAS_CHALLENGER, ALIAS_PREVIOUS, ALIAS_SHADOW):
            before = entries(alias)
            for version in (one, other, one):
                publisher.promote(version, alias)
                for _ in range(2):
                    admin.post("/models/reload")
            by_hand = [("mlflow", version) for version in (one, other, one)]
            assert entries(alias) == [*before, *by_hand]
            with closing(psycopg2.connect(publisher._owner_url)) as connection:
                set_alias(connection, publisher._writer, "trainer", name, alias, other, {})
            admin.post("/models/reload")
            assert entries(alias) == [*before, *by_hand, ("trainer", other)]
    for alias in (ALIAS_CHALLENGER, ALIAS_PREVIOUS, ALIAS_SHADOW):
        publisher.remove(alias)


def test_what_a_version_decided_is_replayed_after_it_has_gone(
    server: ApiServer, publisher: Publisher, mlflow_uri: str, module_database: Any
) -> None:
    """By the API and by the monitor, which fetch it from the registry by its record."""
    older, newer = publisher.version(), publisher.version()
    with server.client("admin") as client:
        publisher.promote(older)
        assert client.post("/models/reload").json()["version"] == older
        decided = client.post("/predict", json=creditcard("older-decision")).json()
        publisher.promote(newer)
        assert client.post("/models/reload").json()["version"] == newer
        replayed = client.post("/predictions/older-decision/replay").json()
        assert (replayed["model_version"], replayed["identical"]) == (older, True)
        assert client.get("/predictions/older-decision/explanation").json()["model_version"] == older
    assert decided["model_version"] == older

    wrong, gone = publisher.version(digest="0" * 64), "4711"
    record_version(module_database.url("owner"), CREDITCARD, gone, "1" * 64)
    database = partial(connect, module_database.url("monitor"), "test")
    with closing(database()) as connection, connection.cursor() as cursor:
        [scored] = read_vectors(cursor, ["older-decision"])
    with Registry(mlflow_uri) as registry:
        load = partial(load_version, CREDITCARD, registry, database)
        scores = load(older).score_with(scored.engine, np.array([scored.feature_vector], dtype=np.float32))
        assert scores.values.tolist() == [scored.score] == [decided["score"]]
        for version, sentence in ((wrong, "digest"), (gone, "no version 4711"), ("4712", "model_versions")):
            with pytest.raises(ModelRefused, match=sentence):
                load(version)
    away = partial(load_version, CREDITCARD, Registry(f"http://{NOWHERE}"), database)
    with pytest.raises(RegistryFailure):
        away(older)


def test_without_registry_the_cached_model_serves(server: ApiServer, publisher: Publisher) -> None:
    version = publisher.version()
    publisher.promote(version)
    wait_until(lambda: served(server) == version, server, 10)
    server.stop()
    try:
        server.extra["MLFLOW_TRACKING_URI"] = f"http://{NOWHERE}"
        server.start()
        assert served(server) == version
        with server.client() as client:
            assert client.post("/predict", json=creditcard()).json()["model_version"] == version
        server.stop()
        # A changed file in the cache is not loaded.
        (file,) = (server.cache / CREDITCARD.registered_model).glob(f"{version}-*/model.ubj")
        file.write_bytes(file.read_bytes() + b" ")
        before = server.log.stat().st_size
        server.start(ready=False)
        # It has looked for a model, and reports that there is none.
        wait_until(lambda: b'"model_not_taken"' in server.log.read_bytes()[before:], server)
        assert problem(server.get("/health/ready"), 503)["parts"]["model"]["state"] == "missing"
    finally:
        server.stop()


def test_a_lost_database_is_503_and_comes_back(
    template: Any, postgres_admin_url: str, tmp_path: Path
) -> None:
    with cloned(template, postgres_admin_url, "api_lost") as database:
        manifest = cache_model(tmp_path / "models", CREDITCARD, "4")
        record_version(database.url("owner"), CREDITCARD, "4", manifest.digest())
        server = ForkedApi(database.url("api"), tmp_path / "models", tmp_path / "api.log")
        server.start()
        try:
            with server.client() as client:
                record = creditcard("before-and-after", seed=1)
                assert client.post("/predict", json=record).status_code == 200
                _connections(postgres_admin_url, database.name, allowed=False)
                problem(client.post("/predict", json=creditcard()), 503)
                # Scoring needs no database, and the model and the keys stay.
                assert client.post("/predict/batch", json={"transactions": [record]}).status_code == 200
                form = {"grant_type": "client_credentials", "client_id": "admin", "client_secret": "x"}
                problem(httpx.post(f"{server.url}/auth/token", data=form, trust_env=False), 503)
                assert server.get("/health/ready").status_code == 200
                parts = problem(server.get("/health/ready?deep=1"), 503)["parts"]
                assert {name: part["state"] for name, part in parts.items()} == {
                    "model": "ok",
                    "keys": "ok",
                    "database": "unreachable",
                    "broker": "unreachable",
                    "topic": "unknown",
                }
                _connections(postgres_admin_url, database.name, allowed=True)
                assert client.post("/predict", json=record).json()["replayed"]
        finally:
            server.stop()


def _connections(admin_url: str, database: str, *, allowed: bool) -> None:
    with closing(psycopg2.connect(admin_url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS {str(allowed).lower()}")
            if not allowed:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database,)
                )


def test_without_database_the_server_lives_and_waits(tmp_path: Path) -> None:
    server = ForkedApi(f"postgresql://nobody:x@{NOWHERE}/none", tmp_path / "models", tmp_path / "api.log")
    server.start(ready=False)
    try:
        parts = problem(server.get("/health/ready"), 503)["parts"]
        assert {part["state"] for part in parts.values()} == {"missing"}
        # The route is public: it names what is missing, but neither addresses nor accounts.
        assert not any(word in str(parts) for word in ("127.0.0.1", "nobody", "none"))
        problem(server.get("/.well-known/jwks.json"), 503)
        headers = {"Authorization": "Bearer abc"}
        problem(httpx.post(f"{server.url}/predict", json=creditcard(), headers=headers, trust_env=False), 503)
    finally:
        server.stop()


def test_a_contract_of_ones_own_goes_the_whole_way(
    template: Any, postgres_admin_url: str, tmp_path: Path
) -> None:
    record = {
        "transaction_id": "wire-1",
        "sent_amount": 12.3456,
        "hour": 13,
        "channel": "web",
        "urgent": True,
        "payer": "Ana",
        "payee": "Émile",
    }
    with cloned(template, postgres_admin_url, "api_wire") as database:
        manifest = cache_model(tmp_path / "models", WIRE, "1")
        record_version(database.url("owner"), WIRE, "1", manifest.digest())
        folder = {"FRAUD_CONTRACTS_DIR": str(ROOT / "tests" / "contracts"), "APP_ENV": "production"}
        server = ForkedApi(database.url("api"), tmp_path / "models", tmp_path / "api.log", "wire", folder)
        server.start()
        try:
            with server.client() as client:
                answer = client.post("/predict", json=record).json()
                assert (answer["transaction_id"], answer["replayed"]) == ("wire-1", False)
                assert client.post("/predict", json=record | {"fee": None}).json()["replayed"]
                problem(client.post("/predict", json=record | {"fee": 2.5}), 409)
                problem(client.post("/predict", json=record | {"channel": "post"}), 422)
                problem(client.post("/predict", json=record | {"urgent": 1}), 422)
                problem(client.post("/predict", json=record | {"payee": "a\0"}), 422)
                listed = client.post("/predict", json={"new_data": [record | {"transaction_id": "wire-2"}]})
                assert listed.status_code == 200
            # Swagger is not shown in production.
            for path in ("/docs", "/openapi.json", "/docs/swagger-ui.css"):
                problem(server.get(path), 404)
        finally:
            server.stop()
        stored = run(
            database.url("owner"),
            "SELECT contract, attributes, card_id, merchant_id FROM transactions ORDER BY transaction_id",
        )
    assert [row[0] for row in stored] == ["wire/3", "wire/3"]
    assert json.dumps(stored[0][1]).count("13") == 1
    assert stored[0][2:] == ("Ana", "Émile")
