"""The results of the verbs of `fraud_audit`."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict


class UserResult(TypedDict):
    """`users add`, `passwd`, `lock`, `unlock` and `role`."""

    status: Literal["done"]
    username: str
    password: NotRequired[str]  # a random one, if it was asked for


class ListedUser(TypedDict):
    """A person in `users list`."""

    username: str
    name: str
    role: str
    active: bool
    locked_until: str | None  # RFC 3339, after too many wrong passwords
    sessions: int


class UsersResult(TypedDict):
    """`users list`."""

    status: Literal["done"]
    people: list[ListedUser]
