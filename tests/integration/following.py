"""A follower in a thread of this process."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

from fraud_embedded.processes.ports import free_ports
from fraud_streaming.follow import ListenAddress, follow
from fraud_streaming.installation import Installation

ENDS_WITHIN = 40.0


@dataclass
class Following:
    """A running follower: its HTTP port, and its result or failure."""

    installation: Installation
    port: int = field(default_factory=lambda: free_ports(1)[0])
    stop: Event = field(default_factory=Event)
    result: Mapping[str, Any] = field(default_factory=dict)
    failure: BaseException | None = None

    def __post_init__(self) -> None:
        self.thread = Thread(target=self._run, name="following", daemon=True)

    def _run(self) -> None:
        try:
            self.result = follow(self.installation, self.stop, ListenAddress("127.0.0.1", self.port))
        except BaseException as error:
            self.failure = error

    def end(self) -> Mapping[str, Any]:
        """Stop it; returns its result or raises its failure."""
        self.stop.set()
        return self.ended()

    def ended(self) -> Mapping[str, Any]:
        """Wait until it has ended; returns its result or raises its failure."""
        self.thread.join(ENDS_WITHIN)
        assert not self.thread.is_alive(), "the follower did not end"
        if self.failure is not None:
            raise self.failure
        return self.result

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def ready(self) -> bool:
        return self.get("/health/ready")[0] == 200

    def lanes(self) -> dict[str, bool]:
        lanes: dict[str, bool] = json.loads(self.get("/health/ready")[1])["lanes"]
        return lanes

    def waits_for(self) -> dict[str, str]:
        """What each lane that is not ready waits for."""
        waits_for: dict[str, str] = json.loads(self.get("/health/ready")[1] or "{}").get("waits_for", {})
        return waits_for

    def threads(self) -> dict[str, bool]:
        threads: dict[str, bool] = json.loads(self.get("/health/live")[1])["threads"]
        return threads

    def metric(self, name: str, **labels: str) -> float:
        """The sum over all series with these labels; 0 without such a series."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            series, _, value = line.rpartition(" ")
            base = series.partition("{")[0]
            if base == name and all(f'{key}="{text}"' in series for key, text in labels.items()):
                total += float(value)
        return total


@contextmanager
def following(installation: Installation) -> Iterator[Following]:
    follower = Following(installation)
    follower.thread.start()
    try:
        yield follower
    finally:
        follower.stop.set()
        follower.thread.join(ENDS_WITHIN)
