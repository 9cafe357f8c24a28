"""One `.env` for both ways of running: the values Compose reads, and the ports it occupies."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from fraud_embedded.addresses import choose
from fraud_embedded.startup import usable
from fraud_launcher import dotenv
from tests.stack.stack import COMPOSE, ROOT, Stack
from tests.support.dotenv_cases import FILES, READ


def compose_config(env_file: Path, compose_file: Path, **shell: str) -> subprocess.CompletedProcess[str]:
    program = ["docker", "compose", "--env-file", str(env_file), "-f", str(compose_file)]
    return subprocess.run(
        [*program, "config", "--format", "json"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **_docker_variables(), **shell},
        capture_output=True,
        text=True,
        check=False,
    )


def _docker_variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("DOCKER_")}


def values_in(compose_file: Path, env_file: Path) -> dict[str, str]:
    done = compose_config(env_file, compose_file)
    assert done.returncode == 0, done.stderr
    environment: dict[str, str] = json.loads(done.stdout)["services"]["one"]["environment"]
    # Compose doubles each $ in its output so that the output can be read again.
    return {name: value.replace("$$", "$") for name, value in environment.items()}


def test_compose_reads_every_value_as_we_do(tmp_path: Path) -> None:
    names = {f"V{number}": text for number, text in enumerate(READ)}
    env_file, compose_file = tmp_path / "values.env", tmp_path / "one.yml"
    env_file.write_bytes("".join(f"{name}={text}\n" for name, text in names.items()).encode())
    environment = {name: f"${{{name}}}" for name in names}
    compose_file.write_text(
        json.dumps({"services": {"one": {"image": "none", "environment": environment}}}), "utf-8"
    )
    assert values_in(compose_file, env_file) == dotenv.read(env_file)


def test_compose_reads_every_file_as_we_do(tmp_path: Path) -> None:
    env_file, compose_file = tmp_path / "file.env", tmp_path / "one.yml"
    for text, values in FILES.items():
        env_file.write_bytes(text.encode())
        environment = {name: f"${{{name}}}" for name in values}
        compose_file.write_text(
            json.dumps({"services": {"one": {"image": "none", "environment": environment}}}), "utf-8"
        )
        assert values_in(compose_file, env_file) == dotenv.read(env_file) == values


def test_the_example_is_all_that_compose_needs_and_no_host_of_the_shell_counts() -> None:
    hosts = {"DB_HOST": "elsewhere", "DB_PORT": "1", "API_URL": "http://elsewhere"}
    hosts |= {"DATABASE_URL": "postgresql://elsewhere/x", "KAFKA_BOOTSTRAP_SERVERS": "elsewhere:1"}
    hosts |= {"MLFLOW_TRACKING_URI": "http://elsewhere", "S3_ENDPOINT_URL": "http://elsewhere"}
    plain, leaking = (
        compose_config(ROOT / ".env.example", ROOT / COMPOSE[-1], **shell) for shell in ({}, hosts)
    )
    assert (plain.returncode, plain.stderr) == (0, "")
    assert leaking.stdout == plain.stdout


def test_a_taken_port_stops_up_with_a_sentence(stack: Stack) -> None:
    """The stack under test has another project name, so `./fraud up` treats its ports as taken."""
    variables = {name: value for name, value in os.environ.items() if name != "COMPOSE_PROJECT_NAME"}
    done = subprocess.run(
        [str(ROOT / "fraud"), "up"], env=variables, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert f"{stack.harness.ports['postgres']} (postgres)" in done.stderr
    assert "PUBLISH_" in done.stderr


def test_the_demo_goes_elsewhere_beside_the_stack(stack: Stack) -> None:
    silent = {"flower", *stack.harness.omitted}
    assert not [name for name, port in stack.harness.ports.items() if name not in silent and usable(port)]
    if stack.harness.ports["postgres"] == 5432:
        assert choose(None, None, usable).offset > 0
