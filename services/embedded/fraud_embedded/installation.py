"""Where the embedded platform keeps its files, and what `.env` and the environment say about it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from config.settings import ConfigurationError
from fraud_launcher import dotenv, paths

ROOT: Final = Path(__file__).resolve().parents[3]
# Site choices that every process of the platform gets. Its logs go to stderr: the supervisor keeps them.
PASSED_ON: Final = dotenv.SITE_CHOICES
# What Airflow is told besides, and what its connections for alerts are set up from.
AIRFLOW_CHOICES: Final = (
    "ALERT_EMAIL_RECIPIENTS",
    "ALERT_EMAIL_FROM",
    "ALERT_REPEAT_MINUTES",
    "ALERT_QUIET_HOURS",
    "ALERT_TIMEZONE",
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
        return paths.state_file(self.local)

    @property
    def lock(self) -> Path:
        """Held by the one command that starts or stops servers."""
        return self.local / "platform.lock"

    @property
    def models(self) -> Path:
        return self.local / "models"

    @property
    def run(self) -> Path:
        """Process files and sockets."""
        return paths.run_directory(self.local)

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
        ConfigurationError: there is no `.env`, or it cannot be read.
    """
    try:
        values = dotenv.read(layout.env_file)
    except FileNotFoundError:
        raise ConfigurationError(f"There is no {layout.env_file}: run ./fraud demo once.") from None
    except dotenv.BadDotenv as error:
        raise ConfigurationError(str(error)) from None
    return values | {name: environ[name] for name in _SITE_CHOICES if environ.get(name)}


def ensure_dotenv(layout: Layout) -> list[str]:
    """Write `.env` where there is none, add what an older one lacks; the names written.

    Raises:
        ConfigurationError: `.env` cannot be read.
    """
    try:
        return dotenv.ensure(layout.env_file, layout.root / ".env.example")
    except dotenv.BadDotenv as error:
        raise ConfigurationError(str(error)) from None
