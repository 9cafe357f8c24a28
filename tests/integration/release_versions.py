"""Versions for the tests of releases, made by the real trainer, and traffic to judge them on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from config.settings import ApiClientSettings
from fraud_adapters.api_client import ApiClient
from fraud_adapters.postgres import connect, examples
from fraud_core.contract import Contract
from fraud_producer.population import population
from fraud_producer.simulator import Simulator
from fraud_trainer.job import main as train
from tests.integration.training_installation import RATE
from tests.integration.training_job import small_configuration
from tests.support.api_server import CLIENTS, ApiServer

# Short windows, in which few calls are enough; each look of Airflow's sensor costs the start of a task.
RELEASE: Final[dict[str, Any]] = {
    "window": "PT6S",
    "max_extensions": 4,
    "answer_limit": "PT5S",
    "http": {"canary_percent": 40, "window": "PT12S", "settling": "PT4S"},
    # Neither the time of a call nor that of a window says anything where four test processes share two cores.
    "judgement": {
        "max_latency_ms": 4000,
        "min_calls": 30,
        "min_rows": 300,
        "min_legitimate": 300,
        "max_error_rate": 0.1,
        "latency_quantile": 0.8,
        "max_alert_rate_change": 2,
        "max_score_distance": 0.3,
        "max_recall_drop": 0.05,
        "max_fpr_rise": 0.03,
    },
}
# A gate for a version that was judged on labels that are the wrong way round, too.
LENIENT: Final = {"specification": {"min_recall": 0.5, "max_fpr": 0.2, "min_f1": 0.5, "min_frauds": 100}}


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


def trained(folder: Path, *options: str, seed: int, **sections: Mapping[str, Any]) -> str:
    """A version of the trainer; those of different seeds differ."""
    configuration = folder / f"config-{seed}-{uuid4().hex[:6]}"
    small_configuration(configuration, training={"seed": seed}, **sections)
    with environment(FRAUD_CONFIG_DIR=str(configuration)):
        registered = train(["run", *options])["register"]
    assert registered["gate_passed"], registered
    version: str = registered["version"]
    return version


def wrong_way_round(contract: Contract, trainer_url: str, path: Path) -> None:
    """The history as a file whose labels are the other way round."""
    with closing(connect(trainer_url, "test")) as connection:
        now = examples.database_clock(connection)
        table = examples.read_examples(connection, contract, now)
    label = contract.label_field
    assert label is not None
    columns = {name: table.column(name) for name in (examples.ID, examples.TIME)}
    columns |= {one.name: table.column(one.name) for one in contract.inputs}
    columns[label.name] = pc.subtract(pa.scalar(1, pa.int8()), table.column(examples.LABEL))
    pq.write_table(pa.table(columns), path)


@contextmanager
def live_traffic(server: ApiServer, contract: Contract) -> Iterator[None]:
    """Scores batches of fresh transactions, some ten a second."""
    settings = ApiClientSettings.model_validate(
        {
            "api_url": server.url,
            "api_client_id": "streaming",
            "api_client_secret": CLIENTS["streaming"],
        }
    )
    ended = threading.Event()

    def send() -> None:
        simulator = Simulator(contract, population(11, RATE, 0.02), timedelta(days=7))
        number = 0
        with ApiClient(settings) as client:
            while not ended.wait(0.1):
                number += 1
                moments = [datetime.now(UTC)] * 100
                client.score(contract, simulator.at(f"live-{number}", moments).batch)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
