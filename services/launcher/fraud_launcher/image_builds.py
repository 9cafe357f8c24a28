"""The platform's own images: which there are, and what a build labels them with. Standard library only."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from fraud_launcher.bootstrap import Refused

_LARGEST = 500 * 1024  # of a secret of BuildKit
COMPOSE_FILE = "docker-compose.local.yml"


def built(root: Path) -> dict[str, str]:
    """Compose service → image, for the services that say how their image is built.

    Raises:
        Refused: Compose cannot read its file.
    """
    # Names and build sections hold no variable: a machine that only builds needs no .env.
    command = ["docker", "compose", "--file", COMPOSE_FILE, "--profile", "*", "config"]
    done = subprocess.run(
        [*command, "--no-interpolate", "--format", "json"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Refused(f"Compose cannot read {COMPOSE_FILE}: {done.stderr.strip()}")
    services = json.loads(done.stdout)["services"]
    return {name: service["image"] for name, service in services.items() if "build" in service}


def builders(names: Sequence[str], images: Mapping[str, str]) -> list[str]:
    """The Compose services that build what is named: by a service's name or by its image's.

    Raises:
        Refused: there is no such image.
    """
    by_image = {short(image): service for service, image in images.items()}
    for name in names:
        if name not in by_image and name not in images:
            raise Refused(f"There is no image {name!r} to build; there are {', '.join(sorted(by_image))}.")
    return [by_image.get(name, name) for name in names]


def short(image: str) -> str:
    """`api` of `fraud-detection/api:local`."""
    return image.rpartition("/")[2].partition(":")[0]


def require_bundle(bundle: Path) -> None:
    """Refuse what BuildKit would refuse in words of its own.

    Raises:
        Refused: the file is not there, or too large for a secret.
    """
    if not bundle.exists():
        raise Refused(
            f"CA_BUNDLE names {bundle}, which is not there: name a file of certificates, or unset it."
        )
    size = bundle.stat().st_size
    if size > _LARGEST:
        raise Refused(
            f"CA_BUNDLE names {bundle} with {-(-size // 1024)} KiB, and a build takes {_LARGEST // 1024}: "
            "name a file that holds only the certificates a build needs."
        )


def labels(root: Path) -> dict[str, str]:
    """Build arguments that say what an image was made of; the same for every build of a commit."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = {"IMAGE_VERSION": str(project["version"])}
    revision, created = _git(root, "rev-parse", "HEAD"), _git(root, "show", "-s", "--format=%cI", "HEAD")
    if revision and created:
        changed = "-modified" if _git(root, "status", "--porcelain") else ""
        found |= {"IMAGE_REVISION": revision + changed, "IMAGE_CREATED": created}
    return found


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
