"""Consumers of an installation: started, watched and killed."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import yaml

from config.settings import CONFIG_DIR
from fraud_embedded.processes.ports import free_ports
from fraud_embedded.processes.process import tail
from tests.faults.points import RIGHT
from tests.support import forked
from tests.support.streaming_installation import StreamInstallation
from tests.support.waiting import eventually

BOUNDED = "bounded run"
FOLLOWER = "follower"
KINDS = (BOUNDED, FOLLOWER)
EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class SignalPlan:
    """The point at which a consumer sends itself a signal, on its `passage`-th visit."""

    point: str
    passage: int = 1
    signal: signal.Signals = signal.SIGKILL


@dataclass(frozen=True)
class Consumer:
    """A consumer process."""

    kind: str
    log: Path
    process: forked.Process

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self.process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send the signal; ignored if the process has already ended."""
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)

    def stop(self, seconds: float = 60) -> int:
        """Stop it with SIGTERM, as an operator does; returns its exit code."""
        self.send(signal.SIGTERM)
        return self.wait(seconds)

    def ends_within(self, seconds: float) -> bool:
        """Wait at most that long for its end."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def wait(self, seconds: float = 120) -> int:
        """Wait for its end; returns its exit code, negative for a signal."""
        assert self.ends_within(seconds), f"it did not end\n{self.end_of_log()}"
        return self.process.wait()

    def halted(self, seconds: float = 60) -> None:
        """Wait until it has halted at the point of its signal plan."""
        process = psutil.Process(self.process.pid)

        def stopped() -> bool:
            return not self.ended and process.status() == psutil.STATUS_STOPPED

        assert eventually(lambda: self.ended or stopped(), seconds) and stopped(), (
            f"it did not come to its point, exit code {self.code}\n{self.end_of_log()}"
        )

    def go_on(self) -> None:
        """Continue after a halt."""
        self.send(signal.SIGCONT)

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    def end_of_log(self) -> str:
        return tail(self.log)


class ConsumerPool:
    """Starts consumers, whose logs and configurations are in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._consumers: list[Consumer] = []

    def bounded(
        self,
        installation: StreamInstallation,
        *options: str,
        batch: int = 100,
        streaming: Mapping[str, Any] = EMPTY,
        **more: Any,
    ) -> Consumer:
        """`fraud_streaming run` with these options; `signal_plan` and `commit_order` as in `points.py`.

        Args:
            streaming: parameters of this section that differ from `config.yaml`.
        """
        arguments = ["run", "--batch-size", str(batch), *options]
        return self._launch(
            BOUNDED, arguments, installation.environment() | self._configured(streaming), **more
        )

    def follower(
        self,
        installation: StreamInstallation,
        *options: str,
        batch: int = 100,
        port: int = 0,
        streaming: Mapping[str, Any] = EMPTY,
        **more: Any,
    ) -> Consumer:
        """`fraud_streaming run --follow`, as `bounded`; its metrics are on `port`."""
        arguments = ["run", "--follow", "--metrics-port", str(port or free_ports(1)[0]), *options]
        configured = self._configured({"follow_batch_size": batch, **streaming})
        return self._launch(FOLLOWER, arguments, installation.environment() | configured, **more)

    def start(self, kind: str, installation: StreamInstallation, *options: str, **more: Any) -> Consumer:
        """A consumer of that kind."""
        return {BOUNDED: self.bounded, FOLLOWER: self.follower}[kind](installation, *options, **more)

    def _configured(self, streaming: Mapping[str, Any]) -> dict[str, str]:
        """The variables of a configuration with these parameters in the section `streaming`."""
        directory = self._directory / "-".join(
            ["config", *(f"{k}={v}" for k, v in sorted(streaming.items()))]
        )
        if not directory.exists():
            directory.mkdir()
            document = yaml.safe_load((CONFIG_DIR / "config.yaml").read_text())
            document["streaming"].update(streaming)
            (directory / "config.yaml").write_text(yaml.safe_dump(document))
        return {"FRAUD_CONFIG_DIR": str(directory)}

    def close(self) -> None:
        """Kill all remaining consumers."""
        for consumer in self._consumers:
            consumer.kill()

    def _launch(
        self,
        kind: str,
        arguments: Sequence[str],
        environment: dict[str, str],
        *,
        signal_plan: SignalPlan | None = None,
        commit_order: str = RIGHT,
        missed_after_ms: int = 0,
    ) -> Consumer:
        plan = {"point": None, "commit_order": commit_order, "missed_after_ms": missed_after_ms}
        if signal_plan is not None:
            plan |= {"point": signal_plan.point, "passage": signal_plan.passage}
            plan |= {"at_point": int(signal_plan.signal)}
        path = self._directory / f"consumer-{len(self._consumers) + 1}.log"
        with path.open("ab") as log:
            process = forked.start(
                "tests.faults.consumer", json.dumps(plan), *arguments, env=environment, stdout=log, stderr=log
            )
        self._consumers.append(Consumer(kind, path, process))
        return self._consumers[-1]


@contextmanager
def pool(directory: Path) -> Iterator[ConsumerPool]:
    """A pool whose logs go to `directory`; all its consumers are killed at the end."""
    directory.mkdir(parents=True, exist_ok=True)
    consumer_pool = ConsumerPool(directory)
    try:
        yield consumer_pool
    finally:
        consumer_pool.close()
