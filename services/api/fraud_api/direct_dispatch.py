"""Passes requests for direct routes straight to their endpoints."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from fraud_api import problems
from fraud_api.routes.direct import DirectRoute


class DirectDispatch:
    """ASGI middleware: calls the endpoint of a direct route by its method and path.

    Such an endpoint uses nothing of what FastAPI does around a route: matching patterns, dependencies, exit
    stacks. What this does not pass on itself, FastAPI's router answers, with the same endpoints.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        direct = [route for route in routes if isinstance(route, DirectRoute)]
        self._routes = {(method, route.path): route for route in direct for method in route.methods or ()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = None
        # Below a root path, routes match a part of the path only.
        if scope["type"] == "http" and not scope.get("root_path"):
            route = self._routes.get((scope["method"], scope["path"]))
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        request = Request(scope, receive, send)
        try:
            response = await route.respond(request)
        except problems.HANDLED as error:
            response = problems.response_to(request, error)
        await response(scope, receive, send)
