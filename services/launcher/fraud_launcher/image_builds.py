"""The platform's own images and the labels of a build. Standard library only."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from fraud_launcher.bootstrap import LauncherError

_LARGEST = 500 * 1024  # BuildKit's limit for a secret
COMPOSE_FILE = "docker-compose.local.yml"


def built_images(root: Path) -> dict[str, str]:
    """Compose service → image, for the services with a build section.

    Raises:
        LauncherError: Compose cannot read its file.
    """
    # Names and build sections contain no variables, so a machine that only builds needs no .env.
    command = ["docker", "compose", "--file", COMPOSE_FILE, "--profile", "*", "config"]
    done = subprocess.run(
        [*command, "--no-interpolate", "--format", "json"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LauncherError(f"Compose cannot read {COMPOSE_FILE}: {done.stderr.strip()}")
    services = json.loads(done.stdout)["services"]
    return {name: service["image"] for name, service in services.items() if "build" in service}


def services_to_build(names: Sequence[str], images: Mapping[str, str]) -> list[str]:
    """The Compose services to build, for names of services or of images.

    Raises:
        LauncherError: there is no such image.
    """
    by_image = {short_name(image): service for service, image in images.items()}
    for name in names:
        if name not in by_image and name not in images:
            raise LauncherError(
                f"There is no image {name!r} to build; there are {', '.join(sorted(by_image))}."
            )
    return [by_image.get(name, name) for name in names]


def short_name(image: str) -> str:
    """`api` of `fraud-detection/api:local`."""
    return image.rpartition("/")[2].partition(":")[0]


def require_bundle(bundle: Path) -> None:
    """Check the bundle before BuildKit rejects it with a less helpful message.

    Raises:
        LauncherError: the file does not exist, or is too large for a secret.
    """
    if not bundle.exists():
        raise LauncherError(
            f"CA_BUNDLE names {bundle}, which does not exist: name a file of certificates, or unset it."
        )
    size = bundle.stat().st_size
    if size > _LARGEST:
        raise LauncherError(
            f"CA_BUNDLE names {bundle} with {-(-size // 1024)} KiB, and a build takes {_LARGEST // 1024}: "
            "name a file that holds only the certificates a build needs."
        )


def labels(root: Path) -> dict[str, str]:
    """The build arguments that describe the sources of an image; the same for every build of a commit."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    arguments = {"IMAGE_VERSION": str(project["version"])}
    revision, created = _git(root, "rev-parse", "HEAD"), _git(root, "show", "-s", "--format=%cI", "HEAD")
    if revision and created:
        changed = "-modified" if _git(root, "status", "--porcelain") else ""
        arguments |= {"IMAGE_REVISION": revision + changed, "IMAGE_CREATED": created}
    return arguments


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
