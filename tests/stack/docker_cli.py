"""Docker's command line, for tests that need Docker but not the stack."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

SECONDS = 600


def docker(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a Docker command; the caller checks its exit code."""
    command = ["docker", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=SECONDS)


def docker_output(*arguments: str) -> str:
    """The output of a Docker command that must succeed."""
    done = docker(*arguments)
    assert done.returncode == 0, f"docker {' '.join(arguments)} → {done.returncode}\n{done.stderr[-3000:]}"
    return done.stdout.strip()


def image(name: str) -> dict[str, Any]:
    """Docker's description of an image.

    Raises:
        Skipped: there is no Docker, or the image is not built.
    """
    try:
        done = docker("image", "inspect", name)
    except FileNotFoundError:
        pytest.skip("not run: there is no docker")
    if done.returncode:
        pytest.skip(f"not run: {name} is not built")
    details: dict[str, Any] = json.loads(done.stdout)[0]
    return details


def remove_labelled(label: str, *kinds: str) -> None:
    """Remove the containers, images or volumes with the label that a test has left."""
    for kind in kinds:
        listing = docker(
            kind, "ls", "--quiet", *(["--all"] if kind == "container" else []), "--filter", label
        )
        for one in listing.stdout.split():
            docker(kind, "rm", "--force", *(["--volumes"] if kind == "container" else []), one)
