"""`./fraud images-offline`: builds the third-party images of the stack without access to a registry.

The base image is made with debootstrap; `images/` adds packages of Debian, PyPI and Maven. Standard
library only.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from fraud_launcher.bootstrap import ROOT, LauncherError
from fraud_launcher.compose import Compose, require_compose

COMMANDS = {
    "images-offline": "build every third-party image from Debian, PyPI and Maven packages, without a registry"
}
IMAGE = "fraud-detection/debootstrap:offline"
SUITE = "trixie"
INCLUDED = "ca-certificates,python3,python3-venv"
_MADE_OF = "fraud-detection.made-of"


def run(arguments: Sequence[str]) -> int:
    """Build the base and the images on it; an up-to-date base is kept.

    Raises:
        LauncherError: Docker or debootstrap is missing, or this is not root.
    """
    parser = argparse.ArgumentParser(prog="./fraud images-offline", description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="rebuild the base, with Debian's updates")
    options = parser.parse_args(arguments)
    require_compose()
    compose = Compose(ROOT, False)
    compose.require_daemon()
    compose.require_certificates()
    started = time.monotonic()
    _make_base(os.environ.get("DEBIAN_MIRROR", ""), fresh=options.fresh)
    code = _build(compose, "base", *(["--no-cache"] if options.fresh else [])) or _build(compose)
    if code == 0:
        _report(f"Built in {time.monotonic() - started:.0f} s; Grafana cannot be built that way.")
        _report("To use them: make build ARGS=--offline, make up ARGS=--offline")
    return code


def _build(compose: Compose, *arguments: str) -> int:
    # The project's name becomes a label, and the environment may set another one for the stack.
    project = ["--project-name", "fraud-detection-offline", "--file", "images/compose.yml"]
    command = ["docker", "compose", *project, "build", *arguments]
    _report(f"Building {arguments[0] if arguments else 'the images on it'} …")
    return subprocess.run(command, cwd=ROOT, env=compose.environment(), check=False).returncode


def _make_base(mirror: str, *, fresh: bool) -> None:
    """Import a base made with debootstrap into Docker, unless it exists.

    Raises:
        LauncherError: the user is not root, or debootstrap is missing or failed.
    """
    recipe = hashlib.sha256(f"{SUITE} {INCLUDED} {mirror}".encode()).hexdigest()
    if not fresh and _label() == recipe:
        _report(f"{IMAGE} exists; --fresh rebuilds it.")
        return
    if os.geteuid() != 0:
        raise LauncherError("debootstrap needs root, to make device files: sudo ./fraud images-offline.")
    if shutil.which("debootstrap") is None:
        raise LauncherError("There is no debootstrap, which makes the base: install the package debootstrap.")
    _report(f"Making a base of Debian {SUITE} with debootstrap, in a minute or two …")
    with tempfile.TemporaryDirectory(
        prefix="fraud-base-", dir="/var/tmp", ignore_cleanup_errors=True
    ) as directory:
        tree = Path(directory) / "tree"
        _debootstrap(tree, mirror)
        _clean(tree)
        _load(tree, recipe)


def _debootstrap(tree: Path, mirror: str) -> None:
    command = ["debootstrap", "--variant=minbase", "--force-check-gpg", f"--include={INCLUDED}", SUITE]
    done = subprocess.run(
        [*command, str(tree), *([mirror] if mirror else [])], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise LauncherError(f"It was not possible to make the base; debootstrap reported:\n{last}")


def _clean(tree: Path) -> None:
    sources = tree / "etc" / "apt" / "sources.list"
    sources.write_text(with_updates(sources.read_text(encoding="utf-8")), encoding="utf-8")
    for folder in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(tree / folder)
        (tree / folder / "partial").mkdir(parents=True)


def with_updates(sources: str) -> str:
    """The package sources: the archive debootstrap used, Debian's updates and security updates."""
    match = re.search(rf"^deb (\S+) {SUITE} main", sources, re.MULTILINE)
    if match is None:
        return sources
    mirror = match[1].rstrip("/")
    lines = [f"deb {mirror} {SUITE} main", f"deb {mirror} {SUITE}-updates main"]
    if mirror.endswith("/debian"):
        lines.append(f"deb {mirror}-security {SUITE}-security main")
    return "\n".join(lines) + "\n"


def _load(tree: Path, recipe: str) -> None:
    tar = subprocess.Popen(["tar", "--numeric-owner", "-C", str(tree), "-c", "."], stdout=subprocess.PIPE)
    with tar:
        load = ["docker", "import", "--change", f"LABEL {_MADE_OF}={recipe}", "-", IMAGE]
        loaded = subprocess.run(load, stdin=tar.stdout, stdout=subprocess.DEVNULL, check=False)
    if loaded.returncode or tar.returncode:
        raise LauncherError("Docker did not import the base; its message is above.")


def _label() -> str:
    command = ["docker", "image", "inspect", "--format", f'{{{{index .Config.Labels "{_MADE_OF}"}}}}', IMAGE]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
