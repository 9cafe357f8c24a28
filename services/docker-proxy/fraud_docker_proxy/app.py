"""The calls that are passed on; every other is refused."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from fraud_docker_proxy.asking import Asked, read, take
from fraud_docker_proxy.containers import Containers, listed, shown
from fraud_docker_proxy.creating import check_name, parse, rebuild
from fraud_docker_proxy.daemon import Daemon
from fraud_docker_proxy.events import say
from fraud_docker_proxy.leases import Leases
from fraud_docker_proxy.refusals import Refused
from fraud_docker_proxy.relaying import Outcome, relay
from fraud_docker_proxy.settings import Settings

RESULT: Final = "/result/result.json"
_SWITCH: Final = "0|1|true|false|True|False"
_LABEL: Final = re.compile(r"fraud\.[a-z0-9_.]{1,60}(=.{0,1000})?", re.ASCII)

Handler = Callable[[Asked, str], Awaitable[ASGIApp]]


class Proxy:
    """The calls, as an ASGI application."""

    def __init__(self, settings: Settings, daemon: Daemon, containers: Containers, leases: Leases) -> None:
        self._settings = settings
        self._daemon = daemon
        self._containers = containers
        self._leases = leases
        one = "/containers/([A-Za-z0-9_][A-Za-z0-9_.-]*)"
        self._calls: list[tuple[str, re.Pattern[str], Handler]] = [
            (method, re.compile(path), handler)
            for method, path, handler in (
                ("GET|HEAD", "/_ping()", self._ping),
                ("GET", "/version()", self._version),
                ("GET", "/containers/json()", self._list),
                ("POST", "/containers/create()", self._create),
                ("GET", f"{one}/json", self._inspect),
                ("POST", f"{one}/start", self._start),
                ("POST", f"{one}/wait", self._wait),
                ("GET", f"{one}/logs", self._logs),
                ("GET", f"{one}/archive", self._archive),
                ("POST", f"{one}/kill", self._kill),
                ("POST", f"{one}/stop", self._stop),
                ("DELETE", one, self._remove),
            )
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        try:
            answer = await self._answer(Request(scope, receive))
        except ClientDisconnect:
            return
        except Refused as refused:
            if refused.status != 404:
                where = scope["path"][:200]
                say("refused", method=scope["method"], path=where, status=refused.status, reason=str(refused))
            answer = JSONResponse({"message": str(refused)}, refused.status, {"connection": "close"})
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> ASGIApp:
        asked = await read(request)
        for methods, path, handler in self._calls:
            match = path.fullmatch(asked.path)
            if match and asked.method in methods.split("|"):
                if asked.body and handler != self._create:
                    raise Refused(400, "This call has no body.")
                return await handler(asked, match[1])
        raise Refused(403, f"{asked.method} {asked.path[:100]} is no call that jobs need.")

    async def _ping(self, asked: Asked, _: str) -> ASGIApp:
        take(asked.query, {})
        await self._daemon.ping()
        return PlainTextResponse("OK")

    async def _version(self, asked: Asked, _: str) -> ASGIApp:
        take(asked.query, {})
        about = await self._daemon.version()
        return JSONResponse({name: about.get(name) for name in ("Version", "ApiVersion", "MinAPIVersion")})

    async def _list(self, asked: Asked, _: str) -> ASGIApp:
        query = take(asked.query, {"all": _SWITCH, "filters": "(?s:.*)"} | dict.fromkeys(_UNUSED, "0|-1"))
        labels = _labels(query.get("filters", "{}"))
        found = await self._containers.all(labels, ended=query.get("all", "0").lower() in {"1", "true"})
        return JSONResponse([listed(one) for one in found])

    async def _create(self, asked: Asked, _: str) -> ASGIApp:
        query = take(asked.query, {"name": ".*"})
        name = {"name": check_name(query["name"])} if "name" in query else {}
        body = rebuild(parse(asked.body), self._settings)
        answer = await self._daemon.call("POST", "/containers/create", name, body)
        if answer.status_code == 201:
            container = str(answer.json()["Id"])
            self._leases.touch(container)
            say("created", id=container, image=body["Image"], labels=body["Labels"], **name)
        return _passed(answer)

    async def _inspect(self, asked: Asked, name: str) -> ASGIApp:
        take(asked.query, {"size": "0|false"})
        return JSONResponse(shown(await self._containers.inspect(name)))

    async def _start(self, asked: Asked, name: str) -> ASGIApp:
        take(asked.query, {})
        container = await self._containers.id(name)
        self._leases.touch(container)
        return _passed(await self._daemon.call("POST", f"/containers/{container}/start"))

    async def _kill(self, asked: Asked, name: str) -> ASGIApp:
        query = take(asked.query, {"signal": "(SIG)?(TERM|KILL|INT)|2|9|15"})
        return await self._simple("POST", "/containers/{}/kill", name, query)

    async def _stop(self, asked: Asked, name: str) -> ASGIApp:
        query = take(asked.query, {"t": "[0-9]{1,2}"})
        return await self._simple("POST", "/containers/{}/stop", name, query)

    async def _remove(self, asked: Asked, name: str) -> ASGIApp:
        query = take(asked.query, {"force": _SWITCH, "v": _SWITCH, "link": "0|false|False"})
        query.pop("link", None)
        return await self._simple("DELETE", "/containers/{}", name, query)

    async def _simple(self, method: str, path: str, name: str, query: dict[str, str]) -> ASGIApp:
        container = await self._containers.id(name)
        return _passed(await self._daemon.call(method, path.format(container), query))

    async def _wait(self, asked: Asked, name: str) -> ASGIApp:
        query = take(asked.query, {"condition": "next-exit|not-running"})
        container = await self._containers.id(name)

        async def waiting(_: Scope, receive: Receive, send: Send) -> None:
            with self._leases.waiting(container):
                async with self._daemon.stream("POST", f"/containers/{container}/wait", query) as answer:
                    outcome = await relay(answer, receive, send)
            if outcome is Outcome.CLIENT_GONE:
                # What cannot be looked at now is looked at when its grace is over.
                with suppress(Refused):
                    await self._leases.abandon(container)

        return waiting

    async def _logs(self, asked: Asked, name: str) -> ASGIApp:
        switches = dict.fromkeys(("follow", "stdout", "stderr", "timestamps"), _SWITCH)
        moment = "[0-9]{1,10}([.][0-9]{1,9})?"
        forms = {**switches, "since": moment, "until": moment, "tail": "all|[0-9]{1,9}"}
        query = take(asked.query, forms)
        container = await self._containers.id(name)
        return self._reading(container, "logs", query)

    async def _archive(self, asked: Asked, name: str) -> ASGIApp:
        query = take(asked.query, {"path": ".*"})
        if query.get("path") != RESULT:
            raise Refused(403, f"path: of a container only {RESULT} can be had.")
        document = await self._containers.inspect(name)
        # A running container could change what a path means while it is looked up.
        if document["State"]["Status"] not in ("exited", "dead"):
            raise Refused(409, "The result can be had when the container has ended.")
        return self._reading(str(document["Id"]), "archive", query)

    def _reading(self, container: str, what: str, query: dict[str, str]) -> ASGIApp:
        async def reading(_: Scope, receive: Receive, send: Send) -> None:
            with self._leases.reading(container):
                async with self._daemon.stream("GET", f"/containers/{container}/{what}", query) as answer:
                    await relay(answer, receive, send)

        return reading


_UNUSED: Final = ("limit", "size", "trunc_cmd")


def build(settings: Settings) -> ASGIApp:
    """The proxy with what it needs, ready for a server."""
    daemon = Daemon(settings.socket)
    containers = Containers(daemon, settings.project)
    leases = Leases(daemon, containers, settings.grace_s)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        watch = asyncio.create_task(leases.watch())
        yield
        watch.cancel()
        await leases.settle()
        await daemon.close()

    proxy = Proxy(settings, daemon, containers, leases)
    return Router(default=proxy, lifespan=lifespan, redirect_slashes=False)


def _passed(answer: httpx.Response) -> Response:
    kind = answer.headers.get("content-type")
    return Response(answer.content, answer.status_code, media_type=kind)


def _labels(filters: str) -> list[str]:
    given = parse(filters.encode()).get("label") or []
    if set(parse(filters.encode())) - {"label"} or not isinstance(given, list):
        raise Refused(403, 'filters: write {"label": ["fraud.name=value"]}.')
    for label in given:
        if not isinstance(label, str) or not _LABEL.fullmatch(label):
            raise Refused(403, "filters: labels begin with fraud.")
    return given
