"""Training runs that are stopped, repeated or tampered with: what remains, and what is accepted."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from config import constants
from config.job_results.common import EXIT_CONFIGURATION, EXIT_FAILED
from config.settings import ConfigurationError, ObjectStoreSettings
from fraud_adapters.job.failures import JobFailed
from fraud_adapters.models.registry_writer import RegistryWriter
from fraud_adapters.objectstore import ObjectStore
from fraud_adapters.postgres import connect
from fraud_trainer.job import main
from tests.integration.training_installation import WIRE, Installation, installed
from tests.integration.training_job import (
    TrainerJob,
    relayed,
    small_configuration,
    small_installation,
    statuses,
    versions,
)
from tests.support.api_server import cloned
from tests.support.stored_rows import Database, run, waits_for_a_lock
from tests.support.waiting import eventually

FIRST = ["--run-id", "first"]
FOLDER = "runs/01_training_pipeline/first"
DAY = timedelta(days=1)


@pytest.fixture
def installation(
    database: Database, mlflow_uri: str, object_store: ObjectStoreSettings, tmp_path: Path
) -> Iterator[Installation]:
    with small_installation(database, mlflow_uri, object_store, tmp_path) as ready:
        yield ready


@pytest.fixture(scope="module")
def without_rows(
    template: Any,
    postgres_admin_url: str,
    mlflow_uri: str,
    object_store: ObjectStoreSettings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Installation]:
    """An installation without transactions, for what is refused before any is read."""
    folder = tmp_path_factory.mktemp("without-rows")
    with (
        cloned(template, postgres_admin_url, "trainer_runs") as database,
        installed(WIRE, database, mlflow_uri, object_store, folder) as ready,
    ):
        yield ready


@pytest.fixture
def bucket(object_store: ObjectStoreSettings) -> ObjectStore:
    return ObjectStore(object_store, constants.BUCKET_RUNS)


# --- a moment that has not come -----------------------------------------------------------------


@pytest.mark.parametrize("verb", ["load", "run", "first-model"])
@pytest.mark.parametrize("ahead", [timedelta(minutes=1), DAY, timedelta(days=365 * 150)])
def test_labels_of_a_moment_that_has_not_come_are_refused(
    without_rows: Installation, verb: str, ahead: timedelta
) -> None:
    moment = (datetime.now(UTC) + ahead).isoformat()
    with pytest.raises(ConfigurationError, match=r"--as-of: .* is in the future, now is 20\d\d-") as refused:
        main([verb, "--as-of", moment])
    assert moment[:16] in str(refused.value)
    assert statuses(without_rows) == []


@pytest.mark.parametrize(
    "moment",
    [
        "2026-01-01T00:00:00",
        "2026-01-01",
        "9999",
        "infinity",
        "9999-12-31T23:59:59-12:00",
        "0001-01-01T00:00:00+12:00",
    ],
)
def test_what_is_not_a_moment_is_refused(moment: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["load", "--as-of", moment])
    assert ended.value.code == EXIT_CONFIGURATION
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "argument --as-of: must be a time with a zone from 1970 to 2199" in last


@pytest.mark.parametrize("verb", ["features", "train", "validate", "register", "clean", "buckets"])
def test_only_what_loads_takes_a_moment(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([verb, *([] if verb in {"clean", "buckets"} else FIRST), "--as-of", "2026-01-01T00:00:00Z"])
    assert "unrecognized arguments: --as-of" in capsys.readouterr().err


def test_a_moment_that_has_passed_is_the_cut_off_and_nothing_else(
    installation: Installation, bucket: ObjectStore
) -> None:
    moment = "2025-06-01T00:00:00+00:00"
    before = datetime.now(UTC)
    main(["run", *FIRST, "--as-of", moment])
    assert json.loads(bucket.get_bytes(f"{FOLDER}/load.json"))["as_of"] == moment
    created_at = json.loads(bucket.get_bytes(f"{FOLDER}/manifest.json"))["created_at"]
    assert datetime.fromisoformat(created_at) >= before


@pytest.mark.parametrize("role", ["trainer", "readonly"])
@pytest.mark.parametrize("moment", ["now() + interval '1 minute'", "'9999-01-01Z'", "'infinity'"])
def test_the_database_refuses_labels_of_the_future(database: Database, role: str, moment: str) -> None:
    with pytest.raises(psycopg2.DataError, match=r"labels_as_of: .* has not come yet, now is"):
        run(database.url(role), f"SELECT count(*) FROM labels_as_of({moment})")
    assert run(database.url(role), "SELECT count(*) FROM labels_as_of(now())") == [(0,)]


# --- signals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "number", "remaining"),
    [
        ("load", signal.SIGTERM, ([],)),
        ("features", signal.SIGINT, ([], ["KILLED"])),
        ("train", signal.SIGTERM, (["KILLED"],)),
        ("train", signal.SIGINT, (["KILLED"],)),
        ("validate", signal.SIGHUP, (["KILLED"],)),
    ],
)
def test_a_job_that_is_stopped_leaves_no_run_open(
    installation: Installation, after: str, number: signal.Signals, remaining: tuple[list[str], ...]
) -> None:
    with TrainerJob("run", *FIRST) as job:
        job.step_done(after)
        assert job.stop(number) == 128 + number
    assert job.lines[-1] == f"interrupted: Interrupted by {number.name}: what was committed is kept."
    assert statuses(installation) in remaining


@pytest.mark.parametrize(("table", "remaining"), [("transactions", []), ("model_versions", ["KILLED"])])
def test_a_job_that_waits_for_the_database_stops_at_once(
    installation: Installation, table: str, remaining: list[str]
) -> None:
    """In `load`, and in `register`, which is then repeated."""
    with closing(connect(installation.database.url("owner"), "test")) as connection:
        connection.cursor().execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        with TrainerJob("run", *FIRST) as job:
            assert eventually(
                lambda: waits_for_a_lock(installation.database.url("admin"), "fraud_trainer"), 120
            )
            assert job.stop(signal.SIGTERM) == 128 + signal.SIGTERM
    assert statuses(installation) == remaining
    if remaining:
        assert main(["register", *FIRST])["register"]["version"] == "1"
        assert (statuses(installation), versions(installation)) == (["FINISHED"], ["1"])


def test_a_run_that_is_stopped_while_it_trains_is_taken_up_again(
    installation: Installation, tmp_path: Path
) -> None:
    slow = small_configuration(tmp_path / "slow", training={"rounds": 20_000, "early_stopping": 20_000})
    with TrainerJob("run", *FIRST, environment={"FRAUD_CONFIG_DIR": str(slow)}) as job:
        job.step_done("features")
        assert eventually(lambda: statuses(installation) == ["RUNNING"], 60)
        assert job.stop(signal.SIGTERM) == 128 + signal.SIGTERM
    assert statuses(installation) == ["KILLED"]
    main(["train", *FIRST])  # with other parameters, which one run in MLflow cannot hold
    main(["train", *FIRST])
    assert statuses(installation) == ["KILLED", "RUNNING"]


def test_after_sigkill_the_next_try_goes_on_with_the_run(installation: Installation) -> None:
    with TrainerJob("run", *FIRST) as job:
        job.step_done("train")
        assert job.stop(signal.SIGKILL) == -signal.SIGKILL
    assert statuses(installation) == ["RUNNING"]
    main(["run", *FIRST])
    assert (statuses(installation), versions(installation)) == (["FINISHED"], ["1"])


def test_after_sigkill_a_try_on_other_data_ends_the_run_and_a_try_that_fails_too(
    installation: Installation,
) -> None:
    for verb in ("load", "features", "train"):
        main([verb, *FIRST])
    run(installation.database.url("admin"), "DELETE FROM transactions WHERE event_time > '2024-03-02Z'")
    with pytest.raises(JobFailed):
        main(["run", *FIRST])  # too few rows for the gate
    actual = statuses(installation)
    assert "RUNNING" not in actual
    assert actual[0] == "KILLED"


def test_without_mlflow_a_stopped_job_ends_all_the_same(installation: Installation) -> None:
    with (
        relayed(installation.mlflow_uri) as relay,
        TrainerJob("run", *FIRST, environment={"MLFLOW_TRACKING_URI": relay.url}) as job,
    ):
        job.step_done("train")
        relay.cut()
        assert job.stop(signal.SIGTERM) in {128 + signal.SIGTERM, EXIT_FAILED}
    assert any("run_left_open" in line for line in job.lines)
    assert statuses(installation) == ["RUNNING"]
    main(["run", *FIRST])
    assert statuses(installation) == ["FINISHED"]


# --- what register accepts ------------------------------------------------------------------------


class Bucket:
    """A run's folder, changed as by an attacker who may write to the bucket."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._original = {key: store.get_bytes(key) for key in store.list(FOLDER)}

    def restore(self) -> None:
        for key, content in self._original.items():
            self._store.put_bytes(key, content)

    def read(self, name: str) -> Any:
        return json.loads(self._store.get_bytes(f"{FOLDER}/{name}.json"))

    def write(self, name: str, content: Any) -> str:
        return self.put(f"{name}.json", json.dumps(content).encode())

    def put(self, name: str, content: bytes) -> str:
        self._store.put_bytes(f"{FOLDER}/{name}", content)
        return hashlib.sha256(content).hexdigest()

    def copy(self, run: str, *names: str) -> None:
        for name in names:
            other = FOLDER.replace("first", run)
            self._store.put_bytes(f"{FOLDER}/{name}", self._store.get_bytes(f"{other}/{name}"))


def _edit(name: str, **fields: Any) -> Callable[[Bucket], object]:
    return lambda bucket: bucket.write(name, {**bucket.read(name), **fields})


def _strip(bucket: Bucket) -> None:
    validated = bucket.read("validate")
    bucket.write("validate", {name: validated[name] for name in ("_run", "_follows")})


def _forge_the_metrics(bucket: Bucket) -> None:
    """In the manifest and in what validate says of it, with the right digest."""
    manifest = bucket.read("manifest")
    better = {**manifest["metrics"], "recall": 1.0, "fpr": 0.0, "f1": 1.0}
    digest = bucket.write("manifest", {**manifest, "metrics": better})
    bucket.write("validate", {**bucket.read("validate"), "digest": digest, "metrics": better, "passed": True})


def _forge_the_model(bucket: Bucket) -> None:
    """Another run's trees, with all digests after them put right."""
    bucket.copy("second", "model.ubj", "model.onnx", "manifest.json")
    second_run = json.loads(bucket._store.get_bytes(f"{FOLDER.replace('first', 'second')}/train.json"))
    trained = bucket.write("train", {**bucket.read("train"), "digests": second_run["digests"]})
    bucket.write("validate", {**bucket.read("validate"), "_follows": trained})


def _forge_the_held_out_part(bucket: Bucket) -> None:
    digest = bucket.put("features.parquet", bucket._store.get_bytes(f"{FOLDER}/features.parquet") + b"x")
    features = bucket.write("features", {**bucket.read("features"), "digest": digest})
    trained = bucket.write("train", {**bucket.read("train"), "_follows": features})
    bucket.write("validate", {**bucket.read("validate"), "_follows": trained})


EVERYTHING = [f"{name}.json" for name in ("load", "features", "train", "validate", "manifest")] + [
    f"{name}.parquet" for name in ("examples", "features")
]
AGAIN = "holds another verdict than the gate gives now"
FORGED = "does not show the training that"
FORGERIES: dict[str, tuple[Callable[[Bucket], object], str]] = {
    "load again": (lambda _: main(["load", *FIRST]), "features.json does not follow from load.json"),
    "verdict edited": (_edit("validate", passed=False), AGAIN),
    "gate edited": (_edit("validate", gate={"checks": 7}), AGAIN),
    "digest of nothing": (_edit("validate", digest="0" * 64), "manifest.json was changed after it was"),
    "not JSON": (lambda bucket: bucket.put("validate.json", b"{"), "is not what validate writes"),
    "no object": (lambda bucket: bucket.write("validate", [1]), "is not what validate writes"),
    "fields missing": (_strip, "holds no"),
    "manifest edited": (_edit("manifest", threshold=0.0), "manifest.json was changed"),
    "profile edited": (lambda bucket: bucket.write("profile", {}), "profile.json was changed"),
    "metrics forged": (_forge_the_metrics, "does not describe the model that train left"),
    "threshold edited": (_edit("train", threshold=0.0), "does not follow"),
    "model replaced": (lambda bucket: bucket.copy("second", "model.ubj"), "model.ubj was changed"),
    "model forged": (_forge_the_model, FORGED),
    "held-out part forged": (_forge_the_held_out_part, FORGED),
    "another run's files": (lambda bucket: bucket.copy("second", *EVERYTHING), "is of the run"),
    # Last: MLflow then knows of this training and no longer of the one before.
    "train again": (lambda _: main(["train", *FIRST]), "validate.json does not follow from train.json"),
}


def test_register_believes_nothing_that_was_changed_in_the_bucket(
    installation: Installation, bucket: ObjectStore
) -> None:
    with pytest.raises(JobFailed, match=r"validate\.json is missing: run the step before it first"):
        main(["register", *FIRST])
    for verb in ("load", "features", "train"):
        main([verb, *FIRST])
    with pytest.raises(JobFailed, match=r"validate\.json is missing"):
        main(["register", *FIRST])
    main(["validate", *FIRST])
    run(installation.database.url("admin"), "DELETE FROM transactions WHERE transaction_id = 'w1'")
    for verb in ("load", "features", "train", "validate"):
        main([verb, "--run-id", "second"])
    folder = Bucket(bucket)
    for name, (forge, sentence) in FORGERIES.items():
        forge(folder)
        with pytest.raises(JobFailed) as refused:
            main(["register", *FIRST, "--promote"])
        assert sentence in str(refused.value), name
        assert versions(installation) == [], name
        assert run(installation.database.url("owner"), "SELECT version FROM model_versions") == [], name
        # Only what trained again opened anything.
        assert statuses(installation)[0] == "FAILED", name
        if name != "train again":
            folder.restore()
    main(["validate", *FIRST])
    with ThreadPoolExecutor(3) as executor:
        registered = list(executor.map(lambda _: main(["register", *FIRST])["register"]["version"], range(3)))
    assert registered == ["1", "1", "1"]
    assert versions(installation) == ["1"]


def test_training_a_registered_run_again_makes_a_run_and_a_version_of_their_own(
    installation: Installation,
) -> None:
    first = main(["run", *FIRST])["register"]
    main(["train", *FIRST])
    assert statuses(installation) == ["FINISHED", "RUNNING"]
    with pytest.raises(JobFailed, match=r"validate\.json does not follow from train\.json"):
        main(["register", *FIRST])
    assert statuses(installation) == ["FINISHED", "FAILED"]
    main(["validate", *FIRST])
    second = main(["register", *FIRST])["register"]
    assert (first["version"], second["version"]) == ("1", "2")
    assert statuses(installation) == ["FINISHED", "FINISHED"]


def test_a_version_is_judged_once(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that failed the gate does not become champion when the gate is lowered later."""
    bounds = {"min_recall": 1.0, "max_fpr": 0.0, "min_f1": 1.0, "min_frauds": 100}
    strict = {"gates": {"specification": bounds}}
    lenient = str(small_configuration(tmp_path / "lenient"))
    monkeypatch.setenv("FRAUD_CONFIG_DIR", str(small_configuration(tmp_path / "strict", **strict)))
    with pytest.raises(JobFailed, match="Version 1 is registered without an alias"):
        main(["run", *FIRST])
    monkeypatch.setenv("FRAUD_CONFIG_DIR", lenient)
    with pytest.raises(JobFailed, match="holds another verdict than the gate gives now"):
        main(["register", *FIRST])
    main(["validate", *FIRST])
    with pytest.raises(JobFailed, match=r"is recorded with another verdict .gate specification failed"):
        main(["register", *FIRST])
    client = RegistryWriter(installation.mlflow_uri)._client
    assert client.get_registered_model(installation.contract.registered_model).aliases == {}
