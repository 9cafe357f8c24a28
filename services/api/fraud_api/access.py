"""Access control: each route declares the one scope it needs, or that it is public.

FastAPI derives the `security` of the OpenAPI document from the same declaration that is enforced. The
application refuses to start if a route declares nothing. An ordinary route names one of the aliases below as
the type of a parameter; a direct route, or one that does not look at the identity, has
`dependencies=[needs("read")]`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

from fastapi import Depends, FastAPI, Request, Security
from fastapi.dependencies.models import Dependant
from fastapi.openapi.models import OAuthFlowClientCredentials, OAuthFlows
from fastapi.params import Depends as Declaration
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.security import OAuth2, SecurityScopes

from config.constants import SCOPES
from fraud_api.auth import Authenticator
from fraud_api.tokens import Identity

_MEANINGS: Final = {
    "predict": "score transactions",
    "read": "see models and predictions",
    "label": "set labels",
    "train": "start training",
    "deploy": "change what serves",
    "admin": "administer clients and read the audit log",
}
_FLOW: Final = OAuthFlowClientCredentials(
    tokenUrl="auth/token", scopes={scope: _MEANINGS[scope] for scope in SCOPES}
)
_SCHEME: Final = OAuth2(
    scheme_name="clientCredentials", flows=OAuthFlows(clientCredentials=_FLOW), auto_error=False
)


class UndeclaredAccess(Exception):
    """A route must declare exactly one scope, or that it is public."""


async def _identify(
    request: Request, needed: SecurityScopes, _header: Annotated[str | None, Depends(_SCHEME)]
) -> Identity:
    """The identity of the request, whose token has the needed scope."""
    authenticator: Authenticator = request.app.state.service.authenticator
    return await authenticator.authorise(request, needed.scope_str)


async def _admit_anybody() -> None:
    """Does nothing; it marks a route as public."""


def needs(scope: str) -> Declaration:
    """The declaration of a route that needs a token with this scope."""
    assert scope in SCOPES
    declaration: Declaration = Security(_identify, scopes=[scope])
    return declaration


PUBLIC: Final[Declaration] = Depends(_admit_anybody)

Scorer = Annotated[Identity, needs("predict")]
Reader = Annotated[Identity, needs("read")]
Labeller = Annotated[Identity, needs("label")]
Trainer = Annotated[Identity, needs("train")]
Deployer = Annotated[Identity, needs("deploy")]
Administrator = Annotated[Identity, needs("admin")]


def scope_of(route: Dependant) -> str | None:
    """The scope a route needs; None where it is public.

    Raises:
        UndeclaredAccess: it declares nothing, several scopes, or both a scope and that it is public.
    """
    dependencies = list(_walk(route))
    public = any(dependency.call is _admit_anybody for dependency in dependencies)
    scopes = {
        scope
        for dependency in dependencies
        if dependency.call is _identify
        for scope in (*(dependency.parent_oauth_scopes or ()), *(dependency.own_oauth_scopes or ()))
    }
    if len(scopes) + public != 1:
        raise UndeclaredAccess(f"{route.path}: declare one scope, or PUBLIC (see fraud_api.access).")
    return None if public else scopes.pop()


def scopes_of(app: FastAPI) -> dict[tuple[str, str], str | None]:
    """The scope of every route, by method and path; None where it is public.

    Raises:
        UndeclaredAccess: a route does not declare its access, or is not a route of FastAPI.
    """
    scopes: dict[tuple[str, str], str | None] = {}
    for route in iter_route_contexts(app.routes):
        if not isinstance(route.original_route, APIRoute):
            raise UndeclaredAccess(f"{route.path}: only routes of FastAPI can declare a scope.")
        scope = scope_of(route.dependant)
        scopes |= {(method, str(route.path)): scope for method in route.methods or ()}
    return scopes


def _walk(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for child in dependant.dependencies:
        yield from _walk(child)
