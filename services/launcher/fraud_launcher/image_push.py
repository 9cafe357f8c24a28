"""`./fraud push REGISTRY=… TAG=…`: every image of the platform into a registry. Standard library only."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fraud_launcher.bootstrap import ROOT, Refused
from fraud_launcher.image_builds import built, short

COMMANDS = {"push": "tag and push every image: push REGISTRY=registry.example:5000 TAG=1.4.0"}
_REGISTRY = re.compile(r"[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def run(words: Sequence[str], root: Path = ROOT) -> int:
    """Tag every image for the registry and push it; stops at the first that fails.

    Raises:
        Refused: the registry or the tag is missing or malformed, or an image has not been built.
    """
    registry, tag = target(words, os.environ)
    images = sorted(set(built(root).values()))
    missing = [short(image) for image in images if not _there(image)]
    if missing:
        raise Refused(f"Not built: {', '.join(missing)}. `make build` builds what is missing.")
    for image in images:
        pushed = f"{registry}/fraud-detection/{short(image)}:{tag}"
        print(f"{image} → {pushed}", file=sys.stderr, flush=True)
        subprocess.run(["docker", "tag", image, pushed], check=True)
        code = subprocess.run(["docker", "push", "--quiet", pushed], check=False).returncode
        if code:
            return code
    return 0


def target(words: Sequence[str], environ: Mapping[str, str]) -> tuple[str, str]:
    """Registry and tag, out of `NAME=value` words or, as make hands them on, the environment.

    Raises:
        Refused: one is missing or malformed.
    """
    given = dict(word.split("=", 1) for word in words if "=" in word)
    unknown = [word for word in words if word.partition("=")[0] not in {"REGISTRY", "TAG"} or "=" not in word]
    if unknown:
        raise Refused(f"{unknown[0]!r} is neither REGISTRY=… nor TAG=…: push knows nothing else.")
    registry = (given.get("REGISTRY") or environ.get("REGISTRY", "")).rstrip("/")
    tag = given.get("TAG") or environ.get("TAG", "")
    if not registry:
        raise Refused("REGISTRY is missing: name where to push, such as REGISTRY=registry.example:5000.")
    if not tag:
        raise Refused("TAG is missing: name the release, such as TAG=1.4.0.")
    if not _REGISTRY.fullmatch(registry):
        raise Refused(
            f"REGISTRY={registry} is no registry: host, port and path in lower case, without https://."
        )
    if not _TAG.fullmatch(tag):
        raise Refused(f"TAG={tag} is no tag: letters, digits, '.', '_' and '-', at most 128.")
    return registry, tag


def _there(image: str) -> bool:
    command = ["docker", "image", "inspect", "--format", "{{.Id}}", image]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
