"""Every route of the API asks for the scope it declares and documents, and every route declares one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.routing import APIRoute
from httpx import Response as Answer
from starlette.routing import Route

from config.constants import SCOPES
from fraud_api import access, routes
from fraud_api.access import PUBLIC, Administrator, Deployer, Labeller, Reader, Scorer, Trainer, needs
from fraud_api.routes.direct import DirectRoute
from tests.support.api_application import Application

GUIDE = Path(__file__).parents[2] / "docs" / "api_spec.md"
ROW = re.compile(r"^\| `([A-Z]+) (\S+)` \| `(\w+)` \| (?:public|`(\w+)`) \|", re.MULTILINE)
# (method, path) → the operation's name and its scope, as the guide's table has them
OPERATIONS = {
    (method, path): (name, scope or None)
    for method, path, name, scope in ROW.findall(GUIDE.read_text(encoding="utf-8"))
}


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Application:
    return Application.create(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def scopes(application: Application) -> Mapping[tuple[str, str], str | None]:
    return access.scopes_of(application.app)


def request_path(application: Application, method: str, path: str, *scopes: str) -> Answer:
    return application.request(method, re.sub(r"\{[^}]*\}", "1", path), *scopes)


def asks_for_bearer(answer: Answer) -> bool:
    challenge: str = answer.headers.get("www-authenticate", "")
    return challenge.startswith("Bearer")


# --- every route of the application ---------------------------------------------------------------


def test_the_routes_are_all_there(scopes: Mapping[tuple[str, str], str | None]) -> None:
    # The tests below would hold for an application without routes too.
    assert OPERATIONS.keys() <= scopes.keys()
    assert {scope for scope in scopes.values() if scope} >= {"predict", "read"}


def test_only_these_routes_are_public(scopes: Mapping[tuple[str, str], str | None]) -> None:
    assert {path for (_, path), scope in scopes.items() if scope is None} == {
        "/",
        "/health/live",
        "/health/ready",
        "/auth/token",
        "/.well-known/jwks.json",
        "/docs",
        "/docs/{name}",
        "/openapi.json",
    }


def test_without_a_token_every_route_that_is_not_public_is_401(
    application: Application, scopes: Mapping[tuple[str, str], str | None]
) -> None:
    for (method, path), scope in scopes.items():
        answer = request_path(application, method, path)
        assert (answer.status_code == 401 and asks_for_bearer(answer)) is (scope is not None), (method, path)


def test_with_every_other_scope_every_route_is_403(
    application: Application, scopes: Mapping[tuple[str, str], str | None]
) -> None:
    for (method, path), scope in scopes.items():
        others = [other for other in SCOPES if other != scope]
        for refused in [*([other] for other in others), others] if scope else ():
            answer = request_path(application, method, path, *refused)
            assert answer.status_code == 403, (method, path, refused)
            assert f'scope="{scope}"' in answer.headers["www-authenticate"]
            assert answer.headers["content-type"] == "application/problem+json"


def test_the_declared_scope_is_enough(
    application: Application, scopes: Mapping[tuple[str, str], str | None]
) -> None:
    for (method, path), scope in scopes.items():
        if scope is not None:
            answer = request_path(application, method, path, scope)
            assert answer.status_code not in (401, 403), (method, path)


def test_the_document_names_the_scope_that_is_enforced(
    application: Application, scopes: Mapping[tuple[str, str], str | None]
) -> None:
    document = application.app.openapi()
    documented = {
        (method.upper(), path): operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    hidden = {key for key in scopes if key not in documented}
    assert documented.keys() <= scopes.keys()
    assert {scopes[key] for key in hidden} == {None}  # Swagger's own
    for key, operation in documented.items():
        scope = scopes[key]
        expected = [] if scope is None else [{"clientCredentials": [scope]}]
        assert operation.get("security", []) == expected, key
        assert not scope or {"401", "403"} <= operation["responses"].keys(), key
    flow = document["components"]["securitySchemes"]["clientCredentials"]["flows"]["clientCredentials"]
    assert list(flow["scopes"]) == list(SCOPES)


def test_operations_have_names_a_person_would_choose_and_the_guide_lists_them(
    application: Application, scopes: Mapping[tuple[str, str], str | None]
) -> None:
    document = application.app.openapi()
    names = {
        (method.upper(), path): operation["operationId"]
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert {key: (name, scopes[key]) for key, name in names.items()} == OPERATIONS, "the table in api_spec.md"
    assert len(set(names.values())) == len(names)
    assert [name for name in names.values() if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name)] == []


def test_every_error_in_the_document_is_a_problem(application: Application) -> None:
    document = application.app.openapi()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if not status.startswith("2"):
                    assert list(answer["content"]) == ["application/problem+json"], (path, status)
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_direct_routes_are_answered_alike_with_and_without_the_router(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below a root path the router finds them, otherwise it is passed by."""

    def answers() -> list[tuple[int, str, bytes]]:
        got = [
            application.request("POST", path, *scopes)
            for path in ("/predict", "/predict/batch", "/auth/token")
            for scopes in ((), ("read",), ("predict",))
        ]
        return [(one.status_code, one.headers["content-type"], one.content) for one in got]

    monkeypatch.setattr(application.app, "root_path", "/")
    by_router = answers()
    monkeypatch.setattr(application.app, "root_path", "")
    monkeypatch.setattr(application.app.router, "routes", [])
    assert answers() == by_router
    assert {status for status, *_ in by_router} >= {400, 401, 403}
    assert application.request("GET", "/predict").status_code == 404


# --- declarations ---------------------------------------------------------------------------------


async def endpoint(request: Request) -> Response:
    return Response()


ALIASES = {
    "predict": Scorer,
    "read": Reader,
    "label": Labeller,
    "train": Trainer,
    "deploy": Deployer,
    "admin": Administrator,
}


def one_route(*dependencies: Any, route_class: type[APIRoute] = APIRoute) -> FastAPI:
    app = FastAPI(openapi_url=None)
    router = APIRouter(prefix="/made-up", route_class=route_class)
    router.add_api_route("", endpoint, dependencies=list(dependencies))
    app.include_router(router)
    return app


def test_there_is_an_alias_for_every_scope() -> None:
    assert set(ALIASES) == set(SCOPES)
    for scope, alias in ALIASES.items():
        app = FastAPI(openapi_url=None)

        def endpoint(identity: Any) -> None: ...

        endpoint.__annotations__["identity"] = alias
        app.add_api_route("/made-up", endpoint)
        assert access.scopes_of(app) == {("GET", "/made-up"): scope}


@pytest.mark.parametrize(
    "dependencies",
    [(), (Depends(endpoint),), (needs("read"), needs("label")), (needs("read"), PUBLIC)],
    ids=["nothing", "another dependency", "two scopes", "a scope and public"],
)
@pytest.mark.parametrize("route_class", [APIRoute, DirectRoute])
def test_a_route_without_one_declaration_is_refused(
    dependencies: tuple[Any, ...], route_class: type[APIRoute]
) -> None:
    with pytest.raises(access.UndeclaredAccess, match="/made-up"):
        access.scopes_of(one_route(*dependencies, route_class=route_class))


def test_a_declaration_may_be_the_routers() -> None:
    app = FastAPI(openapi_url=None)
    router = APIRouter(dependencies=[needs("admin")])
    router.add_api_route("/made-up", endpoint, methods=["PUT", "DELETE"])
    app.include_router(router, prefix="/v2")
    path = "/v2/made-up"
    assert access.scopes_of(app) == {("PUT", path): "admin", ("DELETE", path): "admin"}


def test_a_route_that_cannot_declare_anything_is_refused() -> None:
    app = FastAPI(openapi_url=None)
    app.router.routes.append(Route("/plain", endpoint))
    with pytest.raises(access.UndeclaredAccess, match="/plain"):
        access.scopes_of(app)


def test_the_application_does_not_start_with_an_undeclared_route(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undeclared = APIRouter()
    undeclared.add_api_route("/forgotten", endpoint)
    monkeypatch.setattr(routes.models, "router", undeclared)
    with pytest.raises(access.UndeclaredAccess, match="/forgotten"):
        Application.create(tmp_path)
