"""The consumer killed at any moment: nothing lost, nothing doubled."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from config.settings import KafkaSettings
from tests.integration.api_server import ApiServer, cloned
from tests.integration.store_rows import Database
from tests.integration.streaming_site import ROOT, StreamingSite, creditcard_records, served

RECORDS = 3000
KILLS = 3


@pytest.fixture(scope="module")
def api(
    template: Any, postgres_admin_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    directory = tmp_path_factory.mktemp("crash-api")
    with cloned(template, postgres_admin_url, "crash_api") as database, served(database, directory) as server:
        yield server


def test_kills_lose_and_double_nothing(database: Database, topics: KafkaSettings, api: ApiServer) -> None:
    site = StreamingSite(database, topics, api.url)
    ids = [f"tx-{number}" for number in range(RECORDS)]
    records: list[Any] = creditcard_records(ids)
    for number in range(0, RECORDS, 100):
        records[number] = b"not json"
    site.send(records)
    source = random.Random(11)
    stored = [0]
    for kill in range(1, KILLS + 1):
        # Past the commit of some chunks, in the middle of whatever it does then.
        run_and_kill(site, wanted=kill * RECORDS // (KILLS + 2), delay=source.uniform(0, 0.05))
        stored.append(site.count("transactions"))
        assert stored[-2] < stored[-1] < RECORDS - RECORDS // 100, "it was killed at work"
    assert site.consume(chunk_records=500)["lag"] == 0
    good = RECORDS - RECORDS // 100
    assert site.rows("SELECT count(*), count(DISTINCT transaction_id) FROM predictions") == [(good, good)]
    assert site.ids() == {identifier for number, identifier in enumerate(ids) if number % 100}
    letters = site.rows("SELECT record_offset FROM dead_letters ORDER BY 1")
    assert [row[0] for row in letters] == list(range(0, RECORDS, 100))
    assert site.rows("SELECT next_offset FROM stream_offsets WHERE topic = %s", site.kafka.topic) == [
        (RECORDS,)
    ]
    # At least once on the topic: a kill between its acknowledgement and the commit repeats some.
    origins = {record.headers["origin"] for record in site.dead_letter_topic()}
    assert len(origins) == RECORDS // 100


def run_and_kill(site: StreamingSite, wanted: int, delay: float) -> None:
    """Start the consumer, and kill it once `wanted` transactions are stored and `delay` is over."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fraud_streaming", "run", "--batch-size", "10", "--max-seconds", "60"],
        env=site.environment(),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 40
    while site.count("transactions") < wanted:
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(delay)
    process.kill()
    process.wait()
