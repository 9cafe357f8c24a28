"""Training and batch scoring on a Dask cluster of two workers, against the same in one process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
import pyarrow as pa
import pytest
from distributed import LocalCluster

from config.settings import ConfigurationError, DaskSettings, ObjectStoreSettings, load
from fraud_adapters.dask_cluster import ClusterUnavailable, ClusterUnfit, DaskCluster, workers_of
from fraud_batch.chunks import Chunk, ScoredChunk
from fraud_batch.dask_engine import DaskEngine
from fraud_trainer.arguments import parser
from fraud_trainer.engines.engine import LocalEngine, choose_engine
from fraud_trainer.engines.feature_table import FeatureTable
from fraud_trainer.engines.tables import parts_of
from fraud_trainer.job import execute, run_context_of
from fraud_trainer.run_context import RunContext
from tests.integration.batch_installation import (
    batch_installation,
    columns_of,
    score,
    transactions,
    write_csv,
)
from tests.integration.training_installation import CREDITCARD, ROWS, Installation, card_rows, installed
from tests.support.stored_rows import Database

pytestmark = pytest.mark.timeout(300)
NOW: Final = datetime(2030, 1, 1, tzinfo=UTC)
FILES: Final = {"load": "examples", "features": "features"}


@pytest.fixture
def installation(
    database: Database, mlflow_uri: str, object_store: ObjectStoreSettings, tmp_path: Path
) -> Iterator[Installation]:
    with installed(CREDITCARD, database, mlflow_uri, object_store, tmp_path) as ready:
        card_rows(ready, 20_000, overlap=0.3)
        yield ready


@pytest.fixture
def cluster(installation: Installation) -> Iterator[LocalCluster]:
    """Two worker processes, which find Postgres and the object store by their own environment."""
    assert installation.database
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    ) as running:
        yield running


def table(context: RunContext, step: str) -> pa.Table:
    parts = parts_of(context.run.step(step), f"{FILES[step]}.parquet")
    return pa.concat_tables([context.run.get_table(part["name"], part["digest"]) for part in parts])


def steps(name: str, *verbs: str, monkeypatch: pytest.MonkeyPatch, scheduler: str = "") -> Any:
    """Run steps in one process, or on the scheduler's workers; gives the context of their run."""
    monkeypatch.setenv("DASK_SCHEDULER", scheduler)
    options = parser(NOW).parse_args(["load", "--run-id", name])
    with run_context_of(options, datetime.now(UTC)) as context:
        for verb in verbs:
            execute(verb, context, promote=False)
    return context


def result(name: str, *verbs: str, monkeypatch: pytest.MonkeyPatch, scheduler: str = "") -> dict[str, Any]:
    """The result of the last of some steps."""
    monkeypatch.setenv("DASK_SCHEDULER", scheduler)
    options = parser(NOW).parse_args(["load", "--run-id", name])
    with run_context_of(options, datetime.now(UTC)) as context:
        for verb in verbs:
            outcome: Any = execute(verb, context, promote=False)
    return dict(outcome[verbs[-1]])


@pytest.mark.proof
def test_rows_are_equal_and_the_model_is_as_good(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ("load", "features", "train")
    address = cluster.scheduler_address
    local = steps("local", *first, monkeypatch=monkeypatch)
    spread = steps("spread", *first, monkeypatch=monkeypatch, scheduler=address)
    assert (local.engine.name, spread.engine.name) == ("local", f"dask at {address}")
    assert len(parts_of(spread.run.step("features"), "features.parquet")) == 4
    for step in ("load", "features"):
        assert table(spread, step).equals(table(local, step)), step
        for figure in ("rows", "frauds", "sources", "missing", "left_out_unknown"):
            assert spread.run.step(step).outcome.get(figure) == local.run.step(step).outcome.get(figure)
    assert spread.run.step("train")["split"] == local.run.step("train")["split"]
    fitted = spread.run.step("train")["candidates"]["xgboost"]["details"]
    assert fitted["fitted_on"].endswith("rows, on the workers")
    assert int(fitted["fitted_on"].split()[0]) == local.run.step("train")["split"]["train"]["to"]
    judged = {
        "local": result("local", "validate", monkeypatch=monkeypatch)["metrics"],
        "spread": result("spread", "validate", monkeypatch=monkeypatch, scheduler=address)["metrics"],
    }
    within = judged["local"]["average_precision_low"], judged["local"]["average_precision_high"]
    assert within[0] <= judged["spread"]["average_precision"] <= within[1]
    assert judged["spread"]["average_precision"] > 0.5


@pytest.mark.parametrize(
    ("start", "stop", "most"), [(0, ROWS, ROWS), (10, 11, 5), (3000, 9001, 100), (3999, 4001, 1)]
)
def test_rows_of_parts_are_those_of_the_whole(start: int, stop: int, most: int) -> None:
    """Without a cluster: the parts are read by this process."""
    bounds = [0, 4000, 4001, 12_000, ROWS]
    parts: Any = [{"name": str(low), "digest": "", "rows": high - low} for low, high in pairwise(bounds)]
    context: Any = type("Context", (), {"contract": type("C", (), {"feature_names": ("a",)})})
    tasks = FeatureTable(context, parts)._tasks(slice(start, stop), max(1, -(-(stop - start) // most)))
    rows = np.arange(ROWS)
    taken = [
        rows[int(task.part["name"]) :][: task.part["rows"]][task.start : task.stop : task.step]
        for task in tasks
    ]
    expected = rows[start : stop : max(1, -(-(stop - start) // most))]
    assert np.concatenate(taken).tolist() == expected.tolist()
    assert len(expected) <= most


def test_without_a_scheduler_nothing_imports_dask() -> None:
    code = (
        "import sys, fraud_trainer.job, fraud_adapters.dask_cluster, fraud_trainer.engines.engine as e;"
        "from config.settings import DaskSettings; e.choose_engine(DaskSettings());"
        "print(sorted({n.partition('.')[0] for n in sys.modules} & {'dask', 'distributed'}))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "DASK_SCHEDULER"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    assert isinstance(choose_engine(DaskSettings(dask_scheduler=None)), LocalEngine)


def test_an_address_is_refused_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_SCHEDULER", "scheduler:8786")
    with pytest.raises(ConfigurationError, match=r"^DASK_SCHEDULER: .*tcp"):
        load(DaskSettings)


def test_a_scheduler_that_is_not_there_is_named() -> None:
    sentence = r"^DASK_SCHEDULER=tcp://127.0.0.1:9: no scheduler answers there .*unset the variable"
    nowhere = DaskCluster("tcp://127.0.0.1:9", connect_seconds=1)
    with pytest.raises(ClusterUnavailable, match=sentence), nowhere.client():
        pass


def test_workers_that_do_not_come_are_named() -> None:
    with LocalCluster(n_workers=0, processes=False, protocol="tcp", dashboard_address=":0") as empty:
        waiting = DaskCluster(empty.scheduler_address, seconds=0.5)
        sentence = r"no worker joined the scheduler within 0\.5 seconds"
        with pytest.raises(ClusterUnavailable, match=sentence), waiting.client():
            pass
        empty.scale(1)
        with DaskCluster(empty.scheduler_address).client() as client:
            assert len(workers_of(client)) == 1


def test_a_worker_that_does_not_fit_is_named(tmp_path: Path) -> None:
    """A worker process that finds another version installed, as one of another image does."""
    installed_version = tmp_path / "xgboost-1.0.0.dist-info" / "METADATA"
    installed_version.parent.mkdir()
    installed_version.write_text("Metadata-Version: 2.1\nName: xgboost\nVersion: 1.0.0\n")
    other = f"import sys; sys.path.insert(0, {str(tmp_path)!r})"
    sentence = r"has xgboost 1\.0\.0, this job .*from the same image"
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, preload=[other], dashboard_address=":0", silence_logs=50
        ) as running,
        pytest.raises(ClusterUnfit, match=sentence),
        DaskCluster(running.scheduler_address).client(),
    ):
        pass


def scores(tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The output of both engines for a file of several chunks with a bad row."""
    columns = {name: list(values) for name, values in columns_of(transactions(1000)).items()}
    columns["amount"][500] = "1,5"
    source = write_csv(tmp_path / "rows.csv", columns)
    outputs = {}
    for engine, address in (("local", ""), ("dask", scheduler)):
        monkeypatch.setenv("DASK_SCHEDULER", address)
        output = tmp_path / f"{engine}.csv"
        result = score(f"--input={source}", f"--output={output}", f"--run-id={engine}")
        assert (result["scored"], result["refused"]) == (999, 1)
        outputs[engine] = output.read_bytes()
    return outputs


def test_batch_scores_are_equal_row_by_row(
    database: Database,
    mlflow_uri: str,
    object_store: ObjectStoreSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        batch_installation(database, mlflow_uri, object_store, tmp_path),
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0"
        ) as running,
    ):
        outputs = scores(tmp_path, running.scheduler_address, monkeypatch)
        assert outputs["dask"] == outputs["local"]


@pytest.mark.proof
def test_a_worker_that_is_killed_while_it_scores_loses_no_row(
    database: Database,
    mlflow_uri: str,
    object_store: ObjectStoreSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        batch_installation(database, mlflow_uri, object_store, tmp_path),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as running,
    ):
        engine_scored = DaskEngine.scored
        killed = []

        def scored(engine: DaskEngine, chunks: Iterator[Chunk]) -> Iterator[ScoredChunk]:
            for number, one in enumerate(engine_scored(engine, chunks)):
                if number == 1:
                    killed.append(next(iter(running.workers.values())).process.pid)
                    psutil.Process(killed[0]).kill()
                yield one

        monkeypatch.setattr(DaskEngine, "scored", scored)
        outputs = scores(tmp_path, running.scheduler_address, monkeypatch)
        assert len(killed) == 1
        assert outputs["dask"] == outputs["local"]
