"""Dead letters against real servers: how many pass, what they keep, life without their topic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from config.settings import KafkaSettings
from fraud_adapters.job import JobFailed
from tests.integration.api_server import ApiServer, cloned
from tests.integration.store_rows import Database
from tests.integration.streaming_site import StreamingSite, creditcard_records, served


@pytest.fixture(scope="module")
def api(
    template: Any, postgres_admin_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    directory = tmp_path_factory.mktemp("dead-letters-api")
    with (
        cloned(template, postgres_admin_url, "dead_letters_api") as database,
        served(database, directory) as server,
    ):
        yield server


@pytest.fixture
def site(database: Database, topics: KafkaSettings, api: ApiServer) -> StreamingSite:
    return StreamingSite(database, topics, api.url)


def test_a_flood_a_few_at_a_time_is_stopped_and_stays_so_over_restarts(site: StreamingSite) -> None:
    site.send([b"{}"] * 60)
    for _ in range(3):
        with pytest.raises(JobFailed, match=r"3 of 3 records .* offset 18 .*\(21 of the latest 21\)"):
            site.consume(chunk_records=3)
        assert site.count("dead_letters") == 18
    site.send(creditcard_records(["good"]))
    site.streaming = site.streaming.model_copy(update={"max_bad_share": 1.0})
    assert site.consume()["dead_lettered"] == {"missing_field": 42}
    assert site.ids() == {"good"}
