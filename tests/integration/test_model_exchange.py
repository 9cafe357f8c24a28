"""Models go out to MLflow's own client and come in from elsewhere; versions are promoted and rolled back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost
import yaml

from config import constants
from config.job_results.trainer import RollbackResult, TrainingResult
from config.settings import ObjectStoreSettings
from fraud_adapters.job.failures import JobFailed
from fraud_adapters.models.loading import ENGINE_SINGLE, Model
from fraud_adapters.models.registry import Registry
from fraud_adapters.postgres import audit, connect
from fraud_core.features import feature_matrix
from fraud_trainer.job import main
from tests.integration.training_installation import Installation, wire_rows
from tests.integration.training_job import small_configuration, small_installation
from tests.support.api_server import cloned
from tests.support.mlflow_users import mlflow_login
from tests.support.small_model import linear_onnx
from tests.support.stored_rows import run
from tests.support.typed_results import mismatches

CHAMPION, CHALLENGER, PREVIOUS = (
    constants.ALIAS_CHAMPION,
    constants.ALIAS_CHALLENGER,
    constants.ALIAS_PREVIOUS,
)


@pytest.fixture(scope="module")
def installation(
    template: Any,
    postgres_admin_url: str,
    mlflow_uri: str,
    object_store: ObjectStoreSettings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Installation]:
    """An installation whose first model is champion, as version 1, though promotion is manual."""
    folder = tmp_path_factory.mktemp("installation")
    with (
        cloned(template, postgres_admin_url, "model_exchange") as database,
        small_installation(database, mlflow_uri, object_store, folder) as ready,
        pytest.MonkeyPatch.context() as patch,
    ):
        with_promotion(patch, folder / "manual", "manual")
        assert main(["first-model"])["register"]["aliases"] == {CHAMPION: "1"}
        patch.undo()
        yield ready


@pytest.fixture
def registry(installation: Installation) -> Iterator[Registry]:
    with Registry(installation.mlflow_uri) as reader:
        yield reader


@pytest.fixture(scope="module")
def labelled(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of labelled transactions."""
    rows, labels = wire_rows(3000, break_in_payer=" ")
    columns = {**rows.columns, "event_time": rows.event_times, "is_fraud": labels}
    path = tmp_path_factory.mktemp("data") / "labelled.parquet"
    # A number that is missing is null in the file.
    pq.write_table(
        pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()}), path
    )
    return path


def load(registry: Registry, installation: Installation, version: str, folder: Path) -> Model:
    """A version as a service loads it."""
    name = installation.contract.registered_model
    ((digest,),) = run(
        installation.database.url("owner"),
        "SELECT digest FROM model_versions WHERE name = %s AND version = %s",
        name,
        version,
    )
    return Model.load(registry.download(name, version, folder), digest, installation.contract)


# Nothing of ours is imported: this is what anybody with MLflow's client does.
STOCK_CLIENT = """
import json, sys
import mlflow, pandas
uri, rows = sys.argv[1], json.loads(sys.argv[2])
model = mlflow.pyfunc.load_model(uri)
names = model.metadata.get_input_schema().input_names()
frame = pandas.DataFrame(rows, columns=names).astype("float64")
trees = mlflow.xgboost.load_model(uri)
import xgboost
answer = {
    "names": names,
    "scores": model.predict(frame)["score"].tolist(),
    "outputs": model.metadata.get_output_schema().input_names(),
    "example": model.predict(model.input_example)["score"].tolist(),
    "trees": trees.predict(xgboost.DMatrix(frame)).tolist(),
    "onnx": [output.name for output in mlflow.onnx.load_model(uri).graph.output],
    "ours": [name for name in sys.modules if name.startswith("fraud_")],
}
print(json.dumps(answer))
"""


def stock(installation: Installation, *arguments: str) -> str:
    """The output of a program that knows MLflow's address and the log-in of a person who reads."""
    names = ("PATH", "HOME", "LANG", "SSL_CERT_FILE")
    environment = {name: os.environ[name] for name in names if name in os.environ}
    settings = {
        "MLFLOW_TRACKING_URI": installation.mlflow_uri,
        **mlflow_login("person"),
        **constants.PROCESS_ENVIRONMENT,
    }
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment | settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_stock_client_loads_the_champion(
    installation: Installation, registry: Registry, tmp_path: Path
) -> None:
    model = load(registry, installation, "1", tmp_path)
    features = feature_matrix(installation.contract, wire_rows(50)[0])
    assert np.isnan(features).any()
    rows = [[None if np.isnan(value) else float(value) for value in row] for row in features]
    uri = f"models:/{installation.contract.registered_model}@{CHAMPION}"
    answer = json.loads(stock(installation, "-c", STOCK_CLIENT, uri, json.dumps(rows)).splitlines()[-1])
    assert answer["names"] == list(installation.contract.feature_names)
    assert answer["outputs"] == answer["onnx"] == ["score"]
    assert answer["ours"] == []
    expected = model.score_with(ENGINE_SINGLE, features).values
    assert np.allclose(answer["scores"], expected, rtol=0, atol=1e-12)
    trees = xgboost.Booster(model_file=tmp_path / "model.ubj")
    margins = trees.inplace_predict(features, predict_type="margin")
    assert np.allclose(answer["trees"], 1 / (1 + np.exp(-margins)), atol=1e-6)
    # The example's rows are typical of a legitimate transaction and of a fraud.
    legitimate, fraud = answer["example"]
    assert legitimate < model.manifest.threshold < fraud


def test_mlflow_models_predict_scores_the_versions_own_example(
    installation: Installation, tmp_path: Path
) -> None:
    # It takes two seconds, and at the head of this file would take them in every worker.
    from mlflow.artifacts import download_artifacts  # noqa: PLC0415

    uri, login = f"models:/{installation.contract.registered_model}/1", mlflow_login("person")
    folder = tmp_path / "model"
    download_artifacts(artifact_uri=uri, dst_path=str(folder), tracking_uri=installation.mlflow_uri)
    example, output = folder / "serving_input_example.json", tmp_path / "output.json"
    options = ["-i", str(example), "-o", str(output), "-t", "json", "--env-manager", "local"]
    stock(installation, "-m", "mlflow", "models", "predict", "-m", uri, *options)
    scores = [row["score"] for row in json.loads(output.read_text())["predictions"]]
    assert len(scores) == 2
    assert 0 <= scores[0] < scores[1] <= 1
    # The file as MLflow's page of the version reads it.
    person = (login["MLFLOW_TRACKING_USERNAME"], login["MLFLOW_TRACKING_PASSWORD"])
    query = {"path": "MLmodel", "name": installation.contract.registered_model, "version": "1"}
    page = httpx.get(
        f"{installation.mlflow_uri}/model-versions/get-artifact", params=query, auth=person, trust_env=False
    )
    assert page.text == (folder / "MLmodel").read_text()
    described = yaml.safe_load(page.text)
    assert set(described["flavors"]) == {"python_function", "onnx", "xgboost"}
    assert "not calibrated" in described["metadata"]["xgboost"]
    pinned = (folder / "requirements.txt").read_text().splitlines()
    assert f"xgboost=={xgboost.__version__}" in pinned


def train_elsewhere(folder: Path, installation: Installation, order: list[int]) -> tuple[Path, Any]:
    """Trees over the contract's features in another order, with their names."""
    rows, labels = wire_rows(3000)
    features = feature_matrix(installation.contract, rows)[:, order]
    names = [installation.contract.feature_names[position].upper() for position in order]
    learn = xgboost.DMatrix(features[:1000], labels[:1000], feature_names=names)
    trees = xgboost.train({"objective": "binary:logistic", "max_depth": 4, "nthread": 1}, learn, 30)
    trees.save_model(folder / "theirs.ubj")
    return folder / "theirs.ubj", trees


def test_trees_from_elsewhere_enter_by_one_command(
    installation: Installation, registry: Registry, labelled: Path, tmp_path: Path
) -> None:
    order = [3, 0, 5, 1, 4, 2]
    path, trees = train_elsewhere(tmp_path, installation, order)
    result = main(["import", "--model", str(path), "--data", str(labelled)])
    registered = result["register"]
    assert registered["gate_passed"] is True
    assert result["load"]["sources"] == {"file": 3000}
    assert list(mismatches(TrainingResult, json.loads(json.dumps(result)))) == []
    model = load(registry, installation, registered["version"], tmp_path / "back")
    features = feature_matrix(installation.contract, wire_rows(200)[0])
    theirs = trees.inplace_predict(features[:, order], predict_type="margin", validate_features=False)
    assert np.array_equal(model.score_batch(features).values, model.manifest.calibration.scores(theirs))
    ((origin, digest, code, parent),) = run(
        installation.database.url("owner"),
        "SELECT origin, trim(data_digest), code_version, parent_run FROM model_versions"
        " WHERE name = %s AND version = %s",
        installation.contract.registered_model,
        registered["version"],
    )
    assert (origin, digest, parent) == ("imported", result["load"]["digest"], result["prefix"])
    assert code == model.manifest.code_version


def test_an_onnx_model_enters_and_serves_without_trees(
    installation: Installation, registry: Registry, labelled: Path, tmp_path: Path
) -> None:
    path = tmp_path / "theirs.onnx"
    weights = np.array([[0.02], [0.0], [1.0], [0.0], [0.5], [0.0]], dtype=np.float32)
    path.write_bytes(linear_onnx(weights))
    result = main(
        ["import", "--model", str(path), "--data", str(labelled), "--output", "margin", "--threshold", "0.5"]
    )
    assert (result["train"]["output"], result["train"]["threshold"]) == ("margin", 0.5)
    version = result["register"]["version"]
    model = load(registry, installation, version, tmp_path / "back")
    assert set(model.manifest.engines) == {"onnx"}
    assert model.engine_batch == ENGINE_SINGLE
    features = feature_matrix(installation.contract, wire_rows(300)[0])
    scores = model.score_batch(features)
    assert scores.engine == ENGINE_SINGLE
    assert np.array_equal(scores.values, model.score_with(ENGINE_SINGLE, features).values)


def test_what_cannot_be_imported_is_one_sentence_and_no_version(
    installation: Installation, labelled: Path, tmp_path: Path
) -> None:
    def versions() -> Any:
        return run(installation.database.url("owner"), "SELECT count(*) FROM model_versions")

    before = versions()
    narrow = tmp_path / "narrow.onnx"
    narrow.write_bytes(linear_onnx(np.ones((5, 1), dtype=np.float32)))
    pickled = tmp_path / "model.pkl"
    pickled.write_bytes(b"\x80\x04.")
    for path, words in ((narrow, "takes 5 features, the contract has 6"), (pickled, "they are code")):
        with pytest.raises(JobFailed, match=words) as refusal:
            main(["import", "--model", str(path), "--data", str(labelled)])
        assert "\n" not in str(refusal.value)
    backwards = tmp_path / "backwards.onnx"
    backwards.write_bytes(linear_onnx(np.full((6, 1), -0.02, dtype=np.float32)))
    with pytest.raises(JobFailed, match="does not rank frauds above other"):
        main(["import", "--model", str(backwards), "--data", str(labelled)])
    assert versions() == before


def with_promotion(monkeypatch: pytest.MonkeyPatch, folder: Path, promotion: str) -> None:
    configuration = small_configuration(folder, training={"promotion": promotion})
    monkeypatch.setenv("FRAUD_CONFIG_DIR", str(configuration))


def champion_of(registry: Registry, installation: Installation, alias: str = CHAMPION) -> str | None:
    return registry.version_of_alias(installation.contract.registered_model, alias)


def test_promotion_decides_what_becomes_of_a_version(
    installation: Installation,
    registry: Registry,
    labelled: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = installation.contract.registered_model
    champion = champion_of(registry, installation)
    for promotion, words in (
        ("manual", "a person promotes it"),
        ("canary", "by the DAG 05_model_deployment_canary"),
    ):
        with_promotion(monkeypatch, tmp_path / promotion, promotion)
        registered = main(["run", "--run-id", promotion])["register"]
        assert registered["aliases"] == {CHALLENGER: registered["version"]}
        assert words in registered["promotion"]
    assert champion_of(registry, installation) == champion

    # Compared on the same rows: as good becomes champion, far worse does not.
    with_promotion(monkeypatch, tmp_path / "best", "best")
    best = main(["run", "--run-id", "best"])["register"]
    assert best["aliases"] == {PREVIOUS: champion, CHAMPION: best["version"]}
    assert {figure["figure"] for figure in best["compared"]} == {"recall", "fpr", "f1", "average_precision"}
    assert not any(figure["worse"] for figure in best["compared"])
    monkeypatch.setenv("FRAUD_CONFIG_DIR", str(_weak_configuration(tmp_path / "weak")))
    weights = np.array([[0], [0], [1], [0], [0], [0]], dtype=np.float32)  # of `urgent` alone
    (tmp_path / "weak.onnx").write_bytes(linear_onnx(weights))
    weak = main(["import", "--model", str(tmp_path / "weak.onnx"), "--data", str(labelled)])["register"]
    assert weak["gate_passed"] is True
    assert weak["aliases"] == {CHALLENGER: weak["version"]}
    assert f"worse than champion {best['version']}" in weak["promotion"]

    # The retry of an old run does not dethrone its successor.
    with_promotion(monkeypatch, tmp_path / "again", "best")
    again = main(["register", "--run-id", "manual"])["register"]
    assert (again["aliases"], champion_of(registry, installation)) == ({}, best["version"])
    with (
        closing(connect(installation.database.url("trainer"), "test")) as connection,
        connection.cursor() as c,
    ):
        history = audit.alias_history(c, name, 10)
    assert [(change.alias, change.version) for change in history[:3]] == [
        (CHALLENGER, weak["version"]),
        (CHAMPION, best["version"]),
        (PREVIOUS, champion),
    ]
    assert "worse" in history[0].details["reason"]


def test_a_rollback_makes_the_previous_version_champion_once(
    installation: Installation, registry: Registry
) -> None:
    name, owner = installation.contract.registered_model, installation.database.url("owner")
    champion, previous = (champion_of(registry, installation, alias) for alias in (CHAMPION, PREVIOUS))
    assert champion != previous
    first = main(["rollback"])
    assert first == {
        "status": "done",
        "name": name,
        "champion": previous,
        "champion_before": champion,
        "changed": True,
    }
    assert list(mismatches(RollbackResult, first)) == []
    assert champion_of(registry, installation) == previous
    second = main(["rollback"])
    assert (second["champion"], second["changed"]) == (previous, False)
    entries = run(
        owner, "SELECT version, details ->> 'reason' FROM model_alias_history WHERE details ? 'reason'"
    )
    assert entries.count((previous, "rollback")) == 1
    assert run(owner, "SELECT * FROM audit_verify()") == []
    # A version that must not serve is not rolled back to.
    registry.set_alias(name, CHAMPION, str(champion))
    run(owner, "UPDATE model_versions SET gate_passed = false WHERE version = %s", previous)
    with pytest.raises(JobFailed, match="did not pass the gate"):
        main(["rollback"])
    assert champion_of(registry, installation) == champion
    registry.set_alias(name, PREVIOUS, "1")
    run(owner, "UPDATE model_versions SET digest = repeat('0', 64), gate_passed = true WHERE version = '1'")
    with pytest.raises(JobFailed, match="digest"):
        main(["rollback"])


def _weak_configuration(folder: Path) -> Path:
    """A gate that a weak model passes."""
    gates = {"specification": {"min_recall": 0.05, "max_fpr": 0.9, "min_f1": 0.05, "min_frauds": 100}}
    return small_configuration(folder, training={"promotion": "best"}, gates=gates)
