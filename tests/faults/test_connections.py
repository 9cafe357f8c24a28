"""A connection lost after COMMIT: the consumer does not know whether it has committed."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from tests.faults.consumers import KINDS
from tests.faults.consuming import Consuming
from tests.faults.proxy import losing_answers

LOSSES = 2


@pytest.mark.parametrize("consuming", KINDS, indirect=True)
def test_the_answer_to_commit_is_lost(busy: Consuming) -> None:
    url = busy.installation.database.url("streaming")
    port = urlsplit(url).port
    assert port is not None
    with losing_answers(port, LOSSES) as proxy:
        busy.installation.extra["DATABASE_URL"] = url.replace(f":{port}/", f":{proxy.port}/")
        first = busy.start()
        busy.finish(first, "Postgres")
        assert proxy.lost == LOSSES
