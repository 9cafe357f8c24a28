"""The Docker daemon behind its socket, as far as the proxy asks it for anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import httpx

from fraud_docker_proxy.refusals import Refused

# The newest version of the API whose answers were looked at; an older daemon is asked in its own.
NEWEST: Final = (1, 52)
_PATIENT: Final = httpx.Timeout(connect=5, read=None, write=30, pool=None)


class Daemon:
    """Calls of the Docker API; a daemon that does not answer is a refusal with status 502."""

    def __init__(self, socket: str) -> None:
        # Every job holds two connections as long as it runs.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        transport = httpx.AsyncHTTPTransport(uds=socket, limits=limits)
        # Pieces are passed on as they come, so they must not be compressed for the proxy.
        headers = {"Accept-Encoding": "identity"}
        self._http = httpx.AsyncClient(
            transport=transport, base_url="http://docker", headers=headers, timeout=_PATIENT, trust_env=False
        )
        self._prefix = ""

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def ping(self) -> str:
        """The version of the API that is spoken with the daemon."""
        with _answering():
            major, minor = (await self._http.get("/_ping")).headers["Api-Version"].split(".")
        return "{}.{}".format(*min((int(major), int(minor)), NEWEST))

    async def call(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None
    ) -> httpx.Response:
        """The whole answer, whatever its status."""
        with _answering():
            return await self._http.request(method, await self._at(path), params=query, json=body)

    @asynccontextmanager
    async def stream(self, method: str, path: str, query: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        """The answer from its head on."""
        request = self._http.build_request(method, await self._at(path), params=query)
        with _answering():
            answer = await self._http.send(request, stream=True)
        try:
            yield answer
        finally:
            await answer.aclose()

    async def _at(self, path: str) -> str:
        if not self._prefix:
            self._prefix = f"/v{await self.ping()}"
        return self._prefix + path


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise Refused(502, f"The Docker daemon does not answer ({type(error).__name__}).") from None
