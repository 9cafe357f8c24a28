"""The calls of the Docker API that are forwarded; every other call is refused."""

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

from fraud_docker_proxy import schemas
from fraud_docker_proxy.containers import Containers, visible_fields
from fraud_docker_proxy.create_request import build_create_body, check_image
from fraud_docker_proxy.daemon import Daemon
from fraud_docker_proxy.event_log import log_event
from fraud_docker_proxy.leases import HOLDING_CALLS, Leases
from fraud_docker_proxy.proxied_request import ProxiedRequest, parse_json_object, read_request
from fraud_docker_proxy.refusals import RequestRefused
from fraud_docker_proxy.relay import relay
from fraud_docker_proxy.settings import Settings

# Takes the request and the groups of the path's pattern.
Handler = Callable[..., Awaitable[ASGIApp]]


class Proxy:
    """Forwards the permitted calls; an ASGI application."""

    def __init__(self, settings: Settings, daemon: Daemon, containers: Containers, leases: Leases) -> None:
        self._settings = settings
        self._daemon = daemon
        self._containers = containers
        self._leases = leases
        container = "/containers/([A-Za-z0-9][A-Za-z0-9_.-]*)"
        self._calls: list[tuple[str, str, type[schemas.CallSchema], Handler]] = [
            ("GET", "/_ping", schemas.NoParameters, self._ping),
            ("HEAD", "/_ping", schemas.NoParameters, self._ping),
            ("GET", "/version", schemas.NoParameters, self._version),
            ("GET", "/images/json", schemas.ImagesQuery, self._images),
            ("GET", "/containers/json", schemas.ListQuery, self._list),
            ("POST", "/containers/create", schemas.CreateQuery, self._create),
            ("GET", f"{container}/json", schemas.NoParameters, self._inspect),
            ("POST", f"{container}(/wait)", schemas.WaitQuery, self._stream),
            ("POST", f"{container}(/attach)", schemas.AttachQuery, self._attach),
            ("POST", f"{container}(/start)", schemas.NoParameters, self._pass_on),
            ("GET", f"{container}(/logs)", schemas.LogsQuery, self._stream),
            ("POST", f"{container}(/stop)", schemas.StopQuery, self._pass_on),
            ("GET", f"{container}(/archive)", schemas.ArchiveQuery, self._archive),
            ("DELETE", container, schemas.RemoveQuery, self._pass_on),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            answer = await self._answer(await read_request(Request(scope, receive)))
            await answer(scope, receive, send)
        except ClientDisconnect:
            return
        except RequestRefused as refusal:
            if refusal.status != 404:
                log_event(
                    "refused",
                    method=scope["method"],
                    path=scope["path"][:200],
                    status=refusal.status,
                    reason=str(refusal),
                )
            response = JSONResponse({"message": str(refusal)}, refusal.status, {"connection": "close"})
            await response(scope, receive, send)

    async def _answer(self, request: ProxiedRequest) -> ASGIApp:
        for method, path, schema, handler in self._calls:
            match = re.fullmatch(path, request.path)
            if match and method == request.method:
                if request.upgrade and handler != self._attach:
                    raise RequestRefused(403, "The proxy does not upgrade connections.")
                if request.body and handler != self._create:
                    raise RequestRefused(400, "This call has no body.")
                query = schemas.validate(schema, request.query).model_dump(exclude_none=True)
                return await handler(replace(request, query=query), *match.groups())
        raise RequestRefused(403, f"{request.method} {request.path[:100]} is not a call that jobs need.")

    async def _ping(self, _: ProxiedRequest) -> ASGIApp:
        await self._daemon.ping()
        return PlainTextResponse("OK")

    async def _version(self, _: ProxiedRequest) -> ASGIApp:
        return JSONResponse({"ApiVersion": await self._daemon.ping()})

    async def _images(self, request: ProxiedRequest) -> ASGIApp:
        [image] = request.query["filters"]["reference"]
        check_image(image, self._settings)
        # DockerOperator pulls an image that is missing, which the proxy does not forward.
        if (await self._daemon.call("GET", f"/images/{image}/json")).status_code != 200:
            raise RequestRefused(404, f"The image {image} is not on this machine: build or pull it.")
        return JSONResponse([{"RepoTags": [image]}])

    async def _list(self, request: ProxiedRequest) -> ASGIApp:
        containers = await self._containers.all(request.query["filters"]["label"])
        return JSONResponse([{"Id": one["Id"]} for one in containers])

    async def _create(self, request: ProxiedRequest) -> ASGIApp:
        body = build_create_body(
            schemas.validate(schemas.CreateBody, parse_json_object(request.body)), self._settings
        )
        answer = await self._daemon.call("POST", "/containers/create", request.query, body)
        if answer.status_code == 201:
            container, labels = answer.json()["Id"], body["Labels"]
            log_event("created", id=container, name=request.query["name"], image=body["Image"], labels=labels)
        return _complete(answer)

    async def _inspect(self, _: ProxiedRequest, name: str) -> ASGIApp:
        return JSONResponse(visible_fields(await self._containers.inspect(name)))

    async def _pass_on(self, request: ProxiedRequest, name: str, call: str = "") -> ASGIApp:
        container = await self._containers.id(name)
        return _complete(
            await self._daemon.call(request.method, f"/containers/{container}{call}", request.query)
        )

    async def _archive(self, request: ProxiedRequest, name: str, call: str) -> ASGIApp:
        document = await self._containers.inspect(name)
        # A running container could replace the path by a link while the daemon resolves it.
        if document["State"]["Status"] not in ("exited", "dead"):
            raise RequestRefused(409, "The result can be read only after the container has ended.")
        return self._streaming(request, document["Id"], call)

    async def _stream(self, request: ProxiedRequest, name: str, call: str) -> ASGIApp:
        return self._streaming(request, await self._containers.id(name), call)

    async def _attach(self, request: ProxiedRequest, name: str, call: str) -> ASGIApp:
        """Respond without the requested upgrade, as HTTP allows, because the client only reads."""
        return self._streaming(request, await self._containers.id(name), call, raw=True)

    def _streaming(self, request: ProxiedRequest, container: str, call: str, *, raw: bool = False) -> ASGIApp:
        path = f"/containers/{container}{call}"

        async def streaming(_: Scope, receive: Receive, send: Send) -> None:
            with self._leases.held(container, call):
                async with self._daemon.stream(request.method, path, request.query) as answer:
                    client_stayed = await relay(answer, receive, send, raw=raw)
            if call in HOLDING_CALLS and not client_stayed:
                await self._leases.abandon(container)

        return streaming


def build(settings: Settings) -> ASGIApp:
    """The proxy and its dependencies as an ASGI application."""
    daemon = Daemon(settings.socket)
    containers = Containers(daemon, settings.project)
    leases = Leases(daemon, containers, settings.grace_s)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        watch = asyncio.create_task(leases.watch())
        yield
        watch.cancel()
        await leases.finish_ending()
        await daemon.close()

    proxy = Proxy(settings, daemon, containers, leases)
    return Router(default=proxy, lifespan=lifespan)


def _complete(answer: httpx.Response) -> Response:
    return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))
