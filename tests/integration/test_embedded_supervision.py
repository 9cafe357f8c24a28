"""The supervisor with real processes: restarts, failures, orphans, awkward paths, private files."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from fraud_embedded.installation import Layout
from fraud_embedded.processes.ports import free_ports
from fraud_embedded.processes.probes import tcp_open
from fraud_embedded.processes.process import ProcessSpec, StartFailed
from fraud_embedded.processes.supervision import Supervisor

LISTEN = """
import os, socket, sys, time
listener = socket.socket(); listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1]))); listener.listen()
print("listening", os.environ["SECRET"], sorted(os.environ), flush=True)
time.sleep(600)
"""


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    awkward = tmp_path / "with space, 100% ; and 'quote'"
    awkward.mkdir()
    new_layout = Layout(awkward, awkward / ".local")
    new_layout.make()
    yield new_layout
    # The path being long, its sockets lie elsewhere.
    shutil.rmtree(new_layout.run, ignore_errors=True)


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def spec(layout: Layout, port: int) -> ProcessSpec:
    return ProcessSpec(
        name="listener",
        argv=(sys.executable, "-c", LISTEN, str(port)),
        cwd=layout.root,
        env={"SECRET": "p%%s;'\" #"},
        ready=lambda: tcp_open(port),
        stop_seconds=2,
    )


@pytest.fixture
def supervisor(layout: Layout) -> Iterator[Supervisor]:
    running = Supervisor(layout)
    yield running
    if running.running():
        running.shut_down()
    running.end_orphans(["listener"])


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def test_a_server_is_started_restarted_and_stopped(
    supervisor: Supervisor, spec: ProcessSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("MY_TOKEN", "not for servers")
    assert not supervisor.running()
    supervisor.launch([spec])
    assert not supervisor.state("listener").up
    supervisor.start("listener")
    supervisor.wait(spec, 20)
    supervisor.start("listener")
    first = supervisor.state("listener").pid
    os.kill(first, signal.SIGKILL)
    until(lambda: supervisor.state("listener").pid not in (0, first))
    supervisor.wait(spec, 20)
    log = supervisor.log("listener").read_text()
    assert "p%%s;'\" #" in log
    assert "MY_TOKEN" not in log
    assert "HTTP_PROXY" not in log
    supervisor.stop("listener")
    supervisor.stop("listener")
    assert not supervisor.state("listener").up
    assert not tcp_open(int(spec.argv[-1]))
    supervisor.start("listener")
    supervisor.wait(spec, 20)
    last = supervisor.state("listener").pid
    supervisor.shut_down()
    assert not supervisor.running()
    assert not psutil.pid_exists(last)


def test_files_with_secrets_are_private(supervisor: Supervisor, spec: ProcessSpec, layout: Layout) -> None:
    supervisor.launch([spec])
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in layout.run.iterdir()}
    assert modes["listener.json"] == 0o600
    assert modes["s.sock"] == 0o700
    assert stat.S_IMODE(layout.run.stat().st_mode) == 0o700
    assert spec.env["SECRET"] not in (layout.run / "supervisord.conf").read_text()


def test_a_server_that_ends_is_named_with_the_end_of_its_log(
    supervisor: Supervisor, spec: ProcessSpec, layout: Layout, port: int
) -> None:
    broken = ProcessSpec(
        name="listener",
        argv=(sys.executable, "-c", "import sys; sys.exit('the disk is on fire')"),
        cwd=layout.root,
        ready=lambda: tcp_open(port),
    )
    supervisor.launch([broken])
    supervisor.start("listener")
    with pytest.raises(StartFailed, match=r"(?s)^listener ended while starting.*the disk is on fire"):
        supervisor.wait(broken, 30)


def test_a_server_that_never_answers_is_given_up(
    supervisor: Supervisor, spec: ProcessSpec, layout: Layout
) -> None:
    silent = ProcessSpec(
        name="listener",
        argv=(sys.executable, "-c", "import time; time.sleep(600)"),
        cwd=layout.root,
        ready=lambda: False,
        stop_seconds=2,
    )
    supervisor.launch([silent])
    supervisor.start("listener")
    with pytest.raises(StartFailed, match="listener was not ready after 1 s"):
        supervisor.wait(silent, 1)


def test_servers_whose_supervisor_was_killed_are_ended_at_the_next_start(
    supervisor: Supervisor, spec: ProcessSpec, layout: Layout, port: int
) -> None:
    supervisor.launch([spec])
    supervisor.start("listener")
    supervisor.wait(spec, 20)
    orphan = supervisor.state("listener").pid
    os.kill(int((layout.run / "supervisor.pid").read_text()), signal.SIGKILL)
    until(lambda: not supervisor.running())
    assert tcp_open(port)
    supervisor.launch([spec])
    assert not psutil.pid_exists(orphan)
    supervisor.start("listener")
    supervisor.wait(spec, 20)


def test_a_process_that_only_has_the_orphans_number_is_left_alone(
    supervisor: Supervisor, spec: ProcessSpec, layout: Layout
) -> None:
    supervisor.write(spec)
    (layout.run / "listener.pid").write_text(str(os.getpid()))
    supervisor.end_orphans(["listener"])
    assert not (layout.run / "listener.pid").exists()
