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

ROOT = Path(__file__).resolve().parents[2]
_SERVICES = (
    "core",
    "adapters",
    "producer",
    "streaming",
    "trainer",
    "api",
    "docker-proxy",
    "mlflow",
    "embedded",
)
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


PLATFORM = Home(
    locks=ROOT / "requirements",
    venv=ROOT / ".venv",
    target=ROOT / ".local" / "site-packages",
    sources=(".", "db_init", *(f"services/{name}" for name in _SERVICES)),
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
    lock = home.locks / f"{group}.txt"
    stamp = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()
    for python, folder in ((home.venv / "bin" / "python", home.venv), (Path(sys.executable), home.target)):
        if _stamp(folder, group) == stamp and python.exists():
            return _ready(python, folder, home)
    preflight(installed=False)
    started = time.monotonic()
    name = lock.relative_to(ROOT)
    say(f"Installing the packages of {name} …")
    python, folder = _install(lock, home, say)
    (folder / f".installed-{group}").write_text(stamp, encoding="ascii")
    say(f"Packages of {name} installed in {time.monotonic() - started:.0f} s.")
    return _ready(python, folder, home)


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
        site = next((home.venv / "lib").glob("python3*")) / "site-packages"
        _write_if_other(site / "fraud.pth", "\n".join(paths) + "\n")
        return Environment(python, {"PATH": programs})
    return Environment(python, {"PYTHONPATH": os.pathsep.join([str(folder), *paths]), "PATH": programs})


def _write_if_other(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _install(lock: Path, home: Home, say: Callable[[str], None]) -> tuple[Path, Path]:
    """Install the lock by the first of uv, venv and pip that is there: the Python, and the folder."""
    venv, target = home.venv, home.target
    python = venv / "bin" / "python"
    # A lock is complete. Older pips would resolve `name[extra]` past the locked `name`, then refuse it.
    hashed = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", str(lock)]
    quiet = ["--quiet", "--disable-pip-version-check"]
    if uv := _uv():
        _fresh_venv(venv, [uv, "venv", "--quiet", "--python", sys.executable, str(venv)], say)
        command = [uv, "pip", "install", "--quiet", "--python", str(python), *hashed]
        # Behind a proxy that is gone everything may still lie in uv's cache.
        if subprocess.run([*command, "--offline"], check=False, capture_output=True).returncode:
            _run(command, "install the packages")
        return python, venv
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        _fresh_venv(venv, [sys.executable, "-m", "venv", str(venv)], say)
        _run([str(python), "-m", "pip", "install", *quiet, *hashed], "install the packages")
        return python, venv
    if importlib.util.find_spec("pip"):
        target.mkdir(parents=True, exist_ok=True)
        place = ["--upgrade", "--no-warn-script-location", "--target", str(target)]
        _run([sys.executable, "-m", "pip", "install", *quiet, *place, *hashed], "install the packages")
        return Path(sys.executable), target
    raise Refused(
        f"{sys.executable} has neither venv nor pip: "
        "install the package python3-venv (Debian, Ubuntu) or python3-pip."
    )


def _fresh_venv(venv: Path, make: list[str], say: Callable[[str], None]) -> None:
    """Keep a venv of this very Python, replace any other."""
    try:
        config = (venv / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        config = ""
    made_with = [line.partition("=")[2].strip() for line in config.splitlines() if line.startswith("version")]
    works = (venv / "bin" / "python").exists() and any(
        v.startswith(platform.python_version()) for v in made_with
    )
    if works and subprocess.run([str(venv / "bin" / "python"), "-c", ""], check=False).returncode == 0:
        return
    if venv.exists():
        say(f"Replacing {venv.name}, which was made with another Python.")
        shutil.rmtree(venv)
    _run(make, "make a venv")


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


def _run(command: list[str], purpose: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise Refused(f"It was not possible to {purpose}; {Path(command[0]).name} said:\n{last}")
