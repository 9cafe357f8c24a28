"""`./fraud secrets [FOLDER]`: writes the secrets of a production installation, one file each.

Docker mounts a secret's file with its mode, and containers run as different users. So the files are readable
by all, and the folder, which no container sees, by its owner only. Standard library only.
"""

from __future__ import annotations

import base64
import re
import secrets as random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[3]
COMPOSE: Final = ROOT / "docker-compose.vm1.yml"
# Further secrets that only the API's machine needs.
OF_THE_API: Final = ("api_client_secret_admin", "api_key_encryption_secret")
# Issued by other systems; empty until somebody fills them in.
OPTIONAL: Final = ("smtp_password", "slack_webhook_url")
_SECRET_NAME: Final = re.compile(r"^  (\w+): \{ file: ", re.MULTILINE)


def names() -> list[str]:
    """The names of all secrets."""
    _, _, section = COMPOSE.read_text("utf-8").partition("\nsecrets:\n")
    return [*_SECRET_NAME.findall(section), *OF_THE_API]


def write(folder: Path) -> list[str]:
    """Write missing secrets; existing files are not changed.

    Returns:
        The names written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    written = [name for name in names() if not (folder / name).exists()]
    for name in written:
        file = folder / name
        file.touch(mode=0o600, exist_ok=False)
        file.write_text(_value(name), "utf-8")
        file.chmod(0o444)
    return written


def _value(name: str) -> str:
    if name in OPTIONAL:
        return ""
    if name.endswith("fernet_key"):
        return base64.urlsafe_b64encode(random.token_bytes(32)).decode("ascii")
    return random.token_hex(32)


def main(arguments: Sequence[str]) -> int:
    """Write the folder and print what was done, but never a secret."""
    if len(arguments) > 1 or (arguments and arguments[0].startswith("-")):
        print("usage: ./fraud secrets [FOLDER]      by default ./secrets, which SECRETS_DIR of .env names")
        return 0 if arguments[0] in {"-h", "--help"} else 2
    folder = Path(arguments[0] if arguments else "secrets")
    try:
        written = write(folder)
    except OSError as error:
        print(f"{error.filename or folder} cannot be written ({error.strerror}).", file=sys.stderr)
        return 2
    print(f"{folder}: {len(written)} written, {len(names()) - len(written)} existed and are unchanged.")
    empty = [name for name in OPTIONAL if not (folder / name).read_text("utf-8").strip()]
    if empty:
        print(f"Empty, fill them in if you need them: {', '.join(empty)}.")
    return 0
