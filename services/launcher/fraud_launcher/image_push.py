"""`./fraud push REGISTRY=… TAG=…`: pushes the platform's images to a registry. Standard library only."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fraud_launcher.bootstrap import ROOT, LauncherError
from fraud_launcher.image_builds import built_images, short_name

COMMANDS = {"push": "tag and push every image: push REGISTRY=registry.example:5000 TAG=1.4.0"}
_REGISTRY = re.compile(r"[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def run(arguments: Sequence[str], root: Path = ROOT) -> int:
    """Tag and push every image; stops at the first failure.

    Raises:
        LauncherError: the registry or the tag is missing or malformed, or an image has not been built.
    """
    registry, tag = target(arguments, os.environ)
    images = sorted(set(built_images(root).values()))
    missing = [short_name(image) for image in images if not _exists(image)]
    if missing:
        raise LauncherError(f"Not built: {', '.join(missing)}. `make build` builds what is missing.")
    for image in images:
        pushed = f"{registry}/fraud-detection/{short_name(image)}:{tag}"
        print(f"{image} → {pushed}", file=sys.stderr, flush=True)
        subprocess.run(["docker", "tag", image, pushed], check=True)
        code = subprocess.run(["docker", "push", "--quiet", pushed], check=False).returncode
        if code:
            return code
    return 0


def target(arguments: Sequence[str], environ: Mapping[str, str]) -> tuple[str, str]:
    """Registry and tag from `NAME=value` arguments or, as make passes them, the environment.

    Raises:
        LauncherError: one is missing or malformed.
    """
    assignments = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    unknown = [
        argument
        for argument in arguments
        if argument.partition("=")[0] not in {"REGISTRY", "TAG"} or "=" not in argument
    ]
    if unknown:
        raise LauncherError(f"{unknown[0]!r} is neither REGISTRY=… nor TAG=…: push accepts nothing else.")
    registry = (assignments.get("REGISTRY") or environ.get("REGISTRY", "")).rstrip("/")
    tag = assignments.get("TAG") or environ.get("TAG", "")
    if not registry:
        raise LauncherError("REGISTRY is missing: set the registry, such as REGISTRY=registry.example:5000.")
    if not tag:
        raise LauncherError("TAG is missing: set the release, such as TAG=1.4.0.")
    if not _REGISTRY.fullmatch(registry):
        raise LauncherError(
            f"REGISTRY={registry} is not a registry: use host, port and path in lower case, without https://."
        )
    if not _TAG.fullmatch(tag):
        raise LauncherError(f"TAG={tag} is not a tag: use letters, digits, '.', '_' and '-', at most 128.")
    return registry, tag


def _exists(image: str) -> bool:
    command = ["docker", "image", "inspect", "--format", "{{.Id}}", image]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
