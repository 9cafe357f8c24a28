"""A job's container lives as long as a client waits for it.

The client that starts a job keeps a `wait` call open or, as Airflow's DockerOperator does, an `attach` call.
If that connection is lost before the container has ended, the task was killed or its worker is gone, and
nobody would ever stop the container or read its result.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from fraud_docker_proxy.containers import Containers
from fraud_docker_proxy.daemon import Daemon
from fraud_docker_proxy.event_log import log_event
from fraud_docker_proxy.refusals import RequestRefused

HOLDING_CALLS: Final = frozenset({"/wait", "/attach"})
STOP_S: Final = 3  # between SIGTERM and SIGKILL
SHUTDOWN_S: Final = 8.0  # Docker kills the proxy ten seconds after asking it to stop
_ALIVE: Final = frozenset({"running", "paused", "restarting"})


class Leases:
    """Records which clients wait for which containers, and ends abandoned containers."""

    def __init__(self, daemon: Daemon, containers: Containers, grace_s: float) -> None:
        self._daemon = daemon
        self._containers = containers
        self._grace_s = grace_s
        # One entry (container, call) for each open call.
        self._held: list[tuple[str, str]] = []
        self._last_held: dict[str, float] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}

    @contextmanager
    def held(self, container: str, call: str) -> Iterator[None]:
        """Register a long-lasting call, which waits for the container's end or reads its output."""
        self._held.append((container, call))
        try:
            yield
        finally:
            self._held.remove((container, call))
            self._last_held[container] = time.monotonic()

    async def abandon(self, container: str) -> None:
        """End a running container whose client has disconnected, unless another client waits for it.

        A container that has already ended keeps its grace period: its log and result may be read any moment.
        """
        # A container that cannot be inspected now is inspected again after its grace period.
        with suppress(RequestRefused):
            running = (await self._containers.inspect(container))["State"]["Status"] in _ALIVE
            if running and not HOLDING_CALLS & self._calls(container):
                log_event("abandoned", id=container)
                self._end(container, "the client that waited for it is gone")

    async def sweep(self) -> None:
        """End the containers that nobody has waited for during the grace period."""
        containers = {one["Id"]: one["State"] for one in await self._containers.all()}
        now = time.monotonic()
        for container, state in containers.items():
            calls = self._calls(container)
            # Reading the log of a running container does not keep it alive.
            if HOLDING_CALLS & calls or (calls and state not in _ALIVE):
                self._last_held[container] = now
            elif now - self._last_held.setdefault(container, now) >= self._grace_s:
                self._end(container, "nobody waits for it")
        for removed in self._last_held.keys() - containers.keys():
            del self._last_held[removed]

    async def watch(self) -> None:
        """Sweep periodically, until cancelled."""
        while True:
            try:
                await self.sweep()
            except RequestRefused as refusal:
                log_event("cannot_look", reason=str(refusal))
            await asyncio.sleep(min(2.0, self._grace_s / 5))

    async def finish_ending(self) -> None:
        """Finish the removals in progress; jobs with a waiting client run on without the proxy."""
        if self._ending:
            await asyncio.wait(self._ending.values(), timeout=SHUTDOWN_S)

    def _calls(self, container: str) -> set[str]:
        return {call for held_container, call in self._held if held_container == container}

    def _end(self, container: str, reason: str) -> None:
        if container not in self._ending:
            self._ending[container] = asyncio.create_task(self._stop_and_remove(container, reason))
            self._ending[container].add_done_callback(lambda _: self._ending.pop(container))

    async def _stop_and_remove(self, container: str, reason: str) -> None:
        try:
            await self._daemon.call("POST", f"/containers/{container}/stop", {"t": str(STOP_S)})
            answer = await self._daemon.call("DELETE", f"/containers/{container}", {"force": "1", "v": "1"})
        except RequestRefused as refusal:
            log_event("cannot_end", id=container, reason=str(refusal))
            return
        if answer.status_code == 204:
            log_event("ended", id=container, reason=reason)
