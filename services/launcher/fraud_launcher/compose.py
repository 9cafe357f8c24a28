"""The Compose commands of `./fraud`: `up`, `build`, `down`, `ps`, `logs`. Standard library only.

Each is one call of `docker compose`; `up` first completes `.env` and checks that the ports are free.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from config import constants
from fraud_launcher import dotenv, paths
from fraud_launcher.bootstrap import ROOT, LauncherError
from fraud_launcher.exit_codes import shell_code
from fraud_launcher.image_builds import COMPOSE_FILE, built_images, labels, require_bundle, services_to_build

OFFLINE = Path("images") / "offline.env"
HOST_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
COMMANDS = {
    "up": "start the platform on Docker Compose; --build, --offline",
    "build": "build its images, or those of the given services; --offline",
    "down": "stop it, keep its data; --volumes removes the data too",
    "ps": "list what runs on Docker Compose",
    "logs": "show the logs of its services, or of the given ones; -f follows them",
}
_UNPAUSED = (*constants.DAGS_REAL_TIME, *constants.DAGS_MONITORING, *constants.DAGS_TRAINING)
# Commands that run in a container if the embedded platform is not running: the container and the program.
CONTAINER_COMMANDS = {
    "airflow": ("fraud-airflow-scheduler", ["airflow"]),
    "unpause": (
        "fraud-airflow-scheduler",
        ["airflow", "dags", "unpause", "--yes", "--treat-dag-id-as-regex", f"^({'|'.join(_UNPAUSED)})$"],
    ),
    "users": ("fraud-audit", ["python", "-m", "fraud_audit", "users"]),
    "rotate-keys": ("fraud-api", ["python", "-m", "fraud_api", "rotate-keys"]),
}
# Commands that run in a new container of a service: the container that shows that the platform runs, the
# service and the program.
ONE_OFF_COMMANDS = {
    "drift": ("fraud-postgres", "producer", ["python", "-m", "fraud_producer", "drift"]),
    "rollout": ("fraud-api", "rollout", ["python", "-m", "fraud_rollout"]),
    "chargebacks": (
        "fraud-postgres",
        "feedback",
        ["python", "-m", "fraud_feedback", "import-chargebacks"],
    ),
}
# Commands whose file a container does not see: it reads the file as its standard input.
FILE_COMMANDS = frozenset({"chargebacks"})
# Commands that read from standard input where there is no terminal.
_READ_INPUT = {"users"}
_OLDEST = (2, 24)


@dataclass(frozen=True)
class Port:
    """A port of this machine that a service publishes."""

    service: str
    host: str
    number: int


def run(command: str, arguments: Sequence[str]) -> int:
    """Run one command and return the exit code of `docker compose`.

    Raises:
        LauncherError: Docker is not available, `.env` cannot be read, or a port is in use.
    """
    options = _parser(command).parse_args(arguments)
    compose = Compose(ROOT, getattr(options, "offline", False))
    if command == "up":
        return _up(compose, options.build)
    if command == "build":
        compose.prepare()
        compose.require_certificates()
        return compose.call("build", *services_to_build(options.service, built_images(ROOT)))
    if command == "down":
        # All profiles, so that no service is left running.
        return compose.call("--profile", "*", "down", *(["--volumes"] if options.volumes else []))
    if command == "ps":
        return compose.call("--profile", "*", "ps", *(["--all"] if options.all else []))
    tail = ["--follow"] if options.follow else ["--tail", "100"]
    return compose.call("--profile", "*", "logs", *tail, *options.service)


def runs_in_container(command: str) -> bool:
    """Whether a command that both platforms have applies to the containers: they run, and the embedded
    platform does not."""
    known = CONTAINER_COMMANDS.get(command) or ONE_OFF_COMMANDS.get(command)
    if known is None or paths.runs(ROOT / ".local") or shutil.which("docker") is None:
        return False
    return bool(_capture(["docker", "ps", "--quiet", "--filter", f"name=^{known[0]}$"]).stdout.strip())


def run_in_container(command: str, arguments: Sequence[str]) -> int:
    """Run such a command in its container, or in a new one, and return its exit code."""
    if command in ONE_OFF_COMMANDS:
        _, service, program = ONE_OFF_COMMANDS[command]
        one_off = ["--profile", "*", "run", "--rm", "--no-deps", "--no-TTY", service, *program]
        platform = Compose(ROOT, offline=False)
        files = [number for number, one in enumerate(arguments) if not one.startswith("-")]
        if command not in FILE_COMMANDS or len(files) != 1:
            return platform.call(*one_off, *arguments)
        [position] = files
        with _opened(arguments[position]) as file:
            return platform.call(
                *one_off, *arguments[:position], "-", *arguments[position + 1 :], standard_input=file
            )
    container, program = CONTAINER_COMMANDS[command]
    terminal = ["--interactive", "--tty"] if sys.stdin.isatty() and sys.stdout.isatty() else []
    if command in _READ_INPUT and not terminal:
        terminal = ["--interactive"]
    done = subprocess.run(["docker", "exec", *terminal, container, *program, *arguments], check=False)
    return shell_code(done.returncode)


def _opened(name: str) -> BinaryIO:
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise LauncherError(f"{name} cannot be read: {error.strerror}.") from None


def _up(compose: Compose, build: bool) -> int:
    compose.prepare()
    compose.require_daemon()
    compose.require_certificates()
    refuse_taken(compose.published(), compose.held(), ROOT / ".local")
    return compose.call("up", "--detach", *(["--build"] if build else []))


def _parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"./fraud {command}", description=COMMANDS[command])
    if command in {"up", "build"}:
        parser.add_argument("--offline", action="store_true", help="use the images of `make images-offline`")
    if command == "up":
        parser.add_argument("--build", action="store_true", help="rebuild the images first")
    if command in {"build", "logs"}:
        parser.add_argument("service", nargs="*")
    if command == "logs":
        parser.add_argument("-f", "--follow", action="store_true", help="follow until interrupted")
    if command == "down":
        parser.add_argument("-v", "--volumes", action="store_true", help="remove the data too")
    if command == "ps":
        parser.add_argument("-a", "--all", action="store_true", help="include ended containers")
    return parser


class Compose:
    """`docker compose` with this project's files."""

    def __init__(self, root: Path, offline: bool) -> None:
        self._root = root
        # Compose's own variable; if it is set, those files replace our .env.
        env_files = os.environ.get("COMPOSE_ENV_FILES", "")
        self._uses_default_env_file = not env_files
        self._env_files = [Path(name) for name in filter(None, env_files.split(","))] or [Path(".env")]
        if offline:
            if not (root / OFFLINE).is_file():
                raise LauncherError(
                    f"There is no {OFFLINE}: --offline needs the images of `make images-offline`."
                )
            self._env_files.append(OFFLINE)
        options = [option for file in self._env_files for option in ("--env-file", str(file))]
        self._files = ["--file", COMPOSE_FILE, *options]

    def prepare(self) -> None:
        """Check that Compose is installed, and create or complete `.env`.

        Raises:
            LauncherError: Compose is missing or too old, or `.env` cannot be read.
        """
        require_compose()
        if not self._uses_default_env_file:
            return
        try:
            written = dotenv.ensure(self._root / ".env", self._root / ".env.example")
        except dotenv.BadDotenv as error:
            raise LauncherError(str(error)) from None
        if written:
            _report(
                f"Wrote {len(written)} settings to {self._root / '.env'}; every generated secret is random."
            )

    def require_daemon(self) -> None:
        """Raise if Docker's daemon does not answer."""
        done = _capture(["docker", "version", "--format", "{{.Server.Version}}"])
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise LauncherError(
                "Docker's daemon does not answer: start it, or get permission to use it. It reports: "
                + "".join(last)
            )

    def published(self) -> list[Port]:
        """The ports that `up` would publish, according to the Compose file and `.env`."""
        services = json.loads(self._capture_compose("config", "--format", "json"))["services"]
        return [
            Port(name, entry.get("host_ip") or "", int(entry["published"]))
            for name, service in services.items()
            for entry in service.get("ports", ())
            if entry.get("published")
        ]

    def images(self) -> list[str]:
        """The images of all services, those of every profile included."""
        return sorted(set(self._capture_compose("--profile", "*", "config", "--images").split()))

    def held(self) -> set[int]:
        """The ports that our own containers already publish."""
        text = self._capture_compose("--profile", "*", "ps", "--format", "json").strip()
        # Older versions print one list, newer ones one object per line.
        containers = json.loads(text) if text.startswith("[") else map(json.loads, text.splitlines())
        return {
            int(publisher["PublishedPort"])
            for entry in containers
            for publisher in entry.get("Publishers") or ()
        }

    def call(self, *arguments: str, standard_input: BinaryIO | None = None) -> int:
        """Run a command of Compose and return its exit code.

        Without `standard_input` it has that of this process.

        Raises:
            LauncherError: Compose is missing or too old, or there is no `.env`.
        """
        require_compose()
        if self._uses_default_env_file and not (self._root / ".env").is_file():
            raise LauncherError(
                "There is no .env, which every command of Compose reads: `make up` writes one."
            )
        command = ["docker", "compose", *self._files, *arguments]
        done = subprocess.run(
            command, cwd=self._root, env=self.environment(), stdin=standard_input, check=False
        )
        return shell_code(done.returncode)

    def _capture_compose(self, *arguments: str) -> str:
        done = _capture(["docker", "compose", *self._files, *arguments], self._root, self.environment())
        if done.returncode:
            raise LauncherError(f"docker compose {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout

    def environment(self) -> dict[str, str]:
        """The environment of `docker compose`, without the variables of `.env`: the shell's values would win,
        and they may be credentials of another installation."""
        return labels(self._root) | build_environment(os.environ, self._dotenv(), HOST_CERTIFICATES)

    def require_certificates(self) -> None:
        """Raise if the bundle of certificates is missing or larger than BuildKit accepts."""
        bundle = (self._dotenv() | self.environment()).get("CA_BUNDLE")
        if bundle:
            require_bundle(self._root / bundle)

    def _dotenv(self) -> dict[str, str]:
        dotenv_values: dict[str, str] = {}
        for file in self._env_files if self._uses_default_env_file else ():
            with suppress(FileNotFoundError, dotenv.BadDotenv):
                dotenv_values |= dotenv.read(self._root / file)
        return dotenv_values


def build_environment(
    shell: Mapping[str, str], dotenv_values: Mapping[str, str], certificates: Path
) -> dict[str, str]:
    """The environment of `docker compose`: site choices set in the shell take effect, its secrets do not."""
    environment = {
        name: value
        for name, value in shell.items()
        if name not in dotenv_values or name in dotenv.SITE_CHOICES
    }
    if "CA_BUNDLE" not in environment and "CA_BUNDLE" not in dotenv_values and certificates.is_file():
        environment["CA_BUNDLE"] = str(certificates)
    return environment


def refuse_taken(
    published: Iterable[Port], held: set[int], local: Path, taken: Callable[[Port], bool] | None = None
) -> None:
    """Check that all ports are free.

    Raises:
        LauncherError: a port is in use; the message names the ports and how to free them.
    """
    is_taken = taken or _is_taken
    in_use = [port for port in published if port.number not in held and is_taken(port)]
    if not in_use:
        return
    listing = ", ".join(f"{port.number} ({port.service})" for port in in_use)
    demo_ports = paths.ports(local) & {port.number for port in in_use}
    if demo_ports:
        advice = "the embedded platform runs here; `make demo-down` stops it and keeps its data."
    else:
        advice = "stop what listens there, or choose other ports in .env (PUBLISH_…, see docs/compose.md)."
    raise LauncherError(f"Taken: port {listing}. To free {'them' if len(in_use) > 1 else 'it'}: {advice}")


def _is_taken(port: Port) -> bool:
    family = socket.AF_INET6 if ":" in port.host else socket.AF_INET
    with socket.socket(family) as probe:
        # Docker sets this option too; without it a recently closed connection would count as in use.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((port.host, port.number))
        except OSError:
            return True
    return False


def require_compose() -> None:
    """Check that Docker and a recent Compose are installed.

    Raises:
        LauncherError: the message says what to install.
    """
    if shutil.which("docker") is None:
        raise LauncherError(
            "There is no docker: install Docker with Compose v2, or run ./fraud demo, which needs neither."
        )
    done = _capture(["docker", "compose", "version", "--short"])
    if done.returncode:
        raise LauncherError(
            "Docker has no Compose v2: install the package docker-compose-plugin (or docker-compose-v2)."
        )
    version = done.stdout.strip().removeprefix("v")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < _OLDEST:
        needed = ".".join(map(str, _OLDEST))
        raise LauncherError(f"Docker Compose is {version}, and {needed} or later is needed: upgrade it.")


def _capture(
    command: list[str], folder: Path = ROOT, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def _report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
