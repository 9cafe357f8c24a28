"""Checks of Docker: the daemon, Compose's version, the platform's images."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from fraud_launcher.bootstrap import LauncherError
from fraud_launcher.compose import Compose, require_compose
from fraud_launcher.findings import Problem

_SECONDS: Final = 20


def check_daemon(root: Path) -> str:
    """Whether Docker's daemon answers and Compose is recent enough. Raises Problem."""
    try:
        require_compose()
        Compose(root, offline=False).require_daemon()
    except LauncherError as error:
        raise Problem(str(error), "docs/compose.md says what Docker Compose needs.") from None
    return "Docker's daemon answers, and Compose is recent enough."


def check_images(root: Path) -> str:
    """Whether every image of the Compose file is on this machine. Raises Problem."""
    try:
        images = Compose(root, offline=False).images()
    except LauncherError as error:
        raise Problem(
            str(error), "Run make up once, which writes .env and checks the Compose file."
        ) from None
    command = ["docker", "image", "inspect", "--format", "{{index .RepoTags 0}}"]
    missing = [
        image
        for image in images
        if subprocess.run([*command, image], capture_output=True, check=False, timeout=_SECONDS).returncode
    ]
    if missing:
        raise Problem(
            f"Of {len(images)} images {len(missing)} are not on this machine, such as {missing[0]}.",
            "Build and fetch them: make build, make up; without a registry see docs/images.md.",
        )
    return f"All {len(images)} images are on this machine."
