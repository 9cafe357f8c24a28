"""The containers after `up -d`, and their restrictions."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.stack.stack import ONE_SHOTS, Stack

# Only these are published on this machine.
PUBLISHED = {"postgres", "redis", "kafka", "mlflow", "gateway", "airflow-webserver"}
PUBLISHED |= {"prometheus", "alertmanager", "grafana", "audit"}
# Third-party images define their own users; the proxy runs as root for the socket.
ROOT_USERS = {"docker-proxy", "postgres", "objectstore", "gateway"}


@pytest.fixture(scope="module")
def containers(stack: Stack) -> dict[str, dict[str, Any]]:
    return stack.containers()


def test_everything_is_up_and_healthy(stack: Stack, containers: dict[str, dict[str, Any]]) -> None:
    assert set(containers) == set(stack.services())
    assert stack.unsettled() == {}


def test_every_server_has_a_health_check(containers: dict[str, dict[str, Any]]) -> None:
    without = {name for name, one in containers.items() if "Health" not in one["State"]}
    assert without == set(containers) & ONE_SHOTS


def test_containers_are_called_as_specified(containers: dict[str, dict[str, Any]]) -> None:
    assert {name: one["Name"] for name, one in containers.items()} == {
        name: f"/fraud-{name}" for name in containers
    }


def test_ports_are_published_on_this_machine_alone(containers: dict[str, dict[str, Any]]) -> None:
    published = set()
    for name, one in containers.items():
        for bindings in one["NetworkSettings"]["Ports"].values():
            for binding in bindings or []:
                assert binding["HostIp"] == "127.0.0.1", name
                published.add(name)
    assert published == PUBLISHED & set(containers)


def test_mlflow_lets_in_who_logs_in(stack: Stack) -> None:
    def status(password: str) -> int:
        return httpx.get(
            stack.url("mlflow"), auth=("person", password), trust_env=False, timeout=30
        ).status_code

    assert status(stack.harness.dotenv["MLFLOW_PERSON_PASSWORD"]) == 200
    assert status("of somebody else") == 401


def test_nothing_is_privileged_and_everything_has_a_limit(containers: dict[str, dict[str, Any]]) -> None:
    for name, one in containers.items():
        host = one["HostConfig"]
        assert not host["Privileged"], name
        assert not host["CapAdd"], name
        assert host["Memory"] > 0, name
        assert {host["PidMode"], host["UsernsMode"], host["UTSMode"]} == {""}, name
        assert host["IpcMode"] in {"private", "shareable"}, name
        assert host["NetworkMode"] != "host", name
        if one["Config"]["Image"].startswith("fraud-detection/") and name not in ROOT_USERS:
            assert one["Config"]["User"] not in {"", "0", "root", "0:0"}, name


def test_every_volume_has_a_name(stack: Stack, containers: dict[str, dict[str, Any]]) -> None:
    """An anonymous volume would remain after every `down` without a hint at its origin."""
    mounted = {
        mount["Name"] for one in containers.values() for mount in one["Mounts"] if mount["Type"] == "volume"
    }
    assert {name for name in mounted if not name.startswith(f"{stack.harness.project}_")} == set()


def test_only_the_proxy_holds_the_socket(containers: dict[str, dict[str, Any]]) -> None:
    holders = {
        name
        for name, one in containers.items()
        for mount in one["Mounts"]
        if "docker.sock" in mount.get("Source", "")
    }
    assert holders == {"docker-proxy"}


def test_no_secret_is_in_a_list_of_processes(stack: Stack, containers: dict[str, dict[str, Any]]) -> None:
    values = {value for name, value in stack.harness.dotenv.items() if "PASSWORD" in name or "SECRET" in name}
    values |= {stack.harness.dotenv["AIRFLOW_FERNET_KEY"]}
    assert len(values) > 10
    for name, one in containers.items():
        if one["State"]["Status"] != "running":
            continue
        shown = stack.run("docker", "top", one["Id"], "-eo", "pid,args")
        assert not [value for value in values if value and value in shown], name


def test_the_compose_file_says_the_same(stack: Stack) -> None:
    listed = stack.compose("ps", "--format", "{{.Service}}").split()
    assert set(listed) == set(stack.services()) - ONE_SHOTS
