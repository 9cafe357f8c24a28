"""`./fraud test-stack`: builds the images, brings the stack up with real Docker, tests it, and removes it.

Exit codes: pytest's; 2 if it refuses to run; 75 if the machine cannot run it, which is not a success.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fraud_embedded.processes.ports import free_ports, is_free
from fraud_launcher import dotenv
from tests.stack.docker_host import NotRun, containers, docker
from tests.stack.stack import COMPOSE, HARNESS_VARIABLE, ROOT, Harness, Stack

NOT_RUN: Final = 75  # EX_TEMPFAIL
REFUSED: Final = 2
# Different from the platform's project name, so that volumes of a stack on this machine survive.
PROJECT: Final = "fraud-stack-test"
# The published ports: service → variable and specified port.
PUBLISHED: Final = {
    "postgres": ("PUBLISH_POSTGRES", 5432),
    "redis": ("PUBLISH_REDIS", 6379),
    "kafka": ("PUBLISH_KAFKA", 9092),
    "mlflow": ("PUBLISH_MLFLOW", 5000),
    "api": ("PUBLISH_API", 8000),
    "audit": ("PUBLISH_AUDIT", 8050),
    "airflow": ("PUBLISH_AIRFLOW", 8080),
    "flower": ("PUBLISH_FLOWER", 5555),
    "prometheus": ("PUBLISH_PROMETHEUS", 9090),
    "alertmanager": ("PUBLISH_ALERTMANAGER", 9093),
    "grafana": ("PUBLISH_GRAFANA", 3000),
}
# Contains characters that need quoting, as a password may.
HARD: Final = r"""p@ss:/w#rd% $HOME\n it's "?&=ü"""
HARD_NAMES: Final = (
    "POSTGRES_PASSWORD",
    "DB_PASSWORD",
    "DB_PASSWORD_PRODUCER",
    "DB_PASSWORD_STREAMING",
    "DB_PASSWORD_API",
    "DB_PASSWORD_AUDIT",
    "DB_PASSWORD_READONLY",
    "MLFLOW_DB_PASSWORD",
    "AIRFLOW_DB_PASSWORD",
    "REDIS_PASSWORD",
    "AIRFLOW_PASSWORD",
    "AIRFLOW_TRAIN_PASSWORD",
    "API_CLIENT_SECRET_STREAMING",
)
OFFLINE: Final = ROOT / "images" / "offline.env"
LOGS: Final = ROOT / ".local" / "stack-logs"
_PYTEST: Final = (sys.executable, "-m", "pytest", "--timeout=600", "--durations=15")
# The tests of the running stack, in this order; all others need only Docker.
WHOLE: Final = (
    *("up", "one_env", "scoring", "dags", "airflow_pages", "operations", "monitoring", "networks"),
    *("kills", "restarts"),
    # This test removes the stack.
    *("down", "production"),
)


class Refused(Exception):
    """The tests must not run now; the message gives the reason in one sentence."""


@dataclass(frozen=True, slots=True)
class Choices:
    """The options of the command line."""

    install: bool
    keep: bool
    build: bool
    pytest: tuple[str, ...]


def main(arguments: Sequence[str]) -> int:
    choices = _choices(arguments)
    # On SIGTERM it still stops and removes what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    logs = LOGS / datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    logs.mkdir(parents=True)
    try:
        with docker(choices.install, choices.keep, logs) as variables:
            os.environ.update(variables)
            return _with_docker(choices, logs)
    except NotRun as reason:
        print(f"test-stack: not run: {reason}", flush=True)
        return NOT_RUN
    except Refused as reason:
        print(f"test-stack: refused: {reason}", file=sys.stderr, flush=True)
        return REFUSED
    finally:
        if not any(logs.iterdir()):
            logs.rmdir()


def _choices(arguments: Sequence[str]) -> Choices:
    parser = argparse.ArgumentParser(prog="./fraud test-stack", description=__doc__)
    parser.add_argument("--install", action="store_true", help="install and start what is missing (root)")
    parser.add_argument("--keep", action="store_true", help="leave the stack running")
    parser.add_argument("--no-build", action="store_true", help="take the images that are there")
    parser.add_argument("pytest", nargs="*", metavar="PYTEST", help="after --: tests or options for pytest")
    options = parser.parse_args(arguments)
    install = options.install or (os.environ.get("CI") == "true" and os.geteuid() == 0)
    return Choices(install, options.keep, not options.no_build, tuple(options.pytest))


def _with_docker(choices: Choices, logs: Path) -> int:
    _refuse_other_stack()
    with tempfile.TemporaryDirectory(prefix="fraud-stack-") as folder:
        official = _official_images()
        harness = Harness(
            PROJECT, _ports(), _write_dotenv(Path(folder) / ".env"), () if official else ("grafana",)
        )
        _export(harness, Path(folder), official)
        if choices.build:
            _build(official)
        return _run(harness, Path(folder), choices, logs)


def _refuse_other_stack() -> None:
    own = containers(os.environ, f"label=com.docker.compose.project={PROJECT}")
    others = set(containers(os.environ, "name=^fraud-")) - set(own)
    foreign = sorted(name for name in others if not _is_job(name))
    if foreign:
        raise Refused(
            f"there are containers called {', '.join(foreign[:3])} …, which the tests would need: "
            "docker compose -f docker-compose.local.yml down stops them and keeps their data."
        )
    if own:
        _report("removing what an earlier run has left …")
        subprocess.run(
            ["docker", "compose", "-p", PROJECT, "--profile", "*", "down", "-v"],
            check=False,
            capture_output=True,
        )


def _is_job(name: str) -> bool:
    return name.startswith(("fraud-job-", "fraud-single-"))


def _official_images() -> bool:
    """Whether third-party images are available: as STACK_IMAGES states, else if a pull succeeds."""
    setting = os.environ.get("STACK_IMAGES", "")
    if setting not in {"", "official", "offline"}:
        raise Refused(f"STACK_IMAGES={setting} is neither official nor offline.")
    if setting:
        return setting == "official"
    image = os.environ.get("REDIS_IMAGE", _default_image("REDIS_IMAGE"))
    for command in (["image", "inspect", image], ["pull", "--quiet", image]):
        if _quiet(["docker", *command], seconds=300):
            _report("with the official images")
            return True
    _report("no registry can be reached: with the images of images/, made of packages")
    return False


def _default_image(variable: str) -> str:
    text = (ROOT / COMPOSE[-1]).read_text(encoding="utf-8")
    return text.partition(f"${{{variable}:-")[2].partition("}")[0]


def _quiet(command: list[str], seconds: float) -> bool:
    try:
        return not subprocess.run(command, capture_output=True, check=False, timeout=seconds).returncode
    except subprocess.TimeoutExpired:
        return False


def _ports() -> dict[str, int]:
    """The specified ports, or a free one for each that is taken."""
    chosen = {}
    for service, (_, port) in PUBLISHED.items():
        chosen[service] = port if is_free(port) else free_ports(1)[0]
        if chosen[service] != port:
            _report(f"port {port} is taken: {service} is published on {chosen[service]}")
    return chosen


def _write_dotenv(path: Path) -> dict[str, str]:
    """A .env as `./fraud` writes it, with passwords that are hard to quote."""
    dotenv.ensure(path, ROOT / ".env.example")
    lines = [f"{name}={dotenv.quote_value(f'{HARD}{number}')}" for number, name in enumerate(HARD_NAMES)]
    with path.open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    return dotenv.read(path)


def _export(harness: Harness, folder: Path, official: bool) -> None:
    """Set the environment so that the tests can run the documented commands unchanged."""
    harness.write(folder / "harness.json")
    files = [folder / ".env", *([] if official else [OFFLINE])]
    os.environ[HARNESS_VARIABLE] = str(folder / "harness.json")
    os.environ["COMPOSE_PROJECT_NAME"] = PROJECT
    os.environ["COMPOSE_ENV_FILES"] = ",".join(map(str, files))
    for service, (variable, _) in PUBLISHED.items():
        os.environ[variable] = str(harness.ports[service])
    for name in harness.omitted:
        _report(f"{name}: left out: it cannot be built offline")


def _build(official: bool) -> None:
    if not official:
        _timed("images of third parties", [str(ROOT / "fraud"), "images-offline"])
    _timed("images", [str(ROOT / "fraud"), "build"])


def _timed(title: str, command: list[str]) -> None:
    started = time.monotonic()
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise SystemExit(f"test-stack: failed: {' '.join(command)}")
    _report(f"{title} built in {time.monotonic() - started:.0f} s")


def _run(harness: Harness, folder: Path, choices: Choices, logs: Path) -> int:
    stack = Stack(harness)
    failed = 1
    parts, whole = _tests(choices.pytest)
    try:
        # These tests need Docker but not the stack, so they run while it starts.
        with _in_background([*_PYTEST, *parts] if parts else [], logs / "parts.txt") as ended:
            started = time.monotonic()
            stack.up()
            stack.wait_healthy()
            _report(f"up and healthy after {time.monotonic() - started:.0f} s")
            failed = subprocess.run([*_PYTEST, *whole], cwd=ROOT, check=False).returncode
        failed = failed or ended[0]
    except AssertionError as error:
        _report(f"failed: {error}")
    finally:
        if failed:
            _keep_logs(stack, logs)
        if choices.keep:
            kept_logs = Path(shutil.copytree(folder, logs, dirs_exist_ok=True))
            files = os.environ["COMPOSE_ENV_FILES"].replace(str(folder), str(kept_logs))
            _report(
                f"the stack is left running; docker compose finds it with COMPOSE_PROJECT_NAME={PROJECT} "
                f"COMPOSE_ENV_FILES={files}"
            )
        else:
            subprocess.run(
                [*COMPOSE, "--profile", "*", "down", "-v"], cwd=ROOT, check=False, capture_output=True
            )
    return failed


@contextmanager
def _in_background(command: Sequence[str], log: Path) -> Iterator[list[int]]:
    """Run a command in the background; at the end its output is printed, and the list has its exit code."""
    ended: list[int] = []
    if not command:
        yield [0]
        return
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield ended
    finally:
        ended.append(process.wait())
        print(log.read_text(encoding="utf-8", errors="replace"), flush=True)
        if not ended[0]:
            log.unlink()


def _tests(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments for the tests without and with the stack; named tests run with the stack."""
    if any((ROOT / word.partition("::")[0]).exists() for word in arguments if not word.startswith("-")):
        return [], list(arguments)
    folder = Path(__file__).parent
    whole = [folder / f"test_{name}.py" for name in WHOLE]
    parts = sorted(path for path in folder.glob("test_*.py") if path not in whole)
    return [*arguments, *map(str, parts)], [*arguments, *map(str, whole)]


def _keep_logs(stack: Stack, logs: Path) -> None:
    """Save every container's log and state."""
    for service, one in stack.containers().items():
        with (logs / f"{service}.log").open("wb") as log:
            subprocess.run(["docker", "logs", one["Id"]], stdout=log, stderr=log, check=False)
    (logs / "states.txt").write_text(stack.run(*COMPOSE, "--profile", "*", "ps", "--all"), encoding="utf-8")
    _report(f"the logs of all containers are in {logs}")


def _report(text: str) -> None:
    print(f"test-stack: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
