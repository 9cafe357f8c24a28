"""Stored decisions looked at again: reasons that add up, and replays that give the same bits."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.support.api_server import (
    ApiServer,
    cloned,
    creditcard,
    problem,
    record_version,
    scoring_server,
)
from tests.support.small_model import make_model
from tests.support.stored_rows import CREDITCARD, run

NAME: Final = CREDITCARD.registered_model


@pytest.fixture(scope="module")
def module_database(template: Any, postgres_admin_url: str) -> Iterator[Any]:
    with cloned(template, postgres_admin_url, "api_hindsight") as clone:
        yield clone


@pytest.fixture(scope="module")
def server(module_database: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with scoring_server(module_database, tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: ApiServer) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {server.token('admin')}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=20, trust_env=False) as made:
        yield made


def decide(client: httpx.Client, identifier: str, query: str = "", **changes: Any) -> dict[str, Any]:
    answer = client.post(f"/predict{query}", json=creditcard(identifier, seed=len(identifier), **changes))
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def change(database: Any, identifier: str, assignment: str, *values: Any) -> None:
    statement = f"UPDATE predictions SET {assignment} WHERE transaction_id = %s"
    run(database.url("owner"), statement, *values, identifier)


def older_version(server: ApiServer, database: Any, version: str, seed: int) -> Path:
    """A version that no longer serves, whose files an earlier replay has fetched."""
    folder = server.cache / "recorded" / NAME
    manifest = make_model(folder / "new", CREDITCARD, seed)
    record_version(database.url("owner"), CREDITCARD, version, manifest.digest())
    return (folder / "new").rename(folder / f"{version}-{manifest.digest()[:16]}")


# --- explanations ---------------------------------------------------------------------------------


def test_reasons_are_in_words_and_add_up_to_the_score(client: httpx.Client) -> None:
    decided = decide(client, "explained", v1=4.0, v2=3.0)
    document = client.get("/predictions/explained/explanation?limit=2").json()
    assert (document["available"], document["method"]) == (True, "tree_shap")
    assert (document["model_version"], document["score"]) == ("7", decided["score"])
    log_odds = math.log(decided["score"] / (1 - decided["score"]))
    total = document["base"] + document["rest"] + sum(one["contribution"] for one in document["reasons"])
    assert total == pytest.approx(document["log_odds"]) == pytest.approx(log_odds, abs=1e-4)
    assert {one["feature"] for one in document["reasons"]} == {"v1", "v2"}
    first = document["reasons"][0]
    assert first["direction"] == "raises"
    assert first["sentence"].startswith(f"{first['feature']} is {first['value']:g}: this multiplies the odds")
    everything = client.get("/predictions/explained/explanation?limit=1000").json()
    assert everything["rest"] == 0


def test_a_decision_is_answered_with_its_reasons_on_request(client: httpx.Client) -> None:
    plain = decide(client, "with-reasons")
    assert "explanation" not in plain
    explained = decide(client, "with-reasons", "?explain=true")
    assert explained["replayed"]
    asked = client.get("/predictions/with-reasons/explanation").json()
    assert explained["explanation"] == {name: asked[name] for name in explained["explanation"]}
    records = [creditcard(f"list-{number}", seed=number) for number in range(3)]
    listed = client.post("/predict?explain=true", json={"new_data": records}).json()["predictions"]
    assert [one["transaction_id"] for one in listed] == ["list-0", "list-1", "list-2"]
    assert all(one["explanation"]["available"] for one in listed)
    unnamed = client.post("/predict?explain=true", json=creditcard()).json()
    assert unnamed["explanation"]["reasons"]


def test_what_cannot_be_explained_is_refused(client: httpx.Client) -> None:
    problem(client.post("/predict?explain=maybe", json=creditcard()), 422)
    records = [creditcard(f"many-{number}") for number in range(101)]
    problem(client.post("/predict?explain=true", json={"new_data": records}), 422)
    problem(client.get("/predictions/many-0/explanation"), 404)  # nothing of the list was stored
    problem(client.get("/predictions/nobody/explanation"), 404)
    problem(client.get("/predictions/nobody/explanation?limit=0"), 422)


def test_an_explanation_that_fails_never_fails_a_decision(client: httpx.Client, module_database: Any) -> None:
    decide(client, "unexplained")
    change(module_database, "unexplained", "model_version = '99'")
    answer = decide(client, "unexplained", "?explain=true")
    assert answer["model_version"] == "99"
    assert answer["explanation"] == {
        "available": False,
        "problem": "Version 99 cannot be loaded: Version 99 is not in model_versions.",
    }
    assert (
        "not in model_versions" in problem(client.get("/predictions/unexplained/explanation"), 409)["detail"]
    )


def test_contributions_of_another_score_are_withheld(client: httpx.Client, module_database: Any) -> None:
    decided = decide(client, "other-score")
    change(module_database, "other-score", "score = %s", abs(decided["score"] - 0.5))
    detail = problem(client.get("/predictions/other-score/explanation"), 409)["detail"]
    assert "do not add up" in detail
    assert decide(client, "other-score", "?explain=true")["explanation"]["problem"] == detail


# --- replays --------------------------------------------------------------------------------------


def test_a_replay_gives_the_same_bits_by_the_engine_that_decided(client: httpx.Client) -> None:
    single = decide(client, "by-onnx")
    records = [creditcard(f"by-xgboost-{number}", seed=number) for number in range(20)]
    listed = client.post("/predict", json={"new_data": records}).json()["predictions"]
    assert {single["engine"].partition("-")[0], listed[0]["engine"].partition("-")[0]} == {"onnx", "xgboost"}
    for decided in (single, *listed):
        document = client.post(f"/predictions/{decided['transaction_id']}/replay").json()
        assert document["identical"] is True
        assert document["stored_score"] == document["replayed_score"] == decided["score"]
        assert document["engine"] == decided["engine"]


def test_a_changed_vector_or_score_is_found(client: httpx.Client, module_database: Any) -> None:
    decided = decide(client, "changed", v1=4.0)
    change(module_database, "changed", "feature_vector[1] = -4.0")
    document = client.post("/predictions/changed/replay").json()
    assert (document["identical"], document["stored_score"]) == (False, decided["score"])
    decided = decide(client, "nudged")
    change(module_database, "nudged", "score = %s", math.nextafter(decided["score"], 1))
    assert client.post("/predictions/nudged/replay").json()["identical"] is False


def test_a_version_that_no_longer_serves_replays_what_it_decided(
    client: httpx.Client, server: ApiServer, module_database: Any
) -> None:
    decided = decide(client, "older")
    folder = older_version(server, module_database, "6", seed=5)
    change(module_database, "older", "model_version = '6'")
    first = client.post("/predictions/older/replay").json()
    assert first["replayed_score"] != decided["score"]  # another model, another score
    change(module_database, "older", "score = %s", first["replayed_score"])
    assert client.post("/predictions/older/replay").json()["identical"] is True
    assert client.get("/predictions/older/explanation").json()["model_version"] == "6"
    shutil.rmtree(folder)  # it is in memory now
    assert client.post("/predictions/older/replay").json()["identical"] is True


def test_a_version_or_engine_that_is_not_to_be_had_is_said(
    client: httpx.Client, server: ApiServer, module_database: Any
) -> None:
    problem(client.post("/predictions/nobody/replay"), 404)
    decide(client, "engine")
    change(module_database, "engine", "engine = 'onnx-0.1'")
    assert "made by onnx-0.1" in problem(client.post("/predictions/engine/replay"), 409)["detail"]
    decide(client, "gone")
    change(module_database, "gone", "model_version = '98'")
    assert "not in model_versions" in problem(client.post("/predictions/gone/replay"), 409)["detail"]
    decide(client, "altered")
    folder = older_version(server, module_database, "5", seed=6)
    (folder / "model.onnx").write_bytes(b"another model")
    change(module_database, "altered", "model_version = '5'")
    # The altered files are refused, and the registry, which has the right ones, is away.
    answer = client.post("/predictions/altered/replay")
    assert "Version 5 cannot be fetched" in problem(answer, 503)["detail"]
    assert not folder.exists()
    decide(client, "narrow")
    change(module_database, "narrow", "feature_vector = '{1,2}'")
    assert "30 features" in problem(client.post("/predictions/narrow/replay"), 409)["detail"]
