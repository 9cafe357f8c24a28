"""Compares installed packages with a lock file."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from fraud_launcher.findings import Problem

_SHOWN: Final = 3


def check_packages(lock: Path, site_packages: Path) -> str:
    """Whether the packages in `site_packages` have the versions of the lock file.

    Raises:
        Problem: some are missing or have another version.
    """
    pinned = pins(lock.read_text(encoding="utf-8"))
    present: dict[str, str] = {
        canonicalize_name(one.name): one.version for one in metadata.distributions(path=[str(site_packages)])
    }
    wrong = [
        f"{name} is {present.get(name, 'missing')} instead of {version}"
        for name, version in pinned.items()
        if present.get(name) != version
    ]
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise Problem(
            f"Of the {len(pinned)} packages of {lock.name}, {', '.join(wrong[:_SHOWN])}{more}.",
            f"Remove {_environment_of(site_packages)}: the next ./fraud command installs the locked "
            "versions.",
        )
    return f"The {len(pinned)} packages of {lock.parent.name}/{lock.name} have the locked versions."


def pins(text: str) -> dict[str, str]:
    """The versions of a lock file by canonical name, without those for other systems and Pythons."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if not line or line[0] in "# -":
            continue
        try:
            requirement = Requirement(line.rstrip("\\ "))
        except InvalidRequirement:
            continue
        applies = requirement.marker is None or requirement.marker.evaluate()
        versions = [specifier.version for specifier in requirement.specifier if specifier.operator == "=="]
        if applies and versions:
            found[canonicalize_name(requirement.name)] = versions[0]
    return found


def _environment_of(site_packages: Path) -> Path:
    """The venv, or the folder that pip filled if there is no venv."""
    return next(
        (parent for parent in site_packages.parents if (parent / "pyvenv.cfg").exists()), site_packages
    )
