"""Files that hold secrets."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def write_private(path: Path, text: str, account: str | None = None) -> None:
    """Write a file that only its owner may read: `account` where one is given, else we ourselves.

    The directory may be another account's. Whatever lies at `path` is removed, and the file is made anew
    or not at all: a link put there in between would lead our own rights, which may be root's, elsewhere.

    Raises:
        FileExistsError: somebody else put something at `path` meanwhile.
    """
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        if account is not None:
            entry = pwd.getpwnam(account)
            os.fchown(descriptor, entry.pw_uid, entry.pw_gid)
        file.write(text)
