"""The account that runs the database, and the directory of its files.

Postgres refuses to run as root, so for root an existing account runs it. No account is created, and no
permission outside the project's own directories is changed.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
from pathlib import Path
from typing import Final

CANDIDATES: Final = ("postgres", "nobody")
_FALLBACK_PARENT: Final = Path("/var/tmp")  # noqa: S108 - survives a reboot; our directory is private to one account


class NoUsableDirectory(Exception):
    """No account or directory is suitable; the message is one sentence."""


def database_account() -> str | None:
    """The account the database must run as: `None` for our own, else an existing unprivileged one."""
    if os.geteuid() != 0:
        return None
    for name in CANDIDATES:
        try:
            if pwd.getpwnam(name).pw_uid != 0:
                return name
        except KeyError:
            continue
    raise NoUsableDirectory(
        "Postgres does not run as root, and there is neither an account postgres nor nobody: "
        "run this as an ordinary user."
    )


def can_enter(directory: Path, account: str | None) -> bool:
    """Whether `account` may pass through `directory` and all its parents."""
    if account is None:
        return os.access(directory, os.X_OK)
    entry = pwd.getpwnam(account)
    return all(_may_pass(parent.stat(), entry) for parent in (directory, *directory.parents))


def _may_pass(status: os.stat_result, entry: pwd.struct_passwd) -> bool:
    if status.st_uid == entry.pw_uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == entry.pw_gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def directory_for(local: Path, account: str | None) -> Path:
    """A directory of the database's own: below `local` if `account` gets there, else below /var/tmp.

    Raises:
        NoUsableDirectory: the directory in /var/tmp exists and belongs to somebody else.
    """
    inside, outside = _candidate_directories(local)
    return own(inside if can_enter(local, account) else outside, account)


def existing_directories(local: Path, account: str | None) -> list[Path]:
    """The database's directories that exist and are the account's own."""
    uid = os.geteuid() if account is None else pwd.getpwnam(account).pw_uid
    return [path for path in _candidate_directories(local) if path.is_dir() and path.lstat().st_uid == uid]


def _candidate_directories(local: Path) -> tuple[Path, Path]:
    digest = hashlib.sha256(os.fsencode(local)).hexdigest()[:12]
    return local / "postgres", _FALLBACK_PARENT / f"fraud-{digest}"


def own(directory: Path, account: str | None) -> Path:
    """Make `directory` private to `account` unless it is already.

    Raises:
        NoUsableDirectory: it is a link, or somebody else's.
    """
    uid = os.geteuid() if account is None else pwd.getpwnam(account).pw_uid
    try:
        directory.mkdir(mode=0o700)
        os.chown(directory, uid, -1 if account is None else pwd.getpwnam(account).pw_gid)
    except FileExistsError:
        pass
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid:
        raise NoUsableDirectory(
            f"{directory} does not belong to {account or 'this user'}: remove it or change its owner."
        )
    return directory
