"""The docker-proxy keeps a container only as long as a client waits for it."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

import pytest

from tests.stack.docker_project import DockerProject, Proxy, Wait, docker_project, job_image
from tests.support.waiting import eventually

SLEEP: Final = "import time; time.sleep(1000)"
DEAF: Final = "import signal; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
GRACE_S: Final = 2.0


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerProject]:
    with job_image() as image, docker_project(tmp_path_factory.mktemp("proxy"), image, GRACE_S) as docker:
        yield docker


@pytest.fixture(autouse=True)
def clean_project(project: DockerProject) -> Iterator[None]:
    yield
    assert project.containers() == []


def create(project: DockerProject, source: str = SLEEP) -> str:
    path = f"/containers/create?name=fraud-job-{secrets.token_hex(6)}"
    status, answer = project.proxy.call("POST", path, project.body(source))
    assert status == 201, answer
    return str(answer["Id"])


def started(project: DockerProject, source: str = SLEEP) -> tuple[str, Wait]:
    container = create(project, source)
    wait = project.proxy.wait(container)
    assert project.proxy.call("POST", f"/containers/{container}/start")[0] == 204
    return container, wait


def all_removed(project: DockerProject) -> bool:
    return eventually(lambda: not project.containers(), 60)


def only(project: DockerProject, container: str) -> bool:
    return eventually(lambda: [one["Id"] for one in project.containers()] == [container], 60)


def logged_event(project: DockerProject, event: str) -> dict[str, Any]:
    return {line["id"]: line.get("reason") for line in project.proxy.log() if line["event"] == event}


def why_ended(project: DockerProject, container: str) -> Any:
    """The proxy's log event for a removed container, which appears shortly after the removal."""
    assert eventually(lambda: container in logged_event(project, "ended"), 60)
    return logged_event(project, "ended")[container]


def test_a_container_goes_with_whoever_waited_for_it_and_no_other(project: DockerProject) -> None:
    container, wait = started(project)
    other, other_wait = started(project)
    wait.give_up()
    assert only(project, other)
    assert project.daemon.inspect_container(other)["State"]["Running"]
    other_wait.give_up()
    assert all_removed(project)
    assert why_ended(project, container) == "the client that waited for it is gone"


def test_a_container_that_does_not_listen_goes_too(project: DockerProject) -> None:
    container, wait = started(project, DEAF)
    assert eventually(lambda: project.daemon.logs(container) == b"deaf\n", 60)
    wait.give_up()
    assert all_removed(project)


def test_a_container_two_wait_for_outlives_one_of_them(project: DockerProject) -> None:
    container, wait = started(project)
    second = project.proxy.wait(container)
    _, other_wait = started(project)
    wait.give_up()
    other_wait.give_up()
    assert only(project, container), "the container that was abandoned later was removed"
    assert project.daemon.inspect_container(container)["State"]["Running"]
    second.give_up()
    assert all_removed(project)


def test_a_container_nobody_ever_waits_for_goes_after_the_grace(project: DockerProject) -> None:
    one, two = create(project), create(project)
    project.proxy.call("POST", f"/containers/{two}/start")
    assert all_removed(project)
    assert why_ended(project, one) == why_ended(project, two) == "nobody waits for it"


def test_a_container_that_is_waited_for_outlives_the_grace_and_then_its_remains_go(
    project: DockerProject,
) -> None:
    container, wait = started(project, f"import time; time.sleep({3 * GRACE_S})")
    assert wait.status() == 0
    assert project.daemon.inspect_container(container)["State"]["ExitCode"] == 0
    assert all_removed(project)


def test_whoever_reads_the_log_of_a_container_that_runs_does_not_keep_it(project: DockerProject) -> None:
    container = create(project)
    project.proxy.call("POST", f"/containers/{container}/start")
    assert project.proxy.call("GET", logs(container, follow=1)) == (
        200,
        "",
    )  # the wait lasts until the container ends
    assert all_removed(project)
    assert why_ended(project, container) == "nobody waits for it"


def test_whoever_reads_the_log_of_a_container_that_has_ended_keeps_it(project: DockerProject) -> None:
    container, wait = started(project, "for _ in range(20_000): print('x' * 1000)")
    with socket.create_connection(("127.0.0.1", project.proxy.port), timeout=60) as reader:
        assert wait.status() == 0
        reader.sendall(f"GET {logs(container, follow=0)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert reader.recv(12) == b"HTTP/1.1 200"
        time.sleep(3 * GRACE_S)
        assert [one["Id"] for one in project.containers()] == [container]
    assert all_removed(project)


def logs(container: str, follow: int) -> str:
    return f"/containers/{container}/logs?stdout=1&stderr=1&timestamps=1&follow={follow}"


def test_a_container_that_has_ended_keeps_its_grace_when_a_wait_is_given_up(project: DockerProject) -> None:
    container, wait = started(project, "print('said')")
    assert wait.status() == 0
    late = project.proxy.wait(container)
    late.give_up()
    assert all_removed(project)
    assert container not in logged_event(project, "abandoned")
    assert why_ended(project, container) == "nobody waits for it"


@pytest.mark.parametrize("kill", [False, True])
def test_a_restart_of_the_proxy_ends_only_what_nobody_waits_for_again(
    project: DockerProject, kill: bool
) -> None:
    (renewed, first), (abandoned, second) = started(project), started(project)
    project.proxy.end(kill=kill)
    for broken in (first, second):
        with pytest.raises((OSError, HTTPException)):
            broken.status()
    assert {one["State"] for one in project.containers()} == {"running"}
    project.proxy.start()
    again = project.proxy.wait(renewed)
    assert only(project, renewed)
    assert project.daemon.inspect_container(renewed)["State"]["Running"]
    again.give_up()
    assert all_removed(project)
    assert why_ended(project, abandoned) == "nobody waits for it"


def test_what_is_being_ended_when_the_proxy_ends_is_ended(project: DockerProject) -> None:
    container, wait = started(project, DEAF)  # so that stopping takes a while
    assert eventually(lambda: project.daemon.logs(container) == b"deaf\n", 60)
    wait.give_up()
    assert eventually(lambda: container in logged_event(project, "abandoned"), 60)
    project.proxy.end()
    remaining = project.containers()
    project.proxy.start()
    assert remaining == []


def test_a_container_of_another_project_is_let_live(project: DockerProject) -> None:
    foreign = project.daemon.create_container(
        project.image, ["sleep", "1000"], labels={"fraud.project": "other"}
    )
    try:
        project.daemon.start(foreign["Id"])
        create(project)
        assert all_removed(project)
        assert project.daemon.inspect_container(foreign["Id"])["State"]["Running"]
    finally:
        project.daemon.remove_container(foreign["Id"], force=True)


def test_a_daemon_that_does_not_answer_is_told_of(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "none")
    proxy = Proxy(tmp_path / "log", PROXY_IMAGES="one:1", DOCKER_SOCKET=nowhere)
    status, answer = proxy.call("GET", "/_ping")
    proxy.end()
    assert status == 502
    assert answer["message"].startswith("The Docker daemon does not answer")
    assert any(line["event"] == "cannot_look" for line in proxy.log())
