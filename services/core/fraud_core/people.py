"""People who log in: their names, roles and passwords, and when an account is locked."""

from __future__ import annotations

import re
from datetime import timedelta
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

_USERNAME: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
MIN_PASSWORD: Final = 12
MAX_PASSWORD: Final = 1024


class PersonRole(StrEnum):
    """What a person may do: an analyst decides cases, a lead also those that were escalated, an admin all."""

    ANALYST = "analyst"
    LEAD = "lead"
    ADMIN = "admin"

    @property
    def leads(self) -> bool:
        """Whether the person decides escalated and disputed cases, and reopens those of others."""
        return self is not PersonRole.ANALYST


class LockoutRules(BaseModel):
    """An account is locked for `lockout` after `attempts` wrong passwords in a row, and longer each time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attempts: int = Field(default=5, ge=1, le=100)
    lockout: timedelta = Field(default=timedelta(minutes=5), gt=timedelta(0), le=timedelta(days=1))

    def locked_for(self, failures: int) -> timedelta | None:
        """How long an account is locked after so many failures in a row; None if it is not.

        The time doubles with each further lockout, up to a day.
        """
        if failures < self.attempts or failures % self.attempts:
            return None
        doublings = min(failures // self.attempts - 1, 16)
        return min(self.lockout * (1 << doublings), timedelta(days=1))


def username_problem(username: str) -> str | None:
    """Why a text cannot be the name of a person, as a sentence; None if it can."""
    if _USERNAME.fullmatch(username):
        return None
    return "A username has 1 to 64 of a-z, 0-9 and . _ @ -, and begins with a letter or a digit."


def password_problem(password: str, username: str) -> str | None:
    """Why a password is not accepted, as a sentence; None if it is."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        return f"A password has {MIN_PASSWORD} to {MAX_PASSWORD:,} characters."
    if len(set(password)) < 5 or username.lower() in password.lower():
        return "This password is too easy to guess: use several words, without your username."
    return None
