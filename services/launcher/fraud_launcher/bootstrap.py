"""Creates the Python environments of the platform. Standard library only: nothing is installed yet."""

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


class LauncherError(Exception):
    """The command cannot run; the message is one sentence for the user."""


@dataclass(frozen=True)
class PackageSet:
    """Where one set of packages is installed, and which of our own source folders are importable with it."""

    locks: Path
    venv: Path
    # The folder for packages if this Python has pip but cannot create a venv.
    target: Path
    sources: tuple[str, ...]

    @property
    def lock(self) -> Path:
        """The lock held during an installation; after an interrupted one it contains a note."""
        return self.target.parent / f"{self.venv.name}.lock"


PLATFORM = PackageSet(
    locks=ROOT / "requirements",
    venv=ROOT / ".venv",
    target=ROOT / ".local" / "site-packages",
    sources=services.sources(),
)
# Airflow's packages are resolved separately; of our sources it can import what its image contains too.
AIRFLOW = PackageSet(
    locks=ROOT / "airflow",
    venv=ROOT / ".venv-airflow",
    target=ROOT / ".local" / "airflow-packages",
    sources=(".",),
)


@dataclass(frozen=True)
class Environment:
    """A Python that can run our code, and the environment variables it needs."""

    python: Path
    variables: dict[str, str]


def preflight(*, installed: bool) -> None:
    """Check that the platform can run on this machine, before anything is written.

    Raises:
        LauncherError: it names what is missing and how much.
    """
    check_system(platform.system(), platform.machine(), platform.libc_ver()[0])
    check_memory(available_memory_mib())
    # Installed packages do not need their space again.
    check_disk(shutil.disk_usage(ROOT).free // 2**20, MIN_DISK_MIB // 4 if installed else MIN_DISK_MIB)


def check_system(system: str, machine: str, libc: str) -> None:
    """Raise for a system for which the servers have no wheels."""
    if (system, machine) not in SYSTEMS:
        raise LauncherError(
            f"This machine is {system} on {machine}; the platform runs on Linux x86_64 and aarch64."
        )
    if system == "Linux" and libc != "glibc":
        raise LauncherError(
            "This Linux has no glibc (Alpine?); the packages are built for glibc: use Debian or the like."
        )


def check_memory(available_mib: int | None) -> None:
    """Raise if the machine would start swapping or killing processes."""
    if available_mib is not None and available_mib < MIN_MEMORY_MIB:
        raise LauncherError(
            f"{available_mib} MiB of memory are available, {MIN_MEMORY_MIB} MiB are needed: free some."
        )


def check_disk(free_mib: int, needed_mib: int) -> None:
    """Raise if the disk would run full."""
    if free_mib < needed_mib:
        raise LauncherError(
            f"{free_mib} MiB are free on the disk of {ROOT}, {needed_mib} MiB are needed: free some."
        )


def available_memory_mib() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("MemAvailable:")), None)


def installed_environment(group: str, packages: PackageSet = PLATFORM) -> Environment | None:
    """The environment of `environment`, if its packages are installed; nothing is changed."""
    installed = _installed(group, packages)
    if installed is None or _may_be_half_written(lock_file.read_note(packages.lock), group):
        return None
    return _environment(*installed, packages)


def environment(group: str, report: Callable[[str], None], packages: PackageSet = PLATFORM) -> Environment:
    """The environment with the packages of the lock file `group`; created or updated if necessary.

    Raises:
        LauncherError: packages cannot be installed; the message names what is missing.
    """
    if (ready := installed_environment(group, packages)) is not None:
        return ready
    name = _name(group, packages)
    try:
        with lock_file.hold(
            packages.lock,
            f"the installation of {name}",
            wait=lambda holder: report(f"Waiting for {holder} to end."),
            note=lambda unfinished: {"groups": list(dict.fromkeys([*_unfinished(unfinished), group]))},
        ) as lease:
            installed = _update(group, packages, report, lease)
    except OSError as error:
        raise LauncherError(
            f"{error.filename or packages.venv}: cannot be written: {error.strerror}."
        ) from None
    return _environment(*installed, packages)


def _installed(group: str, packages: PackageSet) -> tuple[Path, Path] | None:
    """The Python and the folder of the packages, if they match the lock file."""
    expected = _expected_stamp(group, packages)
    for python, folder in (
        (packages.venv / "bin" / "python", packages.venv),
        (Path(sys.executable), packages.target),
    ):
        if _stamp(folder, group) == expected and python.exists():
            return python, folder
    return None


def _unfinished(note: dict[str, Any]) -> list[str]:
    groups = note.get("groups", [])
    return [group for group in groups if isinstance(group, str)] if isinstance(groups, list) else []


def _may_be_half_written(note: dict[str, Any], group: str) -> bool:
    """Whether packages of the group may be half-written: by an installation that is running or was killed, or
    by a failed installation of this group."""
    return bool(note) and (not note.get("failed") or group in _unfinished(note))


def _update(
    group: str, packages: PackageSet, report: Callable[[str], None], lease: lock_file.Lease
) -> tuple[Path, Path]:
    """Install the group; before that, reinstall what an interrupted installation left half-written."""
    unfinished = _unfinished(lease.previous_note)
    installed = _installed(group, packages)
    if installed is not None and not unfinished:
        return installed  # by the process we waited for
    preflight(installed=False)
    complete = any(
        stamp for folder in (packages.venv, packages.target) for stamp in folder.glob(".installed-*")
    )
    known = all((packages.locks / f"{name}.txt").exists() for name in unfinished)
    installer = _Installer(packages, report, lease.descriptor)
    if unfinished and not (complete and known):
        installer.remove()
        unfinished, installed = [], None
    for name in unfinished:
        installed = installer.install(name, again=True)
    if group not in unfinished and _installed(group, packages) is None:
        installed = installer.install(group, again=False)
    assert installed is not None
    return installed


def _expected_stamp(group: str, packages: PackageSet) -> str:
    return hashlib.sha256((packages.locks / f"{group}.txt").read_bytes() + sys.version.encode()).hexdigest()


def _name(group: str, packages: PackageSet) -> Path:
    return (packages.locks / f"{group}.txt").relative_to(ROOT)


def _stamp(folder: Path, group: str) -> str:
    try:
        return (folder / f".installed-{group}").read_text(encoding="ascii")
    except OSError:
        return ""


def _environment(python: Path, folder: Path, packages: PackageSet) -> Environment:
    paths = [str((ROOT / source).resolve()) for source in packages.sources]
    programs = f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    if folder == packages.venv:
        # Makes `.venv/bin/python -m fraud_…` work from a shell too.
        site_packages = next((packages.venv / "lib").glob("python3*")) / "site-packages"
        _write_if_changed(site_packages / "fraud.pth", "\n".join(paths) + "\n")
        return Environment(python, {"PATH": programs})
    return Environment(python, {"PYTHONPATH": os.pathsep.join([str(folder), *paths]), "PATH": programs})


def _write_if_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


class _Installer:
    """Installs lock files with the first available tool: uv, venv or pip."""

    def __init__(self, packages: PackageSet, report: Callable[[str], None], descriptor: int) -> None:
        self._packages = packages
        self._report = report
        # If this process is killed, the installer runs on and keeps the lock through this descriptor.
        self._descriptor = descriptor

    def remove(self) -> None:
        """Remove environments whose first installation was interrupted."""
        for folder in (self._packages.venv, self._packages.target):
            if folder.exists():
                self._report(f"Replacing {folder.name}, whose installation was interrupted.")
                shutil.rmtree(folder)

    def install(self, group: str, *, again: bool) -> tuple[Path, Path]:
        """Install a lock file, `again` including packages that seem present; return Python and package
        folder."""
        started = time.monotonic()
        name = _name(group, self._packages)
        self._report(f"Installing the packages of {name} …")
        python, folder = self._install(self._packages.locks / f"{group}.txt", again)
        (folder / f".installed-{group}").write_text(_expected_stamp(group, self._packages), encoding="ascii")
        self._report(f"Packages of {name} installed in {time.monotonic() - started:.0f} s.")
        return python, folder

    def _install(self, lock: Path, again: bool) -> tuple[Path, Path]:
        venv, target = self._packages.venv, self._packages.target
        python = venv / "bin" / "python"
        # The lock file is complete, so no dependencies are resolved. Older versions of pip would resolve
        # `name[extra]` to another version than the locked one, and then reject it.
        lock_options = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", str(lock)]
        quiet = ["--quiet", "--disable-pip-version-check"]
        if uv := _uv():
            self._fresh_venv([uv, "venv", "--quiet", "--python", sys.executable, str(venv)], ["-c", ""])
            # pip compiles bytecode too. Without it, processes that cannot write bytecode compile at every
            # start.
            command = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python)]
            command += lock_options
            command += ["--reinstall"] if again else []
            # Without a network everything may still be in uv's cache.
            if self._call([*command, "--offline"]).returncode:
                self._run(command, "install the packages")
            return python, venv
        # Half-written packages have no list of their files, so pip cannot uninstall them.
        quiet += ["--ignore-installed"] if again else []
        if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
            self._fresh_venv([sys.executable, "-m", "venv", str(venv)], ["-m", "pip", "--version"])
            self._run([str(python), "-m", "pip", "install", *quiet, *lock_options], "install the packages")
            return python, venv
        if importlib.util.find_spec("pip"):
            target.mkdir(parents=True, exist_ok=True)
            target_options = ["--upgrade", "--no-warn-script-location", "--target", str(target)]
            self._run(
                [sys.executable, "-m", "pip", "install", *quiet, *target_options, *lock_options],
                "install the packages",
            )
            return Path(sys.executable), target
        raise LauncherError(
            f"{sys.executable} has neither venv nor pip: "
            "install the package python3-venv (Debian, Ubuntu) or python3-pip."
        )

    def _fresh_venv(self, make: list[str], probe: list[str]) -> None:
        """Keep the venv if it uses this Python version and `probe` works; otherwise replace it."""
        venv = self._packages.venv
        python = venv / "bin" / "python"
        matches = python.exists() and _made_with_this_python(venv)
        if matches and self._call([str(python), *probe]).returncode == 0:
            return
        if venv.exists():
            reason = "which is incomplete" if matches else "which was made with another Python"
            self._report(f"Replacing {venv.name}, {reason}.")
            shutil.rmtree(venv)
        self._run(make, "make a venv")

    def _run(self, command: list[str], purpose: str) -> None:
        done = self._call(command)
        if done.returncode:
            last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
            raise LauncherError(
                f"It was not possible to {purpose}; {Path(command[0]).name} reported:\n{last}"
            )

    def _call(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, check=False, capture_output=True, text=True, pass_fds=(self._descriptor,)
        )


def _made_with_this_python(venv: Path) -> bool:
    try:
        config = (venv / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        return False
    versions = [line.partition("=")[2].strip() for line in config.splitlines() if line.startswith("version")]
    return any(version.startswith(platform.python_version()) for version in versions)


def _uv() -> str | None:
    """The path of a working uv that can check hashes of universal lock files, if there is one."""
    uv = shutil.which("uv")
    if uv is None:
        return None
    answer = subprocess.run([uv, "--version"], check=False, capture_output=True, text=True)
    fields = answer.stdout.split()
    if answer.returncode or len(fields) < 2:
        return None
    version = tuple(int(part) for part in fields[1].split(".")[:2] if part.isdigit())
    return uv if version >= (0, 5) else None
