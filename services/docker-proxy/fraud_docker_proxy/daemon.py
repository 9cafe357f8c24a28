"""The Docker daemon behind its socket, as far as the proxy asks it for anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
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

    async def version(self) -> dict[str, Any]:
        """What the daemon says about itself."""
        answer = await self._send("GET", "/version", {}, None)
        return dict((await _read(answer)).json())

    async def ping(self) -> None:
        """Nothing, when the daemon answers."""
        await _read(await self._send("GET", "/_ping", {}, None))

    async def call(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None
    ) -> httpx.Response:
        """The whole answer, whatever its status."""
        return await _read(await self._send(method, await self._at(path), query or {}, body))

    @asynccontextmanager
    async def stream(self, method: str, path: str, query: Mapping[str, str]) -> AsyncIterator[httpx.Response]:
        """The answer from its head on."""
        answer = await self._send(method, await self._at(path), query, None)
        try:
            yield answer
        finally:
            await answer.aclose()

    async def _at(self, path: str) -> str:
        if not self._prefix:
            major, minor = (int(part) for part in (await self.version())["ApiVersion"].split("."))
            self._prefix = "/v{}.{}".format(*min((major, minor), NEWEST))
        return self._prefix + path

    async def _send(self, method: str, path: str, query: Mapping[str, str], body: Any) -> httpx.Response:
        request = self._http.build_request(method, path, params=dict(query), json=body)
        try:
            return await self._http.send(request, stream=True)
        except httpx.HTTPError as error:
            raise Refused(502, f"The Docker daemon does not answer ({type(error).__name__}).") from None


async def _read(answer: httpx.Response) -> httpx.Response:
    try:
        await answer.aread()
    except httpx.HTTPError as error:
        raise Refused(502, f"The Docker daemon broke off its answer ({type(error).__name__}).") from None
    finally:
        await answer.aclose()
    return answer
