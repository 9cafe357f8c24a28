"""Installing packages: killed at several moments, and two at once; with a lock of one package of our own."""

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

from fraud_launcher.bootstrap import PackageSet, environment

ROOT = Path(__file__).resolve().parents[2]
# So many files take pip long enough to be killed in between.
FILES = 500
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
    """A folder with two locks, `first` and `second`, and real processes that install them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.venv = root / ".venv"
        self._running: list[subprocess.Popen[str]] = []
        (root / "locks").mkdir()
        for name in ("first", "second"):
            digest = hashlib.sha256(_wheel(root, name).read_bytes()).hexdigest()
            text = f"--no-index\n--find-links {root}\n{name}==1.0 --hash=sha256:{digest}\n"
            (root / "locks" / f"{name}.txt").write_text(text)

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
        code = f"import {package}.m{FILES - 1}; from importlib.metadata import version; version({package!r})"
        return subprocess.run([self.venv / "bin" / "python", "-c", code], check=False).returncode == 0

    def note(self) -> str:
        return (self.root / ".local" / ".venv.lock").read_text()

    def close(self) -> None:
        for process in self._running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()


def _wheel(folder: Path, name: str) -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        # First, as other installers write it: then a package half-written looks like one that is there.
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        files = [f"{name}/__init__.py", *(f"{name}/m{number}.py" for number in range(FILES))]
        for file in files:
            wheel.writestr(file, "")
        wheel.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in files))
    return path


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    fresh = Installation(tmp_path)
    yield fresh
    fresh.close()


def test_a_venv_that_was_being_made_is_made_anew_and_two_at_once_make_one(installation: Installation) -> None:
    first = installation.start("first")
    installation.kill_when(first, (installation.venv / "bin" / "python").exists, group=True)
    assert json.loads(installation.note())["pid"] == first.pid
    two = [installation.start("first"), installation.start("second")]
    output = "".join(installation.end(process) for process in two)
    assert "Replacing .venv, whose installation was interrupted." in output
    holder = (
        r"Waiting for the installation of locks/(first|second)\.txt \(process \d+, since .* UTC\) to end\."
    )
    assert any(re.fullmatch(holder, line) for line in output.splitlines())
    assert installation.works("first") and installation.works("second") and installation.note() == ""
    assert installation.end(installation.start("first")) == ""


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


def test_an_installation_that_fails_hinders_no_other_command(installation: Installation) -> None:
    installation.end(installation.start("first"))
    lock = installation.root / "locks" / "second.txt"
    right = lock.read_text()
    lock.write_text(right.replace("sha256:", "sha256:0"))
    failing = installation.start("second")
    assert "It was not possible to install the packages" in failing.communicate(timeout=300)[1]
    assert installation.end(installation.start("first")) == ""
    lock.write_text(right)
    installation.end(installation.start("second"))
    assert installation.works("second") and installation.note() == ""


def test_a_lock_is_installed_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = _asking_wheel(tmp_path, "asking", "1.0", requires="absent[extra]<6")
    lock = tmp_path / "locks" / "only.txt"
    lock.parent.mkdir()
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    lock.write_text(f"--no-index\n--find-links {tmp_path}\nasking==1.0 --hash=sha256:{digest}\n")
    monkeypatch.setattr("fraud_launcher.bootstrap.ROOT", tmp_path)
    # Without uv, so that pip is what is tried.
    monkeypatch.setenv("PATH", os.pathsep.join(["/usr/bin", "/bin"]))
    home = PackageSet(lock.parent, tmp_path / "venv", tmp_path / "target", ())
    python = environment("only", lambda _: None, home).python
    folders = [str(path) for path in python.parents[1].glob("lib/python3*/site-packages")]
    assert "asking" in {package.name for package in distributions(path=folders)}


def _asking_wheel(folder: Path, name: str, version: str, requires: str) -> Path:
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: {requires}\n"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path
