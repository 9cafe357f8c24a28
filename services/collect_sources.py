"""Copies the sources of an image: the packages of its group and their path dependencies.

Run in an image's build: `collect_sources.py SERVICE TARGET`. Standard library only.
"""

from __future__ import annotations

import compileall
import py_compile
import re
import shutil
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from config.services import groups  # noqa: E402 - found through the line above

_NOT_COPIED = shutil.ignore_patterns("__pycache__", "*.pyc", "pyproject.toml")


def projects(folders: Iterable[str], root: Path = ROOT) -> list[Path]:
    """The given folders with a pyproject.toml and their path dependencies, in a fixed order."""
    collected: set[Path] = set()
    waiting = [(root / folder).resolve() for folder in folders]
    while waiting:
        project = waiting.pop()
        if project not in collected:
            collected.add(project)
            waiting += _path_dependencies(project)
    return sorted(collected)


def packages(project: Path) -> list[Path]:
    """The folders of importable code of one project; empty if it only declares dependencies."""
    wheel = _toml(project / "pyproject.toml").get("tool", {}).get("hatch", {}).get("build", {})
    target = wheel.get("targets", {}).get("wheel", {})
    if "sources" in target:
        return [project]
    return [project / name for name in target.get("packages", [])]


def collect(service: str, target: Path, root: Path = ROOT) -> list[str]:
    """Copy and compile everything the image of `service` imports; return the names of the packages.

    Raises:
        KeyError: there is no such group.
    """
    copied: list[str] = []
    for project in projects(groups()[service].packages, root):
        for package in packages(project):
            shutil.copytree(package, target / package.name, ignore=_NOT_COPIED)
            copied.append(package.name)
    target.mkdir(parents=True, exist_ok=True)
    compileall.compile_dir(target, quiet=1, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    return copied


def _path_dependencies(project: Path) -> list[Path]:
    declared = _toml(project / "pyproject.toml")
    lines: list[str] = declared["project"].get("dependencies", [])
    needed = {re.split(r"[^\w-]", line, maxsplit=1)[0] for line in lines}
    sources: dict[str, dict[str, str]] = declared.get("tool", {}).get("uv", {}).get("sources", {})
    return [(project / source["path"]).resolve() for name, source in sources.items() if name in needed]


def _toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    print("sources:", *collect(sys.argv[1], Path(sys.argv[2])))
