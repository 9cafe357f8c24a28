"""Consumers of an installation: started, watched and killed."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import yaml

from config.settings import CONFIG_DIR
from fraud_embedded.processes.ports import free_ports
from fraud_embedded.processes.process import tail
from tests.faults.points import RIGHT
from tests.support.streaming_installation import ROOT, StreamInstallation
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


@dataclass
class Consumer:
    """A consumer process."""

    number: int
    kind: str
    log: Path
    pool: ConsumerPool
    started: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    code: int | None = None
    pid: int | None = None

    def send(self, number: signal.Signals) -> None:
        """Send the signal; ignored if the process has already ended."""
        self.pool.send_order(number=self.number, signal=int(number))

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        assert self.ended.wait(30)

    def stop(self, seconds: float = 60) -> int:
        """Stop it with SIGTERM, as an operator does; returns its exit code."""
        self.send(signal.SIGTERM)
        return self.wait(seconds)

    def wait(self, seconds: float = 120) -> int:
        """Wait for its end; returns its exit code, negative for a signal."""
        assert self.ended.wait(seconds), f"it did not end\n{self.end_of_log()}"
        assert self.code is not None
        return self.code

    def halted(self, seconds: float = 60) -> None:
        """Wait until it has halted at the point of its signal plan."""
        assert self.pid is not None
        process = psutil.Process(self.pid)

        def stopped() -> bool:
            return not self.ended.is_set() and process.status() == psutil.STATUS_STOPPED

        assert eventually(lambda: self.ended.is_set() or stopped(), seconds) and stopped(), (
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
    """Starts consumers through its own fork server."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count(1)
        self._consumers: dict[int, Consumer] = {}
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        paths = [str(ROOT), *(path for path in sys.path if path)]
        # The fork server must have one thread only, because `fork` copies no others.
        environment |= {"PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"}
        self._log = directory / "forkserver.log"
        with self._log.open("ab") as errors:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.forkserver"],
                cwd=ROOT,
                env=environment | {"OMP_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                bufsize=1,
            )
        self._listener = threading.Thread(target=self._listen, name="consumer-pool", daemon=True)
        self._listener.start()

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

    def send_order(self, **order: Any) -> None:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()

    def close(self) -> None:
        """Kill all remaining consumers."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(30)
        self._listener.join(30)
        assert self._server.stdout is not None
        self._server.stdout.close()

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
        number = next(self._numbers)
        consumer = Consumer(number, kind, self._directory / f"consumer-{number}.log", self)
        self._consumers[number] = consumer
        self.send_order(
            number=number,
            arguments=list(arguments),
            environment=environment,
            log=str(consumer.log),
            **_plan_fields(signal_plan),
            commit_order=commit_order,
            missed_after_ms=missed_after_ms,
        )
        assert consumer.started.wait(60), f"the fork server does not answer\n{tail(self._log)}"
        return consumer

    def _listen(self) -> None:
        assert self._server.stdout is not None
        for line in self._server.stdout:
            report = json.loads(line)
            consumer = self._consumers[report["number"]]
            if "pid" in report:
                consumer.pid = report["pid"]
                consumer.started.set()
            else:
                consumer.code = report["code"]
                consumer.ended.set()


def _plan_fields(signal_plan: SignalPlan | None) -> dict[str, Any]:
    if signal_plan is None:
        return {"point": None}
    return {"point": signal_plan.point, "passage": signal_plan.passage, "at_point": int(signal_plan.signal)}


@contextmanager
def pool(directory: Path) -> Iterator[ConsumerPool]:
    """A pool whose logs go to `directory`; all its consumers are killed at the end."""
    directory.mkdir(parents=True, exist_ok=True)
    consumer_pool = ConsumerPool(directory)
    try:
        yield consumer_pool
    finally:
        consumer_pool.close()
