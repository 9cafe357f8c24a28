"""Who may use a route: every route of a page declares it by one of these dependencies.

A dependency that lets a form in has checked the session, the role, the origin and the token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request

from fraud_adapters.postgres.people import SignedIn, find_session
from fraud_audit.context import AppDependency
from fraud_audit.refusals import LogInNeeded, PageRefused
from fraud_audit.security import (
    cookie_name,
    read_form,
    require_csrf_token,
    require_own_origin,
    session_hash,
)
from fraud_core.cases import Person
from fraud_core.people import PersonRole

# Routes without a session.
PUBLIC: Final = frozenset({"/login", "/health/live", "/health/ready", "/static"})


@dataclass(frozen=True, slots=True)
class PostedForm:
    """A form of a person who is logged in."""

    person: SignedIn
    fields: dict[str, str]

    @property
    def actor(self) -> Person:
        return Person(self.person.username, self.person.role)

    def text(self, name: str, max_length: int = 200) -> str:
        """A field without spaces around it, "" if it is missing.

        Raises:
            PageRefused: it is too long.
        """
        value = self.fields.get(name, "").strip()
        if len(value) > max_length or "\x00" in value:
            raise PageRefused(400, f"The field {name} has at most {max_length:,} characters.")
        return value


def signed_in(request: Request, app: AppDependency) -> SignedIn:
    """The person of the request's session.

    Raises:
        LogInNeeded: there is no session, or it has ended.
    """
    token = request.cookies.get(cookie_name(app.settings.secure), "")
    if not token:
        raise LogInNeeded
    idle = app.settings.rules.sessions.idle
    person = app.run(lambda cursor: find_session(cursor, session_hash(token), idle))
    if person is None:
        raise LogInNeeded
    request.state.person = person
    return person


def _posted_form(request: Request, form: Fields, person: PersonDependency) -> PostedForm:
    require_own_origin(request)
    require_csrf_token(request, form, person.csrf_token)
    return PostedForm(person, form)


def _admin(person: PersonDependency) -> SignedIn:
    if person.role is not PersonRole.ADMIN:
        raise PageRefused(403, "Only an admin may see this page.")
    return person


def _admin_form(form: FormDependency) -> PostedForm:
    _admin(form.person)
    return form


def _form_of_visitor(request: Request, form: Fields) -> dict[str, str]:
    require_own_origin(request)
    return form


Fields = Annotated[dict[str, str], Depends(read_form)]
PersonDependency = Annotated[SignedIn, Depends(signed_in)]
FormDependency = Annotated[PostedForm, Depends(_posted_form)]
AdminDependency = Annotated[SignedIn, Depends(_admin)]
AdminFormDependency = Annotated[PostedForm, Depends(_admin_form)]
VisitorForm = Annotated[dict[str, str], Depends(_form_of_visitor)]
CHECKS: Final[tuple[Callable[..., object], ...]] = (signed_in, _form_of_visitor)
