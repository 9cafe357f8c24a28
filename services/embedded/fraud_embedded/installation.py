"""Where the embedded platform keeps its files, and what `.env` and the environment say about it."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import secrets as random
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from config.settings import DEVELOPMENT_SECRET_MARK, ConfigurationError
from fraud_embedded.private_files import write_private

ROOT: Final = Path(__file__).resolve().parents[3]
# A socket's path may have about 100 characters; names below the directory take up to 20.
_SOCKET_DIRECTORY_MAX: Final = 80
_DEFAULT_SECRET: Final = re.compile(rf"{DEVELOPMENT_SECRET_MARK}[\w-]*=?")
# Site choices that a person may also set for one start; secrets come from `.env` alone, so that
# credentials that happen to be exported in a shell never reach a server.
# Site choices that every process of the platform gets. Its logs go to stderr: the supervisor keeps them.
PASSED_ON: Final = (
    "APP_ENV",
    "FRAUD_CONTRACT",
    "FRAUD_CONTRACTS_DIR",
    "FRAUD_CONFIG_DIR",
    "KAFKA_TOPIC",
    "KAFKA_GROUP",
    "DATA_DRIFT_THRESHOLD",
    "CONCEPT_DRIFT_THRESHOLD",
    "MIN_RECALL_THRESHOLD",
    "MIN_PRECISION_THRESHOLD",
    "LOG_LEVEL",
)
# What Airflow is told besides, and what its connections for alerts are set up from.
AIRFLOW_CHOICES: Final = (
    "ALERT_EMAIL_RECIPIENTS",
    "ALERT_EMAIL_FROM",
    "ALERT_REPEAT_MINUTES",
    "AIRFLOW_KEEP_DAYS",
    "AIRFLOW_KEEP_SUB_MINUTE_HOURS",
    "AIRFLOW_PARALLELISM",
)
ALERT_ROUTES: Final = (
    "ALERT_EMAIL_FROM",
    "SMTP_HOST",
    "SMTP_PORT",
    "SMTP_USER",
    "SMTP_PASSWORD",
    "SMTP_SECURITY",
    "SLACK_WEBHOOK_URL",
)
_SITE_CHOICES: Final = (*PASSED_ON, "PORT_OFFSET")


@dataclass(frozen=True, slots=True)
class Layout:
    """The project's own directories."""

    root: Path
    local: Path

    @property
    def env_file(self) -> Path:
        return self.root / ".env"

    @property
    def logs(self) -> Path:
        return self.local / "logs"

    @property
    def state_file(self) -> Path:
        return self.local / "state.json"

    @property
    def models(self) -> Path:
        return self.local / "models"

    @property
    def run(self) -> Path:
        """Process files and sockets: below `local` where the path is short enough for a socket."""
        inside = self.local / "run"
        if len(os.fsencode(inside)) <= _SOCKET_DIRECTORY_MAX:
            return inside
        digest = hashlib.sha256(os.fsencode(self.local)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"fraud-run-{os.getuid()}-{digest}"

    def make(self) -> None:
        """Make the directories; what holds secrets is for its owner alone."""
        self.local.mkdir(exist_ok=True)
        # The database's account must get through to its own directory below.
        self.local.chmod(0o711)
        for directory in (self.logs, self.run, self.models):
            directory.mkdir(exist_ok=True)
            status = directory.lstat()
            if status.st_uid != os.getuid() or directory.is_symlink():
                raise ConfigurationError(f"{directory} belongs to somebody else: remove it.")
            directory.chmod(0o700)


def default_layout() -> Layout:
    return Layout(ROOT, ROOT / ".local")


def read_settings(layout: Layout, environ: Mapping[str, str]) -> dict[str, str]:
    """What `.env` says, with the site choices of `environ` over it.

    Raises:
        ConfigurationError: there is no `.env`.
    """
    try:
        found = parse_dotenv(layout.env_file.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"There is no {layout.env_file}: run ./fraud demo once.") from None
    return found | {name: environ[name] for name in _SITE_CHOICES if environ.get(name)}


def parse_dotenv(text: str) -> dict[str, str]:
    """`NAME=value` lines; quotes around a value are taken off, nothing is expanded."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if not equals or name.startswith("#"):
            continue
        stripped = value.strip()
        if len(stripped) >= 2 and stripped[0] == stripped[-1] and stripped[0] in "\"'":
            stripped = stripped[1:-1]
        values[name.strip()] = stripped
    return values


def ensure_dotenv(layout: Layout) -> list[str]:
    """Write `.env` with random secrets where there is none; add secrets that an older one lacks.

    Nothing that is set is changed.

    Returns:
        The names written.
    """
    template = (layout.root / ".env.example").read_text("utf-8")
    if not layout.env_file.exists():
        text = with_random_secrets(template)
        _replace_private(layout.env_file, text)
        return sorted(parse_dotenv(text))
    present = layout.env_file.read_text("utf-8")
    known = parse_dotenv(present)
    missing = {name: value for name, value in parse_dotenv(template).items() if name not in known}
    if missing:
        lines = "".join(f"{name}={value}\n" for name, value in missing.items())
        end = "" if present.endswith("\n") else "\n"
        addition = with_random_secrets(f"\n# Added because this version needs them\n{lines}")
        _replace_private(layout.env_file, present + end + addition)
    return sorted(missing)


def with_random_secrets(template: str) -> str:
    """Every development secret replaced by a random one, the same mark by the same secret."""
    made: dict[str, str] = {}

    def secret(mark: str) -> str:
        # A mark that ends so stands for a key, 32 bytes in base64.
        key = base64.urlsafe_b64encode(random.token_bytes(32)).decode("ascii")
        return made.setdefault(mark, key if mark.endswith("=") else random.token_hex(32))

    lines = []
    for line in template.splitlines(keepends=True):
        if line.lstrip().startswith("#"):
            lines.append(line)
            continue
        lines.append(_DEFAULT_SECRET.sub(lambda found: secret(found.group()), line))
    return "".join(lines)


def _replace_private(path: Path, text: str) -> None:
    staging = path.with_name(f".{path.name}.new")
    write_private(staging, text)
    staging.replace(path)
