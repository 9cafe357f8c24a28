"""Writes files that hold secrets."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def write_private(path: Path, text: str, account: str | None = None) -> None:
    """Write a file that only its owner can read: `account` if given, otherwise the current user.

    The directory may belong to another account. An existing file at `path` is removed and a new one created
    exclusively: we may be root, and must not write through a link that the other account puts there.

    Raises:
        FileExistsError: another process created something at `path` meanwhile.
    """
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        if account is not None:
            entry = pwd.getpwnam(account)
            os.fchown(descriptor, entry.pw_uid, entry.pw_gid)
        file.write(text)
