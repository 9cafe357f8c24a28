"""A broker that a test may kill."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fraud_embedded.processes.process import ProcessSpec
from tests.support.killable_servers import Server


class KafkaServer(Server):
    """A broker that several tests use: who kills it starts it again."""

    def __init__(self, bootstrap: str, spec: ProcessSpec) -> None:
        super().__init__(spec)
        self.bootstrap = bootstrap

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Killed, and meanwhile away."""
        self.kill()
        try:
            yield
        finally:
            self.start()
