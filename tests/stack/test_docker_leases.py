"""How long the docker-proxy lets a container live: as long as somebody waits for it."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

import pytest

from tests.stack.docker_site import Proxy, Site, Wait, job_image, site
from tests.support.waiting import eventually

SLEEP: Final = "import time; time.sleep(1000)"
DEAF: Final = "import signal; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
GRACE_S: Final = 2.0


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with job_image() as image, site(tmp_path_factory.mktemp("proxy"), image, GRACE_S) as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_is_left(here: Site) -> Iterator[None]:
    yield
    assert here.containers() == []


def create(here: Site, source: str = SLEEP) -> str:
    path = f"/containers/create?name=fraud-job-{secrets.token_hex(6)}"
    status, answer = here.proxy.call("POST", path, here.body(source))
    assert status == 201, answer
    return str(answer["Id"])


def started(here: Site, source: str = SLEEP) -> tuple[str, Wait]:
    container = create(here, source)
    wait = here.proxy.wait(container)
    assert here.proxy.call("POST", f"/containers/{container}/start")[0] == 204
    return container, wait


def gone(here: Site) -> bool:
    return eventually(lambda: not here.containers(), 60)


def only(here: Site, container: str) -> bool:
    return eventually(lambda: [one["Id"] for one in here.containers()] == [container], 60)


def said(here: Site, event: str) -> dict[str, Any]:
    return {line["id"]: line.get("reason") for line in here.proxy.log() if line["event"] == event}


def why_ended(here: Site, container: str) -> Any:
    """What the proxy says once it has removed a container, which is gone a moment earlier."""
    assert eventually(lambda: container in said(here, "ended"), 60)
    return said(here, "ended")[container]


def test_a_container_goes_with_whoever_waited_for_it_and_no_other(here: Site) -> None:
    container, wait = started(here)
    other, other_wait = started(here)
    wait.give_up()
    assert only(here, other)
    assert here.daemon.inspect_container(other)["State"]["Running"]
    other_wait.give_up()
    assert gone(here)
    assert why_ended(here, container) == "whoever waited for it is gone"


def test_a_container_that_does_not_listen_goes_too(here: Site) -> None:
    container, wait = started(here, DEAF)
    assert eventually(lambda: here.daemon.logs(container) == b"deaf\n", 60)
    wait.give_up()
    assert gone(here)


def test_a_container_two_wait_for_outlives_one_of_them(here: Site) -> None:
    container, wait = started(here)
    second = here.proxy.wait(container)
    _, other_wait = started(here)
    wait.give_up()
    other_wait.give_up()
    assert only(here, container), "the one that was given up later is gone"
    assert here.daemon.inspect_container(container)["State"]["Running"]
    second.give_up()
    assert gone(here)


def test_a_container_nobody_ever_waits_for_goes_after_the_grace(here: Site) -> None:
    one, two = create(here), create(here)
    here.proxy.call("POST", f"/containers/{two}/start")
    assert gone(here)
    assert why_ended(here, one) == why_ended(here, two) == "nobody waits for it"


def test_a_container_that_is_waited_for_outlives_the_grace_and_then_its_remains_go(here: Site) -> None:
    container, wait = started(here, f"import time; time.sleep({3 * GRACE_S})")
    assert wait.status() == 0
    assert here.daemon.inspect_container(container)["State"]["ExitCode"] == 0
    assert gone(here)


def test_whoever_reads_the_log_of_a_container_that_runs_does_not_keep_it(here: Site) -> None:
    container = create(here)
    here.proxy.call("POST", f"/containers/{container}/start")
    assert here.proxy.call("GET", logs(container, follow=1)) == (200, "")  # it lasts until the container ends
    assert gone(here)
    assert why_ended(here, container) == "nobody waits for it"


def test_whoever_reads_the_log_of_a_container_that_has_ended_keeps_it(here: Site) -> None:
    container, wait = started(here, "for _ in range(20_000): print('x' * 1000)")
    with socket.create_connection(("127.0.0.1", here.proxy.port), timeout=60) as reader:
        assert wait.status() == 0
        reader.sendall(f"GET {logs(container, follow=0)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert reader.recv(12) == b"HTTP/1.1 200"
        time.sleep(3 * GRACE_S)
        assert [one["Id"] for one in here.containers()] == [container]
    assert gone(here)


def logs(container: str, follow: int) -> str:
    return f"/containers/{container}/logs?stdout=1&stderr=1&timestamps=1&follow={follow}"


def test_a_container_that_has_ended_keeps_its_grace_when_a_wait_is_given_up(here: Site) -> None:
    container, wait = started(here, "print('said')")
    assert wait.status() == 0
    late = here.proxy.wait(container)
    late.give_up()
    assert gone(here)
    assert container not in said(here, "abandoned")
    assert why_ended(here, container) == "nobody waits for it"


@pytest.mark.parametrize("kill", [False, True])
def test_a_restart_of_the_proxy_ends_only_what_nobody_waits_for_again(here: Site, kill: bool) -> None:
    (kept, first), (left, second) = started(here), started(here)
    here.proxy.end(kill=kill)
    for broken in (first, second):
        with pytest.raises((OSError, HTTPException)):
            broken.status()
    assert {one["State"] for one in here.containers()} == {"running"}
    here.proxy.start()
    again = here.proxy.wait(kept)
    assert only(here, kept)
    assert here.daemon.inspect_container(kept)["State"]["Running"]
    again.give_up()
    assert gone(here)
    assert why_ended(here, left) == "nobody waits for it"


def test_what_is_being_ended_when_the_proxy_ends_is_ended(here: Site) -> None:
    container, wait = started(here, DEAF)  # so that it takes a while
    assert eventually(lambda: here.daemon.logs(container) == b"deaf\n", 60)
    wait.give_up()
    assert eventually(lambda: container in said(here, "abandoned"), 60)
    here.proxy.end()
    left = here.containers()
    here.proxy.start()
    assert left == []


def test_a_container_of_another_project_is_let_live(here: Site) -> None:
    foreign = here.daemon.create_container(here.image, ["sleep", "1000"], labels={"fraud.project": "other"})
    try:
        here.daemon.start(foreign["Id"])
        create(here)
        assert gone(here)
        assert here.daemon.inspect_container(foreign["Id"])["State"]["Running"]
    finally:
        here.daemon.remove_container(foreign["Id"], force=True)


def test_a_daemon_that_does_not_answer_is_told_of(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "none")
    proxy = Proxy(tmp_path / "log", PROXY_IMAGES="one:1", DOCKER_SOCKET=nowhere)
    status, answer = proxy.call("GET", "/_ping")
    proxy.end()
    assert status == 502
    assert answer["message"].startswith("The Docker daemon does not answer")
    assert any(line["event"] == "cannot_look" for line in proxy.log())
