"""Repeated, malformed and changed records: nothing is lost or doubled, bad records become dead letters."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.job_results.common import EXIT_FAILED
from config.settings import CONFIG_DIR
from fraud_core.contract import Contract
from tests.faults.consumers import ConsumerPool
from tests.faults.consuming import BATCH, Consuming
from tests.faults.feed import MALFORMED, Feed
from tests.faults.kill import drain
from tests.faults.oracle import judge
from tests.support.api_server import ApiServer, ForkedApi
from tests.support.killable_servers import KillableServers
from tests.support.streaming_installation import StreamInstallation, creditcard_records


def reasons(installation: StreamInstallation) -> dict[str, int]:
    return Counter(row[0] for row in installation.rows("SELECT reason FROM dead_letters"))


def payload(record: dict[str, Any]) -> bytes:
    return json.dumps(record).encode()


def test_every_record_is_sent_again(consuming: Consuming) -> None:
    feed = consuming.feed
    feed.send(200, repeated=1.0)
    feed.send(200, repeated=1.0)
    assert feed.sent == 800
    consuming.finish(consuming.start())
    assert reasons(consuming.installation) == {}


def test_an_id_comes_twice_in_one_batch(consuming: Consuming) -> None:
    first, second = creditcard_records(["same", "other"])
    feed = consuming.feed
    feed.put("same", payload(first))
    feed.put_bad(payload(first | {"amount": 1.25}), key="same")
    feed.put("same", payload(first))
    feed.put("other", payload(second))
    feed.flush()
    assert feed.sent < BATCH
    consuming.finish(consuming.start())
    assert reasons(consuming.installation) == {"id_conflict": 1}


def test_one_record_in_a_hundred_is_malformed(consuming: Consuming) -> None:
    for number in range(10):
        consuming.feed.send(99)
        consuming.feed.put_bad(MALFORMED[number % len(MALFORMED)])
    consuming.feed.flush()
    consuming.finish(consuming.start())
    assert sum(reasons(consuming.installation).values()) == 10


def test_all_records_are_malformed(consuming: Consuming) -> None:
    """The consumer stops with a reason; setting all records aside needs an explicit option."""
    installation, feed = consuming.installation, consuming.feed
    feed.send(100)
    drain(installation, consuming.workers)
    for number in range(400):
        feed.put_bad(b"not json either", key=f"bad-{number}")
    feed.flush()
    for _ in range(2):
        consumer = consuming.start()
        assert consumer.wait() == EXIT_FAILED, consumer.end_of_log()
        assert "cannot be processed" in consumer.end_of_log()
    stored = installation.count("dead_letters")
    assert stored < 400, "most of them must not have been moved"
    feed.send(50)  # the sender has been corrected
    drain(installation, consuming.workers, "--max-bad-share", "1")
    consuming.judge()
    assert reasons(installation) == {"not_json": 400}


def test_records_are_too_large(consuming: Consuming) -> None:
    installation, feed = consuming.installation, consuming.feed
    feed.send(50)
    installation.send_with_foreign_client(
        [b'{"v1": "' + b"x" * size + b'"}' for size in (70_000, 1_000_000, 10_000_000)]
    )
    feed.send(50)
    consuming.finish(consuming.start())
    assert reasons(installation) == {"too_large": 3}


def test_records_lack_a_field(consuming: Consuming) -> None:
    feed = consuming.feed
    feed.send(50)
    for record in creditcard_records([f"lacking-{number}" for number in range(5)]):
        feed.put_bad(payload({name: value for name, value in record.items() if name != "v3"}))
    feed.send(50)
    consuming.finish(consuming.start())
    assert reasons(consuming.installation) == {"missing_field": 5}


def test_records_have_a_field_that_is_not_declared(consuming: Consuming) -> None:
    feed = consuming.feed
    feed.send(50)
    for record in creditcard_records([f"ahead-{number}" for number in range(5)]):
        feed.put_bad(payload(record | {"terminal": 7}))
    feed.send(50)
    consuming.finish(consuming.start())
    assert reasons(consuming.installation) == {"unknown_field": 5}


@pytest.fixture
def wider(tmp_path: Path) -> Path:
    """A directory with the next version of the contract, which has one more optional field."""
    document = yaml.safe_load((CONFIG_DIR / "contracts" / "creditcard.yaml").read_text())
    document["fields"].append({"name": "terminal", "type": "integer", "required": False})
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / "creditcard.yaml").write_text(yaml.safe_dump(document))
    return tmp_path / "contracts"


@pytest.fixture
def wider_api(servers: KillableServers, wider: Path, tmp_path: Path) -> Iterator[ApiServer]:
    """A replica of the API for that contract."""
    contracts = {"FRAUD_CONTRACTS_DIR": str(wider)}
    server = ForkedApi(servers.api.database_url, servers.api.cache, tmp_path / "api.log", extra=contracts)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def test_the_contract_gets_an_optional_field(
    installation: StreamInstallation, feed: Feed, workers: ConsumerPool, wider: Path, wider_api: ApiServer
) -> None:
    """The API is changed first, then the consumer, then the producers: no record is refused meanwhile."""
    old = feed.send(20)
    installation.api_url = wider_api.url
    drain(installation, workers)  # the consumer does not know the field yet
    installation.extra |= wider_api.extra
    installation.contract = Contract.from_mapping(yaml.safe_load((wider / "creditcard.yaml").read_text()))
    feed.send_again(old)
    feed.send(20)
    records = creditcard_records([f"wider-{number}" for number in range(20)])
    feed.put_records(record | {"terminal": number} for number, record in enumerate(records))
    drain(installation, workers)
    assert judge(installation, feed) == []
    stored = installation.rows(
        "SELECT transaction_id, attributes FROM transactions WHERE attributes IS NOT NULL"
    )
    assert dict(stored) == {f"wider-{number}": {"terminal": number} for number in range(20)}
