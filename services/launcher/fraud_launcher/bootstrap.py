"""Makes the Python environment the platform runs in. Standard library only: nothing is installed yet."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config import services
from fraud_launcher import lock_file

ROOT = Path(__file__).resolve().parents[3]

MIN_MEMORY_MIB = 3000
MIN_DISK_MIB = 4000
SYSTEMS = {("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "arm64")}


class Refused(Exception):
    """The machine will not do; the message is one sentence."""


@dataclass(frozen=True)
class Home:
    """Where one set of packages lives, and which of our own sources are found beside them."""

    locks: Path
    venv: Path
    # Where packages go when this Python has pip but cannot make a venv.
    target: Path
    sources: tuple[str, ...]

    @property
    def lock(self) -> Path:
        """Held while packages are installed; a note stays in it where that was interrupted."""
        return self.target.parent / f"{self.venv.name}.lock"


PLATFORM = Home(
    locks=ROOT / "requirements",
    venv=ROOT / ".venv",
    target=ROOT / ".local" / "site-packages",
    sources=services.sources(),
)
# Airflow resolves alone; of ours it sees what its image holds too.
AIRFLOW = Home(
    locks=ROOT / "airflow",
    venv=ROOT / ".venv-airflow",
    target=ROOT / ".local" / "airflow-packages",
    sources=(".",),
)


@dataclass(frozen=True)
class Environment:
    """A Python to run our code with, and what its processes need in their environment."""

    python: Path
    variables: dict[str, str]


def preflight(*, installed: bool) -> None:
    """Refuse a machine on which the platform cannot run, before anything is written.

    Raises:
        Refused: it names what is missing and how much.
    """
    check_system(platform.system(), platform.machine(), platform.libc_ver()[0])
    check_memory(_available_memory_mib())
    # What is installed already needs no second place.
    check_disk(shutil.disk_usage(ROOT).free // 2**20, MIN_DISK_MIB // 4 if installed else MIN_DISK_MIB)


def check_system(system: str, machine: str, libc: str) -> None:
    """Refuse a system for which the servers have no wheels."""
    if (system, machine) not in SYSTEMS:
        raise Refused(
            f"This machine is {system} on {machine}; the platform runs on Linux x86_64 and aarch64."
        )
    if system == "Linux" and libc != "glibc":
        raise Refused(
            "This Linux has no glibc (Alpine?); the packages are built for glibc: use Debian or the like."
        )


def check_memory(available_mib: int | None) -> None:
    """Refuse a machine that would start to swap or kill."""
    if available_mib is not None and available_mib < MIN_MEMORY_MIB:
        raise Refused(
            f"{available_mib} MiB of memory are available, {MIN_MEMORY_MIB} MiB are needed: free some."
        )


def check_disk(free_mib: int, needed_mib: int) -> None:
    """Refuse a disk that would run full."""
    if free_mib < needed_mib:
        raise Refused(
            f"{free_mib} MiB are free on the disk of {ROOT}, {needed_mib} MiB are needed: free some."
        )


def _available_memory_mib() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("MemAvailable:")), None)


def environment(group: str, say: Callable[[str], None], home: Home = PLATFORM) -> Environment:
    """The environment that holds the lock `group`; made or brought up to date where it is not.

    Raises:
        Refused: packages cannot be installed; the sentence names what is missing.
    """
    found = _installed(group, home)
    if found is not None and not _concerns(lock_file.read_note(home.lock), group):
        return _ready(*found, home)
    name = _name(group, home)
    try:
        with lock_file.hold(
            home.lock,
            f"the installation of {name}",
            wait=lambda holder: say(f"Waiting for {holder} to end."),
            note=lambda left: {"groups": list(dict.fromkeys([*_unfinished(left), group]))},
        ) as lease:
            found = _brought_up_to_date(group, home, say, lease)
    except OSError as error:
        raise Refused(f"{error.filename or home.venv}: cannot be written: {error.strerror}.") from None
    return _ready(*found, home)


def _installed(group: str, home: Home) -> tuple[Path, Path] | None:
    """The Python and the folder of the packages, where they are those of the lock."""
    wanted = _wanted(group, home)
    for python, folder in ((home.venv / "bin" / "python", home.venv), (Path(sys.executable), home.target)):
        if _stamp(folder, group) == wanted and python.exists():
            return python, folder
    return None


def _unfinished(note: dict[str, Any]) -> list[str]:
    groups = note.get("groups", [])
    return [group for group in groups if isinstance(group, str)] if isinstance(groups, list) else []


def _concerns(note: dict[str, Any], group: str) -> bool:
    """Whether packages of the group may be half-written: by an installation at work or killed, or by its own
    that failed."""
    return bool(note) and (not note.get("failed") or group in _unfinished(note))


def _brought_up_to_date(
    group: str, home: Home, say: Callable[[str], None], lease: lock_file.Lease
) -> tuple[Path, Path]:
    """Install the group, and before it again what an interrupted installation left half-written."""
    left = _unfinished(lease.left)
    found = _installed(group, home)
    if found is not None and not left:
        return found  # by those we waited for
    preflight(installed=False)
    complete = any(stamp for folder in (home.venv, home.target) for stamp in folder.glob(".installed-*"))
    known = all((home.locks / f"{name}.txt").exists() for name in left)
    installer = _Installer(home, say, lease.descriptor)
    if left and not (complete and known):
        installer.remove()
        left, found = [], None
    for name in left:
        found = installer.install(name, again=True)
    if group not in left and _installed(group, home) is None:
        found = installer.install(group, again=False)
    assert found is not None
    return found


def _wanted(group: str, home: Home) -> str:
    return hashlib.sha256((home.locks / f"{group}.txt").read_bytes() + sys.version.encode()).hexdigest()


def _name(group: str, home: Home) -> Path:
    return (home.locks / f"{group}.txt").relative_to(ROOT)


def _stamp(folder: Path, group: str) -> str:
    try:
        return (folder / f".installed-{group}").read_text(encoding="ascii")
    except OSError:
        return ""


def _ready(python: Path, folder: Path, home: Home) -> Environment:
    paths = [str((ROOT / source).resolve()) for source in home.sources]
    programs = f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    if folder == home.venv:
        # So that `.venv/bin/python -m fraud_…` works by hand too.
        site_packages = next((home.venv / "lib").glob("python3*")) / "site-packages"
        _write_if_other(site_packages / "fraud.pth", "\n".join(paths) + "\n")
        return Environment(python, {"PATH": programs})
    return Environment(python, {"PYTHONPATH": os.pathsep.join([str(folder), *paths]), "PATH": programs})


def _write_if_other(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


class _Installer:
    """Installs locks by the first of uv, venv and pip that is there."""

    def __init__(self, home: Home, say: Callable[[str], None], descriptor: int) -> None:
        self._home = home
        self._say = say
        # An installer outlives us when we are killed: nobody else may begin before it has ended.
        self._descriptor = descriptor

    def remove(self) -> None:
        """Remove what was interrupted before it was ever complete."""
        for folder in (self._home.venv, self._home.target):
            if folder.exists():
                self._say(f"Replacing {folder.name}, whose installation was interrupted.")
                shutil.rmtree(folder)

    def install(self, group: str, *, again: bool) -> tuple[Path, Path]:
        """Install a lock, `again` also what seems to be there; the Python, and the folder of the packages."""
        started = time.monotonic()
        name = _name(group, self._home)
        self._say(f"Installing the packages of {name} …")
        python, folder = self._install(self._home.locks / f"{group}.txt", again)
        (folder / f".installed-{group}").write_text(_wanted(group, self._home), encoding="ascii")
        self._say(f"Packages of {name} installed in {time.monotonic() - started:.0f} s.")
        return python, folder

    def _install(self, lock: Path, again: bool) -> tuple[Path, Path]:
        venv, target = self._home.venv, self._home.target
        python = venv / "bin" / "python"
        # A lock is complete. Older pips would resolve `name[extra]` past the locked `name`, then refuse it.
        hashed = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", str(lock)]
        quiet = ["--quiet", "--disable-pip-version-check"]
        if uv := _uv():
            self._fresh_venv([uv, "venv", "--quiet", "--python", sys.executable, str(venv)], ["-c", ""])
            # As pip does: without it every process that may not write bytecode compiles anew at its start.
            command = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python)]
            command += hashed
            command += ["--reinstall"] if again else []
            # Behind a proxy that is gone everything may still lie in uv's cache.
            if self._call([*command, "--offline"]).returncode:
                self._run(command, "install the packages")
            return python, venv
        # What is half-written has no list of its files, without which pip cannot uninstall it.
        quiet += ["--ignore-installed"] if again else []
        if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
            self._fresh_venv([sys.executable, "-m", "venv", str(venv)], ["-m", "pip", "--version"])
            self._run([str(python), "-m", "pip", "install", *quiet, *hashed], "install the packages")
            return python, venv
        if importlib.util.find_spec("pip"):
            target.mkdir(parents=True, exist_ok=True)
            place = ["--upgrade", "--no-warn-script-location", "--target", str(target)]
            self._run(
                [sys.executable, "-m", "pip", "install", *quiet, *place, *hashed], "install the packages"
            )
            return Path(sys.executable), target
        raise Refused(
            f"{sys.executable} has neither venv nor pip: "
            "install the package python3-venv (Debian, Ubuntu) or python3-pip."
        )

    def _fresh_venv(self, make: list[str], probe: list[str]) -> None:
        """Keep a venv of this very Python in which `probe` works, replace any other."""
        venv = self._home.venv
        python = venv / "bin" / "python"
        same = python.exists() and _made_with_this_python(venv)
        if same and self._call([str(python), *probe]).returncode == 0:
            return
        if venv.exists():
            reason = "which is incomplete" if same else "which was made with another Python"
            self._say(f"Replacing {venv.name}, {reason}.")
            shutil.rmtree(venv)
        self._run(make, "make a venv")

    def _run(self, command: list[str], purpose: str) -> None:
        done = self._call(command)
        if done.returncode:
            last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
            raise Refused(f"It was not possible to {purpose}; {Path(command[0]).name} said:\n{last}")

    def _call(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, check=False, capture_output=True, text=True, pass_fds=(self._descriptor,)
        )


def _made_with_this_python(venv: Path) -> bool:
    try:
        config = (venv / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        return False
    made_with = [line.partition("=")[2].strip() for line in config.splitlines() if line.startswith("version")]
    return any(version.startswith(platform.python_version()) for version in made_with)


def _uv() -> str | None:
    """A uv new enough to check hashes of universal locks, if there is one that runs."""
    found = shutil.which("uv")
    if found is None:
        return None
    answer = subprocess.run([found, "--version"], check=False, capture_output=True, text=True)
    words = answer.stdout.split()
    if answer.returncode or len(words) < 2:
        return None
    version = tuple(int(part) for part in words[1].split(".")[:2] if part.isdigit())
    return found if version >= (0, 5) else None
