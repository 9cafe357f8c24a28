"""The consumer's token expires during the run, and its signing key is removed."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.faults.consuming import Consuming
from tests.faults.points import AFTER_POLL
from tests.faults.short_lived import SECONDS
from tests.support.api_server import ApiServer, ForkedApi
from tests.support.killable_servers import KillableServers
from tests.support.stored_rows import run as run_sql
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def hasty_api(servers: KillableServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """Another replica of the API, whose tokens live for two seconds."""
    log = tmp_path_factory.mktemp("hasty") / "api.log"
    server = ForkedApi(
        servers.api.database_url,
        servers.api.cache,
        log,
        extra={SECONDS: "2"},
        module="tests.faults.short_lived",
    )
    try:
        server.start()
        yield server
    finally:
        server.stop()


def accepted(api: ApiServer, token: str) -> bool:
    """Whether the API accepts the token; the request has no body, so only 401 means that it does not."""
    answer = httpx.post(
        f"{api.url}/predict/batch", headers={"Authorization": f"Bearer {token}"}, trust_env=False
    )
    return answer.status_code != 401


def test_the_token_expires_in_the_run(hasty_api: ApiServer, busy: Consuming) -> None:
    busy.installation.api_url = hasty_api.url
    consumer = busy.start_and_halt(AFTER_POLL)
    token = hasty_api.token()  # newer than the consumer's
    assert accepted(hasty_api, token)
    assert eventually(lambda: not accepted(hasty_api, token))
    consumer.go_on()
    busy.finish(consumer)


def test_the_signing_key_is_rotated_and_removed_in_the_run(servers: KillableServers, busy: Consuming) -> None:
    consumer = busy.start_and_halt(AFTER_POLL)
    token = servers.api.token()
    new = servers.api.command("rotate-keys")["kid"]
    assert accepted(servers.api, token), "the old key still verifies tokens"
    run_sql(servers.api_database.url("owner"), "DELETE FROM signing_keys WHERE kid <> %s", new)
    assert eventually(lambda: not accepted(servers.api, token), 30)
    consumer.go_on()
    busy.finish(consumer)
