"""A job's container lives as long as somebody waits for it.

Whoever starts a job holds a `wait` or, as Airflow's DockerOperator does, an `attach` call open. When that
connection goes before the container has ended, its task was killed or its worker is gone, and nobody would
ever stop the container or read its result.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from fraud_docker_proxy.containers import Containers
from fraud_docker_proxy.daemon import Daemon
from fraud_docker_proxy.events import say
from fraud_docker_proxy.refusals import Refused

HOLDING: Final = frozenset({"/wait", "/attach"})
STOP_S: Final = 3  # between SIGTERM and SIGKILL
SHUTDOWN_S: Final = 8.0  # whoever ends the proxy may kill it after ten
_ALIVE: Final = frozenset({"running", "paused", "restarting"})


class Leases:
    """Who waits for what; ends what nobody waits for."""

    def __init__(self, daemon: Daemon, containers: Containers, grace_s: float) -> None:
        self._daemon = daemon
        self._containers = containers
        self._grace_s = grace_s
        # Container and call, as often as somebody makes it.
        self._held: list[tuple[str, str]] = []
        self._seen: dict[str, float] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}

    @contextmanager
    def held(self, container: str, call: str) -> Iterator[None]:
        """While somebody makes a call whose answer lasts: waits for its end, or reads what it wrote."""
        self._held.append((container, call))
        try:
            yield
        finally:
            self._held.remove((container, call))
            self._seen[container] = time.monotonic()

    async def abandon(self, container: str) -> None:
        """Whoever waited is gone: end it at once if it runs, unless somebody else waits.

        One that has ended keeps its grace: its log and its result may be about to be read.
        """
        # What cannot be looked at now is looked at when its grace is over.
        with suppress(Refused):
            running = (await self._containers.inspect(container))["State"]["Status"] in _ALIVE
            if running and not HOLDING & self._calls(container):
                say("abandoned", id=container)
                self._end(container, "whoever waited for it is gone")

    async def look(self) -> None:
        """End what nobody has waited for through the grace period."""
        containers = {one["Id"]: one["State"] for one in await self._containers.all()}
        now = time.monotonic()
        for container, state in containers.items():
            calls = self._calls(container)
            # One that runs is not held by whoever reads its log.
            if HOLDING & calls or (calls and state not in _ALIVE):
                self._seen[container] = now
            elif now - self._seen.setdefault(container, now) >= self._grace_s:
                self._end(container, "nobody waits for it")
        for gone in self._seen.keys() - containers.keys():
            del self._seen[gone]

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                await self.look()
            except Refused as refused:
                say("cannot_look", reason=str(refused))
            await asyncio.sleep(min(2.0, self._grace_s / 5))

    async def settle(self) -> None:
        """Finish what is being ended; what runs and is waited for goes on without the proxy."""
        if self._ending:
            await asyncio.wait(self._ending.values(), timeout=SHUTDOWN_S)

    def _calls(self, container: str) -> set[str]:
        return {call for one, call in self._held if one == container}

    def _end(self, container: str, why: str) -> None:
        if container not in self._ending:
            self._ending[container] = asyncio.create_task(self._stop_and_remove(container, why))
            self._ending[container].add_done_callback(lambda _: self._ending.pop(container))

    async def _stop_and_remove(self, container: str, why: str) -> None:
        try:
            await self._daemon.call("POST", f"/containers/{container}/stop", {"t": str(STOP_S)})
            answer = await self._daemon.call("DELETE", f"/containers/{container}", {"force": "1", "v": "1"})
        except Refused as refused:
            say("cannot_end", id=container, reason=str(refused))
            return
        if answer.status_code == 204:
            say("ended", id=container, reason=why)
