"""Controls the supervisor that keeps the servers running.

Its control socket is in a directory that only the current user can enter.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from supervisor.xmlrpc import SupervisorTransport

from fraud_embedded.installation import Layout
from fraud_embedded.processes import child
from fraud_embedded.processes.process import ProcessSpec, StartFailed, base_environment, tail, wait_ready
from fraud_embedded.servers import airflow, broker
from fraud_launcher import paths
from fraud_launcher.private_files import write_private

_UP: Final = {"STARTING", "RUNNING", "BACKOFF", "STOPPING"}
_HEAD: Final = """\
[unix_http_server]
file=%(ENV_FRAUD_RUN)s/s.sock
chmod=0700

[supervisord]
logfile=supervisor.log
logfile_maxbytes=5MB
logfile_backups=1
pidfile=%(ENV_FRAUD_RUN)s/supervisor.pid
childlogdir=.
minfds=1024
umask=077
{user}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
_PROGRAM: Final = """
[program:{name}]
command="%(ENV_FRAUD_PYTHON)s" -I "%(ENV_FRAUD_CHILD)s" {name}
priority={priority}
autostart=false
autorestart=true
startsecs=2
startretries=10
stopsignal={stop_signal}
stopwaitsecs={stop_seconds:.0f}
stopasgroup={as_group}
killasgroup=true
redirect_stderr=true
stdout_logfile={name}.log
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=2
"""


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What the supervisor says about one server."""

    name: str
    state: str
    pid: int
    since: int  # seconds since 1970
    description: str

    @property
    def up(self) -> bool:
        return self.state in _UP


class Supervisor:
    """The supervisor of one installation; it runs on when we end."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def log(self, name: str) -> Path:
        return self._layout.logs / f"{name}.log"

    def running(self) -> bool:
        """Whether there is a supervisor that answers."""
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(paths.supervisor_socket(self._layout.local)))
            self._call("getState")
        except (OSError, xmlrpc.client.Error):
            return False
        return True

    def launch(self, specs: Iterable[ProcessSpec]) -> None:
        """Start the supervisor, with every server known and none started.

        Raises:
            StartFailed: it does not answer.
        """
        servers = list(specs)
        self.end_orphans(spec.name for spec in servers)
        for spec in servers:
            self.write(spec)
        config = self._layout.run / "supervisord.conf"
        config.write_text(_configuration(servers), encoding="utf-8")
        environment = base_environment() | {
            "FRAUD_RUN": str(self._layout.run),
            "FRAUD_PYTHON": sys.executable,
            "FRAUD_CHILD": child.__file__,
        }
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)]
        # Log files are named relative to the working directory: their paths would be expanded twice.
        done = subprocess.run(
            command, cwd=self._layout.logs, env=environment, capture_output=True, text=True, check=False
        )
        deadline = time.monotonic() + 20
        while not self.running():
            if done.returncode or time.monotonic() > deadline:
                raise StartFailed(
                    f"supervisor did not start.\n{done.stdout}{done.stderr}{tail(self.log('supervisor'))}"
                )
            time.sleep(0.05)

    def write(self, spec: ProcessSpec) -> None:
        """Write what `child` starts; only we may read it."""
        document = {"argv": spec.argv, "cwd": str(spec.cwd), "env": spec.environment(), "user": spec.user}
        write_private(self._layout.run / f"{spec.name}.json", json.dumps(document))

    def start(self, name: str) -> None:
        """Start a server unless it is started; does not wait until it is ready."""
        if not self.state(name).up:
            self._call("startProcess", name, False)

    def stop(self, name: str) -> None:
        """Stop a server, if it runs, and wait until it has ended."""
        if self.state(name).up:
            self._call("stopProcess", name, True)

    def wait(self, spec: ProcessSpec, timeout_s: float) -> None:
        """Return as soon as the server answers.

        Raises:
            StartFailed: it ended or is not ready in time.
        """
        attempts = _Restarts(self, spec.name)
        wait_ready(spec, attempts.alive, self.log(spec.name), timeout_s)

    def state(self, name: str) -> ProcessState:
        return _state(self._call("getProcessInfo", name))

    def states(self) -> list[ProcessState]:
        return [_state(info) for info in self._call("getAllProcessInfo")]

    def shut_down(self, patience_s: float = 90) -> None:
        """Stop every server in the reverse order of their dependencies, then the supervisor."""
        pid = self._call("getPID")
        for info in sorted(self.states(), key=lambda state: _ORDER.get(state.name, 0), reverse=True):
            if info.up:
                with contextlib.suppress(xmlrpc.client.Fault):
                    self._call("stopProcess", info.name, True)
        self._call("shutdown")
        deadline = time.monotonic() + patience_s
        while _exists(pid):
            if time.monotonic() > deadline:
                raise StartFailed(f"The supervisor (process {pid}) does not end.")
            time.sleep(0.1)

    def end_orphans(self, names: Iterable[str]) -> None:
        """End servers whose supervisor was killed: they would hold the ports and the data."""
        for name in names:
            pid_file = self._layout.run / f"{name}.pid"
            try:
                pid = int(pid_file.read_text("ascii"))
                argv = json.loads((self._layout.run / f"{name}.json").read_text("utf-8"))["argv"]
            except (OSError, ValueError, KeyError):
                continue
            if _command_line(pid) == argv:
                _end(pid)
            pid_file.unlink(missing_ok=True)

    def _call(self, method: str, *arguments: Any) -> Any:
        # One connection a call: they come from several threads.
        transport = SupervisorTransport(None, None, f"unix://{paths.supervisor_socket(self._layout.local)}")
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as server:
            return getattr(server.supervisor, method)(*arguments)


class _Restarts:
    """Distinguishes a server that keeps ending from one that starts slowly."""

    def __init__(self, supervisor: Supervisor, name: str) -> None:
        self._supervisor = supervisor
        self._name = name
        self._pids: set[int] = set()

    def alive(self) -> bool:
        state = self._supervisor.state(self._name)
        if state.pid:
            self._pids.add(state.pid)
        return state.up and len(self._pids) <= 2


# Servers in the order they depend on each other; they are stopped in reverse.
NAMES: Final = (
    *("objectstore", "postgres", "broker", broker.TRIM, "mlflow", "api", "gateway", "api-canary", "audit"),
    "follower",
    *airflow.NAMES,
    "overview",
)
_ORDER: Final = {name: number for number, name in enumerate(NAMES, start=1)}


def _configuration(specs: Iterable[ProcessSpec]) -> str:
    # Without an explicit user, the supervisor warns that it runs as root.
    head = _HEAD.format(user="user=root\n" if os.geteuid() == 0 else "")
    programs = [
        _PROGRAM.format(
            name=spec.name,
            priority=_ORDER.get(spec.name, 0),
            stop_signal=spec.stop_signal.name.removeprefix("SIG"),
            stop_seconds=spec.stop_seconds,
            as_group="true" if spec.stop_group else "false",
        )
        for spec in specs
    ]
    return head + "".join(programs)


def _state(info: dict[str, Any]) -> ProcessState:
    return ProcessState(info["name"], info["statename"], info["pid"], info["start"], info["description"])


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _command_line(pid: int) -> list[str]:
    if Path("/proc/self/cmdline").exists():
        try:
            raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return []
        return os.fsdecode(raw).rstrip("\0").split("\0")
    return []


def _end(pid: int) -> None:
    for signal_number, patience_s in ((signal.SIGINT, 15), (signal.SIGKILL, 5)):
        try:
            os.kill(pid, signal_number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if not _exists(pid):
                return
            time.sleep(0.1)
