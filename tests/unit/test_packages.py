"""The locks install every requirement, and nothing that they do not name."""

from importlib.metadata import Distribution, distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fraud_launcher.bootstrap import AIRFLOW, PLATFORM, PackageSet


@pytest.mark.parametrize("home", [PLATFORM, AIRFLOW], ids=lambda home: home.venv.name)
def test_every_package_finds_what_it_asks_for(home: PackageSet) -> None:
    """Locks are installed without resolving, so only this test detects an incomplete one."""
    folders = [
        *home.venv.glob("lib/python3*/site-packages"),
        *([home.target] if home.target.is_dir() else []),
    ]
    if not folders:
        pytest.skip(f"{home.venv.name} is not installed")
    installed = {
        canonicalize_name(package.name): package
        for package in distributions(path=[str(folder) for folder in folders])
    }
    missing: set[str] = set()
    waiting = [(name, "") for name in installed]
    seen = set(waiting)
    while waiting:
        name, extra = waiting.pop()
        for requirement in _requirements(installed[name], extra):
            required = canonicalize_name(requirement.name)
            package = installed.get(required)
            if package is None or not requirement.specifier.contains(package.version, prereleases=True):
                version = package.version if package else "nothing"
                missing.add(f"{name}: {requirement} (found: {version})")
                continue
            for dependency in {(required, extra) for extra in requirement.extras} - seen:
                seen.add(dependency)
                waiting.append(dependency)
    assert not missing


def _requirements(package: Distribution, extra: str) -> list[Requirement]:
    every = [Requirement(line) for line in package.requires or []]
    return [one for one in every if one.marker is None or one.marker.evaluate({"extra": extra})]
