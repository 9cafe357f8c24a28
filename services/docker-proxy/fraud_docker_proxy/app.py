"""The calls that are passed on; every other is refused."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from fraud_docker_proxy import forms
from fraud_docker_proxy.asking import Asked, parse, read
from fraud_docker_proxy.containers import Containers, shown
from fraud_docker_proxy.creating import check_image, rebuild
from fraud_docker_proxy.daemon import Daemon
from fraud_docker_proxy.events import say
from fraud_docker_proxy.leases import HOLDING, Leases
from fraud_docker_proxy.refusals import Refused
from fraud_docker_proxy.relaying import relay
from fraud_docker_proxy.settings import Settings

# Takes what is asked, and the parts of the path that its pattern holds in brackets.
Handler = Callable[..., Awaitable[ASGIApp]]


class Proxy:
    """The calls, as an ASGI application."""

    def __init__(self, settings: Settings, daemon: Daemon, containers: Containers, leases: Leases) -> None:
        self._settings = settings
        self._daemon = daemon
        self._containers = containers
        self._leases = leases
        one = "/containers/([A-Za-z0-9][A-Za-z0-9_.-]*)"
        self._calls: list[tuple[str, str, type[forms.Form], Handler]] = [
            ("GET", "/_ping", forms.Nothing, self._ping),
            ("HEAD", "/_ping", forms.Nothing, self._ping),
            ("GET", "/version", forms.Nothing, self._version),
            ("GET", "/images/json", forms.Images, self._images),
            ("GET", "/containers/json", forms.Listing, self._list),
            ("POST", "/containers/create", forms.Naming, self._create),
            ("GET", f"{one}/json", forms.Nothing, self._inspect),
            ("POST", f"{one}(/wait)", forms.Waiting, self._stream),
            ("POST", f"{one}(/attach)", forms.Attachment, self._attach),
            ("POST", f"{one}(/start)", forms.Nothing, self._pass_on),
            ("GET", f"{one}(/logs)", forms.Log, self._stream),
            ("POST", f"{one}(/stop)", forms.Stopping, self._pass_on),
            ("GET", f"{one}(/archive)", forms.Archive, self._archive),
            ("DELETE", one, forms.Removal, self._pass_on),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            answer = await self._answer(await read(Request(scope, receive)))
            await answer(scope, receive, send)
        except ClientDisconnect:
            return
        except Refused as refused:
            if refused.status != 404:
                where = scope["path"][:200]
                say("refused", method=scope["method"], path=where, status=refused.status, reason=str(refused))
            refusal = JSONResponse({"message": str(refused)}, refused.status, {"connection": "close"})
            await refusal(scope, receive, send)

    async def _answer(self, asked: Asked) -> ASGIApp:
        for method, path, form, handler in self._calls:
            match = re.fullmatch(path, asked.path)
            if match and method == asked.method:
                if asked.upgrade and handler != self._attach:
                    raise Refused(403, "The proxy hands out no raw connection.")
                if asked.body and handler != self._create:
                    raise Refused(400, "This call has no body.")
                query = forms.fill(form, asked.query).model_dump(exclude_none=True)
                return await handler(replace(asked, query=query), *match.groups())
        raise Refused(403, f"{asked.method} {asked.path[:100]} is no call that jobs need.")

    async def _ping(self, _: Asked) -> ASGIApp:
        await self._daemon.ping()
        return PlainTextResponse("OK")

    async def _version(self, _: Asked) -> ASGIApp:
        return JSONResponse({"ApiVersion": await self._daemon.ping()})

    async def _images(self, asked: Asked) -> ASGIApp:
        [image] = asked.query["filters"]["reference"]
        check_image(image, self._settings)
        # A DockerOperator would pull what is not there.
        if (await self._daemon.call("GET", f"/images/{image}/json")).status_code != 200:
            raise Refused(404, f"The image {image} is not on this machine: build or pull it.")
        return JSONResponse([{"RepoTags": [image]}])

    async def _list(self, asked: Asked) -> ASGIApp:
        found = await self._containers.all(asked.query["filters"]["label"])
        return JSONResponse([{"Id": one["Id"]} for one in found])

    async def _create(self, asked: Asked) -> ASGIApp:
        body = rebuild(forms.fill(forms.Job, parse(asked.body)), self._settings)
        answer = await self._daemon.call("POST", "/containers/create", asked.query, body)
        if answer.status_code == 201:
            container, labels = answer.json()["Id"], body["Labels"]
            say("created", id=container, name=asked.query["name"], image=body["Image"], labels=labels)
        return _whole(answer)

    async def _inspect(self, _: Asked, name: str) -> ASGIApp:
        return JSONResponse(shown(await self._containers.inspect(name)))

    async def _pass_on(self, asked: Asked, name: str, call: str = "") -> ASGIApp:
        container = await self._containers.id(name)
        return _whole(await self._daemon.call(asked.method, f"/containers/{container}{call}", asked.query))

    async def _archive(self, asked: Asked, name: str, call: str) -> ASGIApp:
        document = await self._containers.inspect(name)
        # A running container could change what a path means while it is looked up.
        if document["State"]["Status"] not in ("exited", "dead"):
            raise Refused(409, "The result can be had when the container has ended.")
        return self._streaming(asked, document["Id"], call)

    async def _stream(self, asked: Asked, name: str, call: str) -> ASGIApp:
        return self._streaming(asked, await self._containers.id(name), call)

    async def _attach(self, asked: Asked, name: str, call: str) -> ASGIApp:
        """Answered without another protocol, as HTTP allows: the client only listens."""
        return self._streaming(asked, await self._containers.id(name), call, raw=True)

    def _streaming(self, asked: Asked, container: str, call: str, *, raw: bool = False) -> ASGIApp:
        path = f"/containers/{container}{call}"

        async def streaming(_: Scope, receive: Receive, send: Send) -> None:
            with self._leases.held(container, call):
                async with self._daemon.stream(asked.method, path, asked.query) as answer:
                    stayed = await relay(answer, receive, send, raw=raw)
            if call in HOLDING and not stayed:
                await self._leases.abandon(container)

        return streaming


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
    return Router(default=proxy, lifespan=lifespan)


def _whole(answer: httpx.Response) -> Response:
    return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))
