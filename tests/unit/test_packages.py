"""What the locks install: all that is asked for, and nothing that they do not name."""

import hashlib
import os
import zipfile
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fraud_launcher.bootstrap import AIRFLOW, PLATFORM, Home, environment


@pytest.mark.parametrize("home", [PLATFORM, AIRFLOW], ids=lambda home: home.venv.name)
def test_every_package_finds_what_it_asks_for(home: Home) -> None:
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


def test_a_lock_is_installed_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = _wheel(tmp_path, "asking", "1.0", requires="absent[extra]<6")
    lock = tmp_path / "locks" / "only.txt"
    lock.parent.mkdir()
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    lock.write_text(f"--no-index\n--find-links {tmp_path}\nasking==1.0 --hash=sha256:{digest}\n")
    monkeypatch.setattr("fraud_launcher.bootstrap.ROOT", tmp_path)
    # Without uv, so that pip is what is tried.
    monkeypatch.setenv("PATH", os.pathsep.join(["/usr/bin", "/bin"]))
    home = Home(lock.parent, tmp_path / "venv", tmp_path / "target", ())
    python = environment("only", lambda _: None, home).python
    places = [str(path) for path in python.parents[1].glob("lib/python3*/site-packages")]
    assert "asking" in {found.name for found in distributions(path=places)}


def _wheel(folder: Path, name: str, version: str, requires: str) -> Path:
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: {requires}\n"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path
