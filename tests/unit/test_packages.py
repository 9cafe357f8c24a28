"""What the locks install: all that is asked for, and nothing that they do not name."""

from importlib.metadata import Distribution, distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fraud_launcher.bootstrap import AIRFLOW, PLATFORM, PackageSet


@pytest.mark.parametrize("home", [PLATFORM, AIRFLOW], ids=lambda home: home.venv.name)
def test_every_package_finds_what_it_asks_for(home: PackageSet) -> None:
    """Locks are installed without resolving, so this is what tells of an incomplete one."""
    folders = [
        *home.venv.glob("lib/python3*/site-packages"),
        *([home.target] if home.target.is_dir() else []),
    ]
    if not folders:
        pytest.skip(f"{home.venv.name} is not installed")
    found = {
        canonicalize_name(found.name): found
        for found in distributions(path=[str(folder) for folder in folders])
    }
    missing: set[str] = set()
    waiting = [(name, "") for name in found]
    seen = set(waiting)
    while waiting:
        name, extra = waiting.pop()
        for asked in _asked_for(found[name], extra):
            met = found.get(canonicalize_name(asked.name))
            if met is None or not asked.specifier.contains(met.version, prereleases=True):
                missing.add(f"{name}: {asked} (found: {met.version if met else 'nothing'})")
                continue
            for wanted in {(canonicalize_name(asked.name), one) for one in asked.extras} - seen:
                seen.add(wanted)
                waiting.append(wanted)
    assert not missing


def _asked_for(package: Distribution, extra: str) -> list[Requirement]:
    asked = [Requirement(line) for line in package.requires or []]
    return [one for one in asked if one.marker is None or one.marker.evaluate({"extra": extra})]
