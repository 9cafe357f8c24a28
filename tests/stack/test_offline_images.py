"""The images made from Debian, PyPI and Maven packages fit the Compose files."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.stack.docker_cli import docker, docker_output, image, remove_labelled
from tests.stack.stack import wait_for

LABEL = f"fraud.test={uuid.uuid4().hex}"
# As in the table of docs/images.md: user, volumes, and what the Compose files start.
INTERFACE = {
    "postgres": ("", {"/var/lib/postgresql/data"}, ["docker-entrypoint.sh"]),
    "redis": ("redis", {"/data"}, None),
    "kafka": ("appuser", {"/var/lib/kafka/data"}, None),
    "objectstore": ("", {"/data"}, ["/entrypoint.sh"]),
    "gateway": ("nobody", set(), ["/usr/local/bin/traefik"]),
    "prometheus": ("nobody", {"/prometheus"}, ["/bin/prometheus"]),
    "alertmanager": ("nobody", {"/alertmanager"}, ["/bin/alertmanager"]),
}
POSTGRES = "fraud-detection/postgres:offline"


@pytest.fixture(autouse=True)
def removed() -> Iterator[None]:
    yield
    remove_labelled(f"label={LABEL}", "container", "volume")


@pytest.mark.parametrize("name", sorted(INTERFACE))
def test_the_interface_is_the_one_that_is_written_down(name: str) -> None:
    config = image(f"fraud-detection/{name}:offline")["Config"]
    interface = (config["User"], set(config["Volumes"] or ()), config["Entrypoint"])
    assert interface == INTERFACE[name]


def _start(name: str, *options: str, command: tuple[str, ...] = ()) -> str:
    image(name)
    return docker_output("run", "--detach", "--label", LABEL, "--network", "none", *options, name, *command)


def _fails(name: str, *options: str) -> str:
    image(name)
    done = docker("run", "--rm", "--label", LABEL, "--network", "none", *options, name)
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stderr


def _ready(container: str) -> bool:
    command = ["exec", container, "pg_isready", "-q", "-h", "127.0.0.1", "-U", "postgres"]
    return docker(*command).returncode == 0


def _query(container: str, password: str) -> str:
    login = ["--env", f"PGPASSWORD={password}", container, "psql", "-h", "127.0.0.1", "-U", "postgres"]
    return docker("exec", *login, "-Atc", "SELECT datcollate FROM pg_database LIMIT 1").stdout.strip()


def test_postgres_keeps_its_volume_and_refuses_that_of_another_version() -> None:
    image(POSTGRES)
    volume = docker_output("volume", "create", "--label", LABEL)
    mounted = ["--volume", f"{volume}:/var/lib/postgresql/data"]
    hard = "p@ss:/w#rd% $HOME \"'\\"
    options = ["--env", "POSTGRES_INITDB_ARGS=--auth-host=scram-sha-256"]
    first = _start(POSTGRES, *mounted, *options, "--env", f"POSTGRES_PASSWORD={hard}")
    wait_for(lambda: _ready(first), 120)
    assert (_query(first, hard), _query(first, "other")) == ("en_US.utf8", "")
    environment = docker_output("exec", "--user", "postgres", first, "cat", "/proc/1/environ")
    assert "PGDATA=" in environment and "p@ss" not in environment
    docker_output("stop", first)
    again = _start(POSTGRES, *mounted)
    wait_for(lambda: _ready(again), 120)
    assert _query(again, hard) == "en_US.utf8"
    docker_output("exec", again, "sh", "-c", "echo 16 > $PGDATA/PG_VERSION")
    docker_output("kill", again)
    refused = _fails(POSTGRES, *mounted)
    assert "made by PostgreSQL 16 and this is PostgreSQL 17" in refused and len(refused.splitlines()) == 1


def test_postgres_names_what_it_lacks_and_what_it_does_not_know() -> None:
    assert "POSTGRES_PASSWORD is not set" in _fails(POSTGRES)
    assert "POSTGRES_USER" in _fails(POSTGRES, "--env", "POSTGRES_USER=other")
    missing = ["--env", "POSTGRES_PASSWORD_FILE=/run/secrets/none"]
    assert "/run/secrets/none" in _fails(POSTGRES, *missing)


def test_kafka_names_what_it_lacks() -> None:
    kafka = "fraud-detection/kafka:offline"
    assert "KAFKA_PROCESS_ROLES" in _fails(kafka)
    assert "CLUSTER_ID" in _fails(kafka, "--env", "KAFKA_NODE_ID=1")
    assert "KAFKA_LOG_DIRS" in _fails(kafka, "--env", "KAFKA_NODE_ID=1", "--env", "CLUSTER_ID=x")


def test_kafka_writes_its_settings_as_the_official_image_does() -> None:
    options = [
        "--env",
        "KAFKA_NODE_ID=7",
        "--env",
        "KAFKA_A__B_C___D=e=f",
        "--env",
        "KAFKA_HEAP_OPTS=-Xmx64m",
    ]
    kafka = _start("fraud-detection/kafka:offline", *options, "--env", "CLUSTER_ID=ZnJhdWQtZGV0ZWN0aW9uMQ")
    docker_output("wait", kafka)
    settings = docker_output("cp", f"{kafka}:/tmp/server.properties", "-")
    assert "a_b.c-d=e=f\nnode.id=7\n" in settings and "heap" not in settings


def test_every_program_is_of_the_version_its_name_says() -> None:
    for name, program, version in (
        ("redis", ["redis-server", "--version"], "v=8.0."),
        ("prometheus", ["promtool", "--version"], "version 2.53."),
        ("alertmanager", ["/bin/alertmanager", "--version"], "version 0.28."),
        ("gateway", ["traefik", "version"], "3.7."),
        ("objectstore", ["weed", "version"], " 4.48"),
    ):
        image(f"fraud-detection/{name}:offline")
        command = ["run", "--rm", "--entrypoint", program[0], f"fraud-detection/{name}:offline", *program[1:]]
        assert version in docker_output(*command), name
