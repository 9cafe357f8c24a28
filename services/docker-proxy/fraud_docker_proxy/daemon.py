"""A client of the Docker daemon, over its Unix socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import httpx

from fraud_docker_proxy.refusals import RequestRefused

# The newest API version the proxy was tested with; an older daemon is called with its own version.
NEWEST_API_VERSION: Final = (1, 52)
_TIMEOUT: Final = httpx.Timeout(connect=5, read=None, write=30, pool=None)


class Daemon:
    """Calls the Docker API; a daemon that does not answer leads to a refusal with status 502."""

    def __init__(self, socket: str) -> None:
        # Every running job occupies two connections.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        transport = httpx.AsyncHTTPTransport(uds=socket, limits=limits)
        # Response chunks are forwarded as they arrive, so they must not be compressed.
        headers = {"Accept-Encoding": "identity"}
        self._http = httpx.AsyncClient(
            transport=transport, base_url="http://docker", headers=headers, timeout=_TIMEOUT, trust_env=False
        )
        self._prefix = ""

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def ping(self) -> str:
        """The API version to use with the daemon."""
        with _refuse_without_daemon():
            major, minor = (await self._http.get("/_ping")).headers["Api-Version"].split(".")
        return "{}.{}".format(*min((int(major), int(minor)), NEWEST_API_VERSION))

    async def call(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None
    ) -> httpx.Response:
        """Send one request and return the complete response, whatever its status."""
        with _refuse_without_daemon():
            return await self._http.request(method, await self._at(path), params=query, json=body)

    @asynccontextmanager
    async def stream(self, method: str, path: str, query: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        """Send one request; the response is available as soon as its head has arrived."""
        request = self._http.build_request(method, await self._at(path), params=query)
        with _refuse_without_daemon():
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
def _refuse_without_daemon() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise RequestRefused(502, f"The Docker daemon does not answer ({type(error).__name__}).") from None
