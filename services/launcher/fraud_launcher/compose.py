"""The Compose commands of `./fraud`: `up`, `build`, `down`, `ps`, `logs`. Standard library only.

Each is one call of `docker compose`; `up` first sees to `.env` and looks for ports that are taken.
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

from config import constants
from fraud_launcher import dotenv
from fraud_launcher import paths as places
from fraud_launcher.bootstrap import ROOT, Refused
from fraud_launcher.exit_codes import shell_code
from fraud_launcher.image_builds import COMPOSE_FILE, builders, built, labels, require_bundle

OFFLINE = Path("images") / "offline.env"
HOST_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
COMMANDS = {
    "up": "start the platform on Docker Compose; --build, --offline",
    "build": "build its images, or those of the services named; --offline",
    "down": "stop it, keep its data; --volumes removes the data too",
    "ps": "what runs on Docker Compose",
    "logs": "the logs of its services, or of those named; -f follows them",
}
_UNPAUSED = (*constants.DAGS_REAL_TIME, *constants.DAGS_MONITORING, *constants.DAGS_TRAINING)
# What is done in a container where the embedded platform does not run: which one, and by what.
INSIDE = {
    "airflow": ("fraud-airflow-scheduler", ["airflow"]),
    "unpause": (
        "fraud-airflow-scheduler",
        ["airflow", "dags", "unpause", "--yes", "--treat-dag-id-as-regex", f"^({'|'.join(_UNPAUSED)})$"],
    ),
    "rotate-keys": ("fraud-api", ["python", "-m", "fraud_api", "rotate-keys"]),
}
_OLDEST = (2, 24)


@dataclass(frozen=True)
class Port:
    """A port of this machine that a service publishes."""

    service: str
    host: str
    number: int


def run(command: str, words: Sequence[str]) -> int:
    """Run one command; the exit code is that of `docker compose`.

    Raises:
        Refused: Docker is not to be had, `.env` cannot be read, or a port is taken.
    """
    options = _parser(command).parse_args(words)
    compose = Compose(ROOT, getattr(options, "offline", False))
    if command == "up":
        return _up(compose, options.build)
    if command == "build":
        compose.prepare()
        compose.require_certificates()
        return compose.call("build", *builders(options.service, built(ROOT)))
    if command == "down":
        # Services of every profile, so that none is left behind.
        return compose.call("--profile", "*", "down", *(["--volumes"] if options.volumes else []))
    if command == "ps":
        return compose.call("--profile", "*", "ps", *(["--all"] if options.all else []))
    tail = ["--follow"] if options.follow else ["--tail", "100"]
    return compose.call("--profile", "*", "logs", *tail, *options.service)


def takes(command: str) -> bool:
    """Whether a command that both ways of running know is meant for the containers: they run and the embedded
    platform does not."""
    if command not in INSIDE or places.runs(ROOT / ".local") or shutil.which("docker") is None:
        return False
    return bool(_ask(["docker", "ps", "--quiet", "--filter", f"name=^{INSIDE[command][0]}$"]).stdout.strip())


def inside(command: str, words: Sequence[str]) -> int:
    """Run such a command in its container; its exit code."""
    container, program = INSIDE[command]
    terminal = ["--interactive", "--tty"] if sys.stdin.isatty() and sys.stdout.isatty() else []
    done = subprocess.run(["docker", "exec", *terminal, container, *program, *words], check=False)
    return shell_code(done.returncode)


def _up(compose: Compose, build: bool) -> int:
    compose.prepare()
    compose.require_daemon()
    compose.require_certificates()
    refuse_taken(compose.published(), compose.held(), ROOT / ".local")
    return compose.call("up", "--detach", *(["--build"] if build else []))


def _parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"./fraud {command}", description=COMMANDS[command])
    if command in {"up", "build"}:
        parser.add_argument("--offline", action="store_true", help="with the images of `make images-offline`")
    if command == "up":
        parser.add_argument("--build", action="store_true", help="build the images anew first")
    if command in {"build", "logs"}:
        parser.add_argument("service", nargs="*")
    if command == "logs":
        parser.add_argument("-f", "--follow", action="store_true", help="go on until interrupted")
    if command == "down":
        parser.add_argument("-v", "--volumes", action="store_true", help="remove the data too")
    if command == "ps":
        parser.add_argument("-a", "--all", action="store_true", help="what has ended too")
    return parser


class Compose:
    """`docker compose` with this project's files."""

    def __init__(self, root: Path, offline: bool) -> None:
        self._root = root
        # Compose's own variable; who sets it means those files, not ours.
        named = os.environ.get("COMPOSE_ENV_FILES", "")
        self._own = not named
        self._env_files = [Path(name) for name in filter(None, named.split(","))] or [Path(".env")]
        if offline:
            if not (root / OFFLINE).is_file():
                raise Refused(f"There is no {OFFLINE}: --offline needs the images of `make images-offline`.")
            self._env_files.append(OFFLINE)
        options = [word for file in self._env_files for word in ("--env-file", str(file))]
        self._files = ["--file", COMPOSE_FILE, *options]

    def prepare(self) -> None:
        """See that Compose is there, and `.env`.

        Raises:
            Refused: Compose is missing or too old, or `.env` cannot be read.
        """
        require_compose()
        if not self._own:
            return
        try:
            written = dotenv.ensure(self._root / ".env", self._root / ".env.example")
        except dotenv.BadDotenv as error:
            raise Refused(str(error)) from None
        if written:
            _say(
                f"Wrote {len(written)} settings to {self._root / '.env'}; every secret made is a random one."
            )

    def require_daemon(self) -> None:
        """Refuse to go on where Docker's daemon does not answer."""
        done = _ask(["docker", "version", "--format", "{{.Server.Version}}"])
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise Refused(
                "Docker's daemon does not answer: start it, or see to it that you may use it. It says: "
                + "".join(last)
            )

    def published(self) -> list[Port]:
        """The ports that `up` would publish, as the Compose file and `.env` have them."""
        found = json.loads(self._told("config", "--format", "json"))["services"]
        return [
            Port(name, entry.get("host_ip") or "", int(entry["published"]))
            for name, service in found.items()
            for entry in service.get("ports", ())
            if entry.get("published")
        ]

    def held(self) -> set[int]:
        """The ports that our own containers hold by now."""
        text = self._told("--profile", "*", "ps", "--format", "json").strip()
        # Older versions print one list, newer ones an object a line.
        found = json.loads(text) if text.startswith("[") else map(json.loads, text.splitlines())
        return {int(one["PublishedPort"]) for entry in found for one in entry.get("Publishers") or ()}

    def call(self, *words: str) -> int:
        """Run a command of Compose; its exit code.

        Raises:
            Refused: Compose is missing or too old, or there is no `.env`.
        """
        require_compose()
        if self._own and not (self._root / ".env").is_file():
            raise Refused("There is no .env, which every command of Compose reads: `make up` writes one.")
        command = ["docker", "compose", *self._files, *words]
        done = subprocess.run(command, cwd=self._root, env=self.environment(), check=False)
        return shell_code(done.returncode)

    def _told(self, *words: str) -> str:
        done = _ask(["docker", "compose", *self._files, *words], self._root, self.environment())
        if done.returncode:
            raise Refused(f"docker compose {words[-3]} failed: {done.stderr.strip()}")
        return done.stdout

    def environment(self) -> dict[str, str]:
        """Ours, without what `.env` says: there the shell would win, with credentials of somebody else."""
        return labels(self._root) | build_environment(os.environ, self._dotenv(), HOST_CERTIFICATES)

    def require_certificates(self) -> None:
        """Refuse a build whose bundle of certificates is not there, or is more than BuildKit takes."""
        named = (self._dotenv() | self.environment()).get("CA_BUNDLE")
        if named:
            require_bundle(self._root / named)

    def _dotenv(self) -> dict[str, str]:
        told: dict[str, str] = {}
        for file in self._env_files if self._own else ():
            with suppress(FileNotFoundError, dotenv.BadDotenv):
                told |= dotenv.read(self._root / file)
        return told


def build_environment(
    shell: Mapping[str, str], told: Mapping[str, str], certificates: Path
) -> dict[str, str]:
    """The environment of `docker compose`: site choices of the shell count, its secrets do not."""
    kept = {name: value for name, value in shell.items() if name not in told or name in dotenv.SITE_CHOICES}
    if "CA_BUNDLE" not in kept and "CA_BUNDLE" not in told and certificates.is_file():
        kept["CA_BUNDLE"] = str(certificates)
    return kept


def refuse_taken(
    published: Iterable[Port], held: set[int], local: Path, taken: Callable[[Port], bool] | None = None
) -> None:
    """Refuse a start for which a port is missing.

    Raises:
        Refused: it names the ports, and what frees them.
    """
    is_taken = taken or _taken
    missing = [port for port in published if port.number not in held and is_taken(port)]
    if not missing:
        return
    named = ", ".join(f"{port.number} ({port.service})" for port in missing)
    demo = places.ports(local) & {port.number for port in missing}
    if demo:
        freed = "the embedded platform runs here; `make demo-down` stops it and keeps its data."
    else:
        freed = "stop what listens there, or choose other ports in .env (PUBLISH_…, see docs/compose.md)."
    raise Refused(f"Taken: port {named}. To free {'them' if len(missing) > 1 else 'it'}: {freed}")


def _taken(port: Port) -> bool:
    family = socket.AF_INET6 if ":" in port.host else socket.AF_INET
    with socket.socket(family) as probe:
        # Docker sets this too: a connection that has just been closed is no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((port.host, port.number))
        except OSError:
            return True
    return False


def require_compose() -> None:
    """Refuse to go on without Docker and a Compose that knows what the files use.

    Raises:
        Refused: one sentence says what to install.
    """
    if shutil.which("docker") is None:
        raise Refused(
            "There is no docker: install Docker with Compose v2, or run ./fraud demo, which needs neither."
        )
    done = _ask(["docker", "compose", "version", "--short"])
    if done.returncode:
        raise Refused(
            "Docker has no Compose v2: install the package docker-compose-plugin (or docker-compose-v2)."
        )
    version = done.stdout.strip().removeprefix("v")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < _OLDEST:
        needed = ".".join(map(str, _OLDEST))
        raise Refused(f"Docker Compose is {version}, and {needed} or later is needed: upgrade it.")


def _ask(
    command: list[str], folder: Path = ROOT, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
