"""The platform's built images: their content, their users, and how they start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.stack.docker_cli import docker, image

COMMANDS = {
    "api": ["python", "-m", "fraud_api", "--help"],
    "jobs": ["python", "-m", "fraud_streaming", "--help"],
    "ml": ["python", "-m", "fraud_trainer", "--help"],
    "mlflow": ["mlflow", "--version"],
    "migrate": ["python", "-m", "fraud_db", "--help"],
    "docker-proxy": ["python", "-c", "import fraud_docker_proxy.app"],
    "airflow": ["airflow", "version"],
}
NUMBERS = dict.fromkeys(COMMANDS, 10001) | {"airflow": 50000}
SERVERS = {"api", "mlflow", "docker-proxy"}
# Inspects an image from inside a container.
LOOK = """
import importlib.util, json, os, pathlib
PLACES = ["/app", "/opt/venv", "/opt/airflow/dags", "/etc", "/tmp"]
PLACES += ["/result", "/var/lib/fraud", "/opt/airflow/logs"]
held = [pathlib.Path(p) for p in ("/app", "/opt/venv", "/opt/fraud", "/opt/airflow") if os.path.isdir(p)]
files = [p for folder in held for p in folder.rglob("*") if p.is_file()]
sources = [p for p in files if p.suffix == ".py" and "bin" not in p.parts]
compiled = [p for p in sources if pathlib.Path(importlib.util.cache_from_source(str(p))).exists()]
def writable(folder):
    try:
        with open(os.path.join(folder, "probe"), "w"):
            return True
    except OSError:
        return False
print(json.dumps({
    "number": os.getuid(),
    "writes": [str(p) for p in files if os.access(p, os.W_OK)],
    "may write": [folder for folder in PLACES if writable(folder)],
    "compiled": len(compiled) / max(len(sources), 1),
    "pip": importlib.util.find_spec("pip") is not None,
    # Evidently calls its checks tests: they are a part of it.
    "tests": [
        str(p)
        for p in files
        if "/site-packages/" in str(p) and "tests" in p.parts and "evidently" not in p.parts
    ][:3],
    "environment": sorted(os.environ),
}))
"""


def _config(name: str) -> dict[str, Any]:
    config: dict[str, Any] = image(f"fraud-detection/{name}:local")["Config"]
    return config


def _run(name: str, command: list[str], *options: str, stdin: str | None = None) -> tuple[int, str, str]:
    _config(name)
    alone = ["run", "--rm", "--interactive", "--network", "none"]
    done = docker(*alone, *options, f"fraud-detection/{name}:local", *command, stdin=stdin)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_an_image_does_its_work_with_nothing_else_at_hand(name: str) -> None:
    code, _, stderr = _run(name, COMMANDS[name], "--cap-drop", "ALL", "--read-only", "--tmpfs", "/tmp")
    assert code == 0, stderr


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_nothing_that_runs_may_be_changed_from_within(name: str) -> None:
    code, stdout, stderr = _run(name, ["python3", "-"], stdin=LOOK)
    assert code == 0, stderr
    inspection = json.loads(stdout)
    own = {"/opt/airflow/logs"} if name == "airflow" else {"/result", "/var/lib/fraud"}
    assert inspection["number"] == NUMBERS[name]
    assert not inspection["writes"] and set(inspection["may write"]) == {"/tmp", *own}
    # A start then compiles no source; the exceptions are templates that Python cannot read.
    assert inspection["compiled"] > 0.99
    assert not inspection["pip"] and not inspection["tests"]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_an_image_says_what_it_was_made_of_and_knows_no_secret(name: str) -> None:
    config = _config(name)
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == f"fraud-detection/{name}"
    assert all(labels[f"org.opencontainers.image.{label}"] for label in ("version", "revision", "created"))
    assert not [line for line in config["Env"] if "PASSWORD" in line or "SECRET" in line or "_KEY" in line]
    assert ("Healthcheck" in config) == (name in SERVERS)


def test_a_secret_comes_out_of_its_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("p@ss:/w#rd% $HOME \"'\\\n")
    secret.chmod(0o644)
    shows = ["python", "-c", "import os; print(repr(os.environ['DB_PASSWORD']))"]
    options = ["--volume", f"{secret}:/run/secrets/db:ro", "--env", "DB_PASSWORD_FILE=/run/secrets/db"]
    code, stdout, stderr = _run("jobs", shows, *options)
    assert (code, stdout.strip()) == (0, repr("p@ss:/w#rd% $HOME \"'\\")), stderr


def test_a_secret_that_the_user_of_the_image_cannot_read_stops_the_start(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    secret.chmod(0o600)
    options = ["--volume", f"{secret}:/run/secrets/db:ro", "--env", "DB_PASSWORD_FILE=/run/secrets/db"]
    code, _, stderr = _run("jobs", ["true"], *options)
    assert code == 2 and "DB_PASSWORD_FILE" in stderr and "hidden" not in stderr


def test_production_refuses_default_secrets_in_every_image() -> None:
    for name in COMMANDS:
        options = ["--env", "APP_ENV=production", "--env", "SOME_PASSWORD=change-me-some"]
        code, _, stderr = _run(name, ["true"], *options)
        assert (code, "SOME_PASSWORD" in stderr, "change-me" in stderr) == (2, True, False), name


def test_airflow_knows_the_platforms_names_and_nothing_else_of_it() -> None:
    program = "from config import constants; print(constants.ENV_VARS.get('DB_HOST'))"
    code, stdout, stderr = _run("airflow", ["python3", "-c", program])
    assert (code, stdout.strip()) == (0, "postgres"), stderr
    assert _run("airflow", ["python3", "-c", "import fraud_core"])[0] == 1
