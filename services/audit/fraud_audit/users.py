"""The commands that manage people.

A password comes from a terminal or from standard input, never from the command line, which others can see.
"""

from __future__ import annotations

import argparse
import getpass
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from config.job_results.audit import UserResult, UsersResult
from config.settings import ConfigurationError, DatabaseSettings, load
from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.postgres import audit, people
from fraud_adapters.postgres.session import Cursor, Session
from fraud_audit.passwords import hash_password
from fraud_core.people import PersonRole, password_problem, username_problem


class PersonRefused(LastingFailure):
    """The command cannot be carried out; one sentence."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="user_verb", required=True)
    add = verbs.add_parser("add", help="add a person; asks for the password, or reads it from standard input")
    add.add_argument("username")
    add.add_argument("--name", help="the name that is shown; by default the username")
    add.add_argument("--role", choices=list(PersonRole), default=PersonRole.ANALYST)
    add.add_argument("--random", action="store_true", help="make a random password, and print it")
    verbs.add_parser("list", help="list everybody")
    change = verbs.add_parser("passwd", help="change a password; ends the person's sessions")
    change.add_argument("username")
    change.add_argument("--random", action="store_true", help="make a random password, and print it")
    for verb, text in (("lock", "let a person log in no more"), ("unlock", "let a person log in again")):
        verbs.add_parser(verb, help=text).add_argument("username")
    role = verbs.add_parser("role", help="change what a person may do")
    role.add_argument("username")
    role.add_argument("role", choices=list(PersonRole))


def main(options: argparse.Namespace) -> UserResult | UsersResult:
    """Run one command.

    Raises:
        PersonRefused: there is no such person, or the password is not accepted.
        DatabaseUnavailable: the database cannot be reached.
    """
    session = Session(load(DatabaseSettings).url, "fraud_audit command")
    try:
        if options.user_verb == "list":
            return _list(session)
        commands: dict[str, Callable[[Session, argparse.Namespace], UserResult]] = {
            "add": _add,
            "passwd": _passwd,
            "lock": lambda session, options: _lock(session, options, active=False),
            "unlock": lambda session, options: _lock(session, options, active=True),
            "role": _role,
        }
        return commands[options.user_verb](session, options)
    finally:
        session.close()


def _add(session: Session, options: argparse.Namespace) -> UserResult:
    if problem := username_problem(options.username):
        raise PersonRefused(problem)
    password = _password(options)
    hashed = hash_password(password)

    def work(cursor: Cursor) -> bool:
        name = (options.name or options.username)[:100]
        if not people.add_person(cursor, options.username, name, hashed, PersonRole(options.role)):
            return False
        _record(cursor, "person.added", options.username, {"role": options.role})
        return True

    if not session.run(work):
        raise PersonRefused(f"There is a person {options.username} already: choose another username.")
    return _done(options, password)


def _passwd(session: Session, options: argparse.Namespace) -> UserResult:
    password = _password(options)
    hashed = hash_password(password)
    _change(session, options.username, "person.password_changed", {}, lambda cursor: people.set_password(
        cursor, options.username, hashed
    ))  # fmt: skip
    return _done(options, password)


def _lock(session: Session, options: argparse.Namespace, *, active: bool) -> UserResult:
    action = "person.unlocked" if active else "person.locked"
    _change(
        session,
        options.username,
        action,
        {},
        lambda cursor: people.set_active(cursor, options.username, active=active),
    )
    return _done(options)


def _role(session: Session, options: argparse.Namespace) -> UserResult:
    role = PersonRole(options.role)
    _change(
        session,
        options.username,
        "person.role_changed",
        {"role": role},
        lambda cursor: people.set_role(cursor, options.username, role),
    )
    return _done(options)


def _list(session: Session) -> UsersResult:
    members = session.run(people.list_people)
    return {
        "status": "done",
        "people": [
            {
                "username": one.username,
                "name": one.display_name,
                "role": one.role.value,
                "active": one.active,
                "locked_until": one.locked_until.isoformat() if one.locked_until else None,
                "sessions": one.sessions,
            }
            for one in members
        ],
    }


def _change(
    session: Session,
    username: str,
    action: str,
    details: Mapping[str, Any],
    change: Callable[[Cursor], bool],
) -> None:
    """Make a change with its entry in the audit chain."""

    def work(cursor: Cursor) -> bool:
        if not change(cursor):
            return False
        _record(cursor, action, username, details)
        return True

    if not session.run(work):
        raise PersonRefused(f"There is no person {username}: ./fraud users list shows everybody.")


def _record(cursor: Cursor, action: str, username: str, details: Mapping[str, Any]) -> None:
    # Whoever may run the command has the role's password: the account of the machine is all that is known.
    actor = f"command line ({os.environ.get('SUDO_USER') or os.environ.get('USER') or os.getuid()})"
    audit.append(cursor, actor, action, f"person {username}", details)


_WORDS: Final = 18


def _password(options: argparse.Namespace) -> str:
    if options.random:
        return secrets.token_urlsafe(_WORDS)
    password = _read_password()
    if problem := password_problem(password, options.username):
        raise PersonRefused(problem)
    return password


def _read_password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("The same again: ") != password:
        raise ConfigurationError("The two passwords differ: nothing was changed.")
    return password


def _done(options: argparse.Namespace, password: str | None = None) -> UserResult:
    result: UserResult = {"status": "done", "username": options.username}
    if password is not None and options.random:
        result["password"] = password
    return result
