"""`docker-compose.vm1.yml`: what it refuses, and its stores. The local stack must not be running."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fraud_launcher import secret_files
from tests.stack.stack import ROOT, CommandFailed, Stack

FILE = ("docker", "compose", "-f", "docker-compose.vm1.yml")
REQUIRED = {"REGISTRY": "registry.invalid/tests", "TAG": "1", "API_URL": "http://api.invalid:8000"}
IMAGES = ("jobs", "ml", "migrate", "mlflow", "docker-proxy", "airflow")


@dataclass(frozen=True)
class Installation:
    """Where its secrets are."""

    stack: Stack
    secrets: Path

    def compose(self, *arguments: str) -> str:
        return self.stack.run(*FILE, *arguments, seconds=300)

    def logs(self, service: str) -> str:
        done = subprocess.run(
            ["docker", "logs", f"fraud-{service}"], capture_output=True, text=True, check=True
        )
        return done.stdout + done.stderr


@pytest.fixture
def installation(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    """Tag the images with the names of a registry."""
    assert stack.containers() == {}, "the local stack is still running; its containers have the same names"
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path / "secrets"))
    secret_files.write(tmp_path / "secrets")
    named = [f"{REQUIRED['REGISTRY']}/fraud-detection/{one}:1" for one in IMAGES]
    for one, image in zip(IMAGES, named, strict=True):
        stack.run("docker", "tag", f"fraud-detection/{one}:local", image)
    try:
        yield Installation(stack, tmp_path / "secrets")
    finally:
        stack.run(*FILE, "--profile", "*", "down", "-v", seconds=240)
        stack.run("docker", "rmi", *named)


@pytest.mark.parametrize("name", REQUIRED)
def test_what_is_required_is_named(stack: Stack, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other, value in REQUIRED.items():
        monkeypatch.setenv(other, value)
    stack.run(*FILE, "config", "--quiet")
    monkeypatch.delenv(name)
    with pytest.raises(CommandFailed, match=f"{name} is not set in .env"):
        stack.run(*FILE, "config", "--quiet")


def test_compose_reads_the_local_file(stack: Stack) -> None:
    services = json.loads(stack.compose("--profile", "*", "config", "--format", "json"))["services"]
    assert {service["container_name"] for service in services.values()} >= {
        "fraud-postgres",
        "fraud-api",
    }


@pytest.mark.parametrize(("content", "sentence"), [("change-me-redis", "default"), ("\n", "empty")])
def test_a_default_or_empty_secret_stops_everything(
    installation: Installation, content: str, sentence: str
) -> None:
    secret = installation.secrets / "redis_password"
    secret.chmod(0o644)
    secret.write_text(content, encoding="utf-8")
    with pytest.raises(CommandFailed, match="preflight"):
        installation.compose("up", "-d", "redis", "postgres")
    output = installation.logs("preflight")
    assert output.startswith("The secret redis_password: ")
    assert sentence in output
    assert output.count("\n") == 1
    running = installation.stack.run("docker", "ps", "--quiet", "--filter", "name=^fraud-(redis|postgres)$")
    assert running == ""


def test_the_stores_get_their_secrets_from_files(installation: Installation) -> None:
    """Starts everything except Airflow, which starts as in the local file."""
    installation.compose("up", "-d", "redis", "topics", "mlflow", "docker-proxy")
    installation.stack.wait_healthy(180)
    containers = installation.stack.containers()
    assert {"postgres", "kafka", "objectstore", "buckets", "db-migrate"} <= set(containers)
    shown = json.dumps(list(containers.values()))
    for secret in installation.secrets.iterdir():
        value = secret.read_text(encoding="utf-8")
        assert not value or value not in shown, f"{secret.name} is seen by docker inspect"
    published = {
        name
        for name, one in containers.items()
        for bindings in one["NetworkSettings"]["Ports"].values()
        if bindings
    }
    assert published == {"objectstore", "mlflow"}


def test_a_machine_without_the_repository_needs_one_file(installation: Installation, tmp_path: Path) -> None:
    alone = tmp_path / "vm1"
    alone.mkdir()
    (alone / "docker-compose.vm1.yml").write_bytes((ROOT / "docker-compose.vm1.yml").read_bytes())
    done = subprocess.run(
        [*FILE, "config", "--format", "json"], cwd=alone, env=os.environ, capture_output=True, check=True
    )
    services = json.loads(done.stdout)["services"].values()
    mounted = {
        one["source"] for service in services for one in service.get("volumes", []) if one["type"] == "bind"
    }
    assert mounted == {"/var/run/docker.sock"}
