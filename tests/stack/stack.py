"""The running stack, as its users reach it: Compose, `docker exec`, published ports."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from config import constants
from fraud_embedded.servers.airflow_api import AirflowApi

ROOT: Final = Path(__file__).resolve().parents[2]
COMPOSE: Final = ("docker", "compose", "-f", "docker-compose.local.yml")
# The harness passes the path of its description of the stack in this variable.
HARNESS_VARIABLE: Final = "FRAUD_STACK_HARNESS"
# These services end after their work; all others keep running.
ONE_SHOTS: Final = frozenset(
    {"preflight", "db-migrate", "topics", "buckets", "history", "first-model", "airflow-init"}
)
# The docker-proxy gives this prefix to every container of a job.
JOB_FILTER: Final = "label=fraud.project=fraud-detection"


class CommandFailed(AssertionError):
    """A command failed; the message has its output."""


@dataclass(frozen=True, slots=True)
class Harness:
    """The harness's choices: project, ports, .env, and services left out."""

    project: str
    ports: Mapping[str, int]
    dotenv: Mapping[str, str] = field(repr=False)
    omitted: tuple[str, ...]

    def write(self, path: Path) -> None:
        document = {
            "project": self.project,
            "ports": dict(self.ports),
            "dotenv": dict(self.dotenv),
            "left_out": list(self.omitted),
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(document), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Harness:
        document = json.loads(path.read_text(encoding="utf-8"))
        return cls(document["project"], document["ports"], document["dotenv"], tuple(document["left_out"]))


@dataclass(frozen=True, slots=True)
class Stack:
    """Runs commands in the repository with the harness's .env, and queries the stack."""

    harness: Harness

    def run(self, *command: str, seconds: float = 120, stdin: str | None = None) -> str:
        """A command's standard output.

        Raises:
            CommandFailed: its exit code was not 0.
        """
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=seconds, input=stdin
        )
        if done.returncode:
            output = (done.stdout[-2000:] + done.stderr[-4000:]).strip()
            raise CommandFailed(f"{shlex.join(command)} → {done.returncode}\n{output}")
        return done.stdout

    def compose(self, *arguments: str, seconds: float = 300) -> str:
        return self.run(*COMPOSE, *arguments, seconds=seconds)

    def up(self, *services: str, seconds: float = 600) -> None:
        """Run `up -d` for everything that can run here, or for the named services."""
        self.compose("up", "-d", *(services or self.services()), seconds=seconds)

    def services(self, *profiles: str) -> list[str]:
        """The services without a profile, and those of the named profiles."""
        arguments = [word for profile in profiles for word in ("--profile", profile)]
        named = self.compose(*arguments, "config", "--services").split()
        return sorted(set(named) - set(self.harness.omitted))

    def inspect(self, *containers: str) -> list[dict[str, Any]]:
        details: list[dict[str, Any]] = json.loads(self.run("docker", "inspect", *containers))
        return details

    def containers(self) -> dict[str, dict[str, Any]]:
        """The output of `docker inspect` for each container of the project, by service."""
        ids = self.run(
            "docker",
            "ps",
            "--all",
            "--quiet",
            "--filter",
            f"label=com.docker.compose.project={self.harness.project}",
        ).split()
        if not ids:
            return {}
        return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in self.inspect(*ids)}

    def jobs(self) -> dict[str, str]:
        """Id → name of all job containers, running or not; names are reused, ids are not."""
        form = ["--all", "--no-trunc", "--format", "{{.ID}} {{.Names}}", "--filter", JOB_FILTER]
        lines = self.run("docker", "ps", *form).splitlines()
        return {line.split()[0]: line.split()[1] for line in lines}

    def python(self, container: str, program: str, seconds: float = 60) -> str:
        """Run a Python program in a running container; returns its output."""
        return self.run("docker", "exec", "-i", container, "python3", "-", seconds=seconds, stdin=program)

    def psql(self, statement: str) -> list[list[str]]:
        """The rows of a statement, queried as in the specification's commands."""
        psql = "docker exec -i fraud-postgres psql -U fraud_user -d fraud_detection -v ON_ERROR_STOP=1"
        answer = self.run(*psql.split(), "-At", "-F", "\t", stdin=statement)
        return [line.split("\t") for line in answer.splitlines()]

    def stored(self) -> dict[str, int]:
        """The numbers of transactions and of deciding predictions."""
        [[transactions, decisions]] = self.psql(
            "SELECT (SELECT count(*) FROM transactions), (SELECT count(*) FROM predictions WHERE deciding)"
        )
        return {"transactions": int(transactions), "decisions": int(decisions)}

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.harness.ports[service]}"

    def airflow(self) -> AirflowApi:
        return AirflowApi(Login(self.url("airflow"), self.harness.dotenv["AIRFLOW_PASSWORD"]))

    def pause(self, paused: bool) -> None:
        """Pause or resume the schedules of the real-time DAGs."""
        airflow = self.airflow()
        for dag in constants.DAGS_REAL_TIME:
            airflow.pause(dag, paused)

    def client(self, name: str = "streaming") -> httpx.Client:
        """A client of the API behind the gateway, with a fresh token of one of the platform's clients."""
        form = {
            "grant_type": "client_credentials",
            "client_id": name,
            "client_secret": self.harness.dotenv[f"API_CLIENT_SECRET_{name.upper()}"],
        }
        answer = httpx.post(f"{self.url('api')}/auth/token", data=form, trust_env=False, timeout=30)
        answer.raise_for_status()
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        return httpx.Client(base_url=self.url("api"), headers=headers, trust_env=False, timeout=30)

    def prometheus(self, path: str, **query: str) -> Any:
        """Prometheus' response to a request below /api/v1."""
        answer = httpx.get(
            f"{self.url('prometheus')}/api/v1/{path}", params=query, trust_env=False, timeout=30
        )
        assert answer.status_code == 200, f"{path} {query}: {answer.text[:500]}"
        return answer.json()["data"]

    def unsettled(self) -> dict[str, str]:
        """The state of each service that is neither healthy nor has ended as it should."""
        states = {service: settled(one, service) for service, one in self.containers().items()}
        return {service: state for service, state in states.items() if state}

    def wait_healthy(self, seconds: float = 300) -> None:
        """Wait until Docker reports every service as healthy."""
        wait_for(lambda: not self.unsettled(), seconds, lambda: f"not healthy: {self.unsettled()}")

    def wait_working(self, service: str, seconds: float = 300) -> None:
        """Wait for the service's own health check; Docker would run it only at its next interval."""
        wait_for(lambda: self._works(service), seconds, lambda: f"not healthy: {service}")

    def _works(self, service: str) -> bool:
        [container] = self.inspect(f"fraud-{service}")
        if container["State"]["Status"] != "running":
            return False
        how, *test = container["Config"]["Healthcheck"]["Test"]
        command = ["sh", "-c", *test] if how == "CMD-SHELL" else test
        self.run("docker", "exec", container["Id"], *command, seconds=30)
        return True


@dataclass(frozen=True, slots=True)
class Login:
    """The URL of Airflow, and the password of its user."""

    url: str
    password: str = field(repr=False)


def settled(container: Mapping[str, Any], service: str) -> str:
    """The state of a container, or an empty string if it is as it should be."""
    state = container["State"]
    if service in ONE_SHOTS:
        return "" if (state["Status"], state["ExitCode"]) == ("exited", 0) else _state(state)
    health = state.get("Health", {}).get("Status", "healthy")
    return "" if (state["Status"], health) == ("running", "healthy") else _state(state)


def _state(state: Mapping[str, Any]) -> str:
    if state["Status"] == "running":
        return str(state.get("Health", {}).get("Status", "running"))
    return f"{state['Status']} ({state['ExitCode']})"


def wait_for(
    condition: Callable[[], bool], seconds: float, otherwise: Callable[[], str] = lambda: "it did not happen"
) -> None:
    """Poll until the condition holds; a connection error means that it does not hold yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except (httpx.TransportError, httpx.HTTPStatusError, CommandFailed) as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"{otherwise()} within {seconds:.0f} s: {error}") from error
        if time.monotonic() > deadline:
            raise AssertionError(f"{otherwise()} within {seconds:.0f} s")
        time.sleep(0.5)


def running_stack() -> Stack | None:
    """The stack that the harness has started, or None."""
    path = os.environ.get(HARNESS_VARIABLE)
    return Stack(Harness.read(Path(path))) if path else None
