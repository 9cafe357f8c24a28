"""Installing packages: killed at several moments, and two at once; with locks of one package of our own."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = 500  # so many take pip long enough to be killed in between
INSTALL = """
import sys
from pathlib import Path
root = Path(sys.argv[1])
sys.path[:0] = [{sources!r}, {config!r}]
from fraud_launcher import bootstrap
bootstrap.ROOT = root
home = bootstrap.PackageSet(root / "locks", root / ".venv", root / ".local" / "packages", ())
try:
    bootstrap.environment(sys.argv[2], lambda text: print(text, file=sys.stderr, flush=True), home)
except bootstrap.LauncherError as reason:
    sys.exit(str(reason))
"""


class Installation:
    """A folder with locks of one package each, and real processes that install them."""

    def __init__(self, root: Path, files: int) -> None:
        self.root = root
        self.venv = root / ".venv"
        self._files = files
        self._running: list[subprocess.Popen[str]] = []
        (root / "locks").mkdir()

    def add_lock(self, name: str, requires: str = "") -> Path:
        """A lock file of this name with a package of the same name."""
        digest = hashlib.sha256(_wheel(self.root, name, self._files, requires).read_bytes()).hexdigest()
        lock = self.root / "locks" / f"{name}.txt"
        lock.write_text(f"--no-index\n--find-links {self.root}\n{name}==1.0 --hash=sha256:{digest}\n")
        return lock

    def start(self, group: str) -> subprocess.Popen[str]:
        program = INSTALL.format(sources=str(ROOT / "services" / "launcher"), config=str(ROOT))
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(self.root), group],
            # Without uv, so that it is pip that installs, and into a venv that is made.
            env={"PATH": os.pathsep.join(["/usr/bin", "/bin"])},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._running.append(process)
        return process

    def end(self, process: subprocess.Popen[str]) -> str:
        """Wait for a process that must succeed; returns its messages."""
        _, output = process.communicate(timeout=300)
        assert process.returncode == 0, output
        return output

    def kill_when(self, process: subprocess.Popen[str], reached: Callable[[], bool], *, group: bool) -> None:
        while not reached():
            assert process.poll() is None, "it ended before the kill"
            time.sleep(0.002)
        (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
        process.communicate()

    def packages(self) -> list[Path]:
        return list(self.venv.glob("lib/python3*/site-packages"))

    def count(self, package: str) -> int:
        return sum(1 for folder in self.packages() for _ in folder.glob(f"{package}/m*.py"))

    def works(self, package: str) -> bool:
        last = f"{package}.m{self._files - 1}"
        code = f"import {last}; from importlib.metadata import version; version({package!r})"
        return subprocess.run([self.venv / "bin" / "python", "-c", code], check=False).returncode == 0

    def note(self) -> str:
        return (self.root / ".local" / ".venv.lock").read_text()

    def close(self) -> None:
        for process in self._running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()


def _wheel(folder: Path, name: str, modules: int, requires: str) -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        # First, as other installers write it: then a package half-written looks like one that is there.
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        metadata += f"Requires-Dist: {requires}\n" if requires else ""
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        files = [f"{name}/__init__.py", *(f"{name}/m{number}.py" for number in range(modules))]
        for file in files:
            wheel.writestr(file, "")
        wheel.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in files))
    return path


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """An installation whose packages take pip long enough to be killed in between."""
    fresh = Installation(tmp_path, FILES)
    for name in ("first", "second"):
        fresh.add_lock(name)
    yield fresh
    fresh.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One for several tests, because a venv takes seconds to make; each adds locks of its own."""
    installation = Installation(tmp_path_factory.mktemp("installs"), 3)
    yield installation
    installation.close()


def test_a_venv_that_was_being_made_is_made_anew_and_two_at_once_make_one(shared: Installation) -> None:
    for name in ("first", "second"):
        shared.add_lock(name)
    first = shared.start("first")
    shared.kill_when(first, (shared.venv / "bin" / "python").exists, group=True)
    assert json.loads(shared.note())["pid"] == first.pid
    two = [shared.start("first"), shared.start("second")]
    output = "".join(shared.end(process) for process in two)
    assert "Replacing .venv, whose installation was interrupted." in output
    holder = (
        r"Waiting for the installation of locks/(first|second)\.txt \(process \d+, since .* UTC\) to end\."
    )
    assert any(re.fullmatch(holder, line) for line in output.splitlines())
    assert shared.works("first") and shared.works("second") and shared.note() == ""
    assert shared.end(shared.start("first")) == ""


def test_an_installation_that_fails_hinders_no_other_command(shared: Installation) -> None:
    shared.add_lock("earlier")
    shared.end(shared.start("earlier"))
    lock = shared.add_lock("failing")
    right = lock.read_text()
    lock.write_text(right.replace("sha256:", "sha256:0"))
    failing = shared.start("failing")
    assert "It was not possible to install the packages" in failing.communicate(timeout=300)[1]
    assert shared.end(shared.start("earlier")) == ""
    lock.write_text(right)
    shared.end(shared.start("failing"))
    assert shared.works("failing") and shared.note() == ""


def test_a_lock_is_installed_as_it_stands(shared: Installation) -> None:
    shared.add_lock("asking", requires="absent[extra]<6")
    shared.end(shared.start("asking"))
    assert "asking" in {package.name for package in distributions(path=list(map(str, shared.packages())))}


def test_packages_that_were_being_written_are_written_anew(installation: Installation) -> None:
    first = installation.start("first")
    # The installer itself lives on: nobody else may begin before it has ended.
    installation.kill_when(first, lambda: 0 < installation.count("first") < FILES, group=False)
    output = installation.end(installation.start("first"))
    assert f"Waiting for the installation of locks/first.txt (process {first.pid}, since " in output
    assert "Replacing .venv, whose installation was interrupted." in output
    assert installation.works("first")
    second = installation.start("second")
    installation.kill_when(second, lambda: 0 < installation.count("second") < FILES, group=True)
    assert 0 < installation.count("second") < FILES
    output = installation.end(installation.start("first"))
    assert "Installing the packages of locks/second.txt" in output and "Replacing" not in output
    assert installation.works("first") and installation.works("second") and installation.note() == ""
