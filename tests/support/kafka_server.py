"""A broker that a test may kill."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fraud_embedded.processes.process import ProcessSpec
from tests.support.killable_servers import Server


class KafkaServer(Server):
    """A broker that several tests share: a test that kills it must start it again."""

    def __init__(self, bootstrap: str, spec: ProcessSpec) -> None:
        super().__init__(spec)
        self.bootstrap = bootstrap

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Kill the broker, and start it again at the end of the block."""
        self.kill()
        try:
            yield
        finally:
            self.start()
