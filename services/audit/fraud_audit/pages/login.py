"""Logging in and out, and a person's own settings."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from fraud_adapters.job.logs import get_logger
from fraud_adapters.postgres import audit, people
from fraud_adapters.postgres.people import Account
from fraud_adapters.postgres.session import Cursor
from fraud_audit.access import FormDependency, PersonDependency, VisitorForm
from fraud_audit.context import App, AppDependency
from fraud_audit.passwords import hash_password, password_matches
from fraud_audit.rendering import page, parse_zone
from fraud_audit.security import (
    cookie_name,
    delete_session_cookie,
    new_token,
    session_hash,
    set_session_cookie,
)
from fraud_core.people import MAX_PASSWORD, password_problem

router = APIRouter()
# The same for all, so that nobody learns which accounts there are.
_WRONG: Final = "Username and password do not match, or the account is locked after too many wrong passwords."
_LOCKED: Final = "Too many wrong passwords: try again later."


@router.get("/login")
def show_login(request: Request) -> Response:
    values = {"next": safe_path(request.query_params.get("next")), "problem": None, "username": ""}
    return page(request, "login.html", values)


@router.post("/login")
def log_in(request: Request, app: AppDependency, form: VisitorForm) -> Response:
    username = form.get("username", "").strip().lower()[:64].replace("\x00", "")
    password = form.get("password", "")[: MAX_PASSWORD + 1]
    target = safe_path(form.get("next"))
    account = app.run(lambda cursor: people.find_account(cursor, username))
    problem = _problem(app, username, account, password)
    if problem is not None or account is None:
        values = {"next": target, "problem": problem, "username": username}
        return page(request, "login.html", values, status=401)
    token = new_token()
    sessions = app.settings.rules.sessions

    def open_session(cursor: Cursor) -> None:
        lifetime = sessions.longest
        people.open_session(cursor, account.username, session_hash(token), new_token(), lifetime)
        zone = form.get("zone", "")
        if account.time_zone is None and parse_zone(zone) is not None:
            people.set_time_zone(cursor, account.username, zone)

    app.run(open_session)
    app.metrics.logins.labels("ok").inc()
    get_logger(__name__).info("logged_in", username=account.username)
    response = RedirectResponse(target, 303)
    seconds = round(sessions.longest.total_seconds())
    set_session_cookie(response, token, app.settings.secure, seconds)
    return response


@router.post("/logout")
def log_out(request: Request, app: AppDependency, form: FormDependency) -> Response:
    token = request.cookies.get(cookie_name(app.settings.secure), "")
    app.run(lambda cursor: people.close_session(cursor, session_hash(token)))
    response = RedirectResponse("/login", 303)
    delete_session_cookie(response, app.settings.secure)
    return response


@router.get("/account")
def show_account(request: Request, person: PersonDependency) -> Response:
    return _account_page(request)


@router.post("/account/time_zone")
def change_time_zone(request: Request, app: AppDependency, form: FormDependency) -> Response:
    zone = form.text("time_zone", 64)
    if parse_zone(zone) is None:
        return _account_page(request, f"There is no time zone {zone!r}.", status=400)
    app.run(lambda cursor: people.set_time_zone(cursor, form.person.username, zone))
    return RedirectResponse("/account?done=time_zone", 303)


@router.post("/account/password")
def change_password(request: Request, app: AppDependency, form: FormDependency) -> Response:
    """The new password ends all sessions, so the person logs in with it."""
    username = form.person.username
    account = app.run(lambda cursor: people.find_account(cursor, username))
    new = form.fields.get("new", "")
    problem = password_problem(new, username)
    if account is None or _is_locked(account):
        problem = _LOCKED
    elif not password_matches(account.password_hash, form.fields.get("current", "")[: MAX_PASSWORD + 1]):
        app.run(lambda cursor: people.record_failure(cursor, username, app.settings.rules.login))
        problem = "The current password is another one."
    elif not hmac.compare_digest(new.encode(), form.fields.get("again", "").encode()):
        problem = "The new password was typed differently the second time."
    if problem is not None:
        return _account_page(request, problem, status=400)
    hashed = hash_password(new)

    def store(cursor: Cursor) -> None:
        people.set_password(cursor, username, hashed)
        audit.append(cursor, username, "person.password_changed", f"person {username}", {})

    app.run(store)
    response = RedirectResponse("/login", 303)
    delete_session_cookie(response, app.settings.secure)
    return response


def safe_path(target: str | None) -> str:
    """A path of this app to go on to; never another host's address."""
    is_own = target and target.startswith("/") and not target.startswith(("//", "/\\")) and "\\" not in target
    return target if target and is_own and target.isprintable() else "/"


def _problem(app: App, username: str, account: Account | None, password: str) -> str | None:
    """Why the log-in is refused; the same for a wrong password and an unknown or inactive person."""
    matches = password_matches(account.password_hash if account else None, password)
    if account is not None and _is_locked(account):
        app.metrics.logins.labels("locked").inc()
        return _WRONG
    if matches and account is not None and account.active:
        return None
    app.metrics.logins.labels("wrong").inc()
    if account is not None and not matches:
        locked = app.run(lambda cursor: people.record_failure(cursor, username, app.settings.rules.login))
        if locked is not None:
            get_logger(__name__).warning("account_locked", username=username, seconds=locked.total_seconds())
    return _WRONG


def _is_locked(account: Account) -> bool:
    return account.locked_until is not None and account.locked_until > datetime.now(UTC)


def _account_page(request: Request, problem: str | None = None, *, status: int = 200) -> Response:
    values: dict[str, Any] = {"problem": problem, "done": request.query_params.get("done")}
    return page(request, "account.html", values, status=status)
