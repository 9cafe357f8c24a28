"""What a server needs to run, and running one in the foreground of a test or a tool."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from config import constants

# What a child may see of our own environment: no proxy, no credentials, no Python settings.
_PASSED_ON: Final = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE")

Probe = Callable[[], bool]


class StartFailed(Exception):
    """A server did not become ready; the message names it and ends with the end of its log."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One server: how to start it, as whom, and how to tell that it is ready."""

    name: str
    argv: tuple[str, ...]
    cwd: Path
    ready: Probe
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10
    stop_group: bool = True  # whether its children are told too; those that tell them themselves are not

    def environment(self) -> dict[str, str]:
        """The whole environment of the process."""
        return base_environment(self.user) | dict(self.env)


def base_environment(user: str | None = None) -> dict[str, str]:
    """What every child gets, whatever our own environment holds."""
    env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    if sys.prefix == sys.base_prefix and "PYTHONPATH" in os.environ:
        # Without a venv the launcher says by this variable where the packages are.
        env["PYTHONPATH"] = os.environ["PYTHONPATH"]
    if user is not None:
        env |= {"HOME": pwd.getpwnam(user).pw_dir, "USER": user, "LOGNAME": user}
    return env | constants.PROCESS_ENVIRONMENT


def wait_ready(
    spec: ProcessSpec, alive: Callable[[], bool], log: Path, timeout_s: float, interval_s: float = 0.1
) -> None:
    """Return as soon as the server answers.

    Raises:
        StartFailed: it ended, or `timeout_s` is over.
    """
    deadline = time.monotonic() + timeout_s
    while not spec.ready():
        if not alive():
            raise StartFailed(f"{spec.name} ended while starting.\n{tail(log)}")
        if time.monotonic() > deadline:
            raise StartFailed(f"{spec.name} was not ready after {timeout_s:.0f} s.\n{tail(log)}")
        time.sleep(interval_s)


def run_logged(argv: Sequence[str], cwd: Path, env: Mapping[str, str], log: Path) -> int:
    """Run a command to its end, both its outputs added to a log; its exit code."""
    with log.open("ab") as output:
        return subprocess.run(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode


def tail(log: Path, lines: int = 25) -> str:
    """The last lines of a log, each shortened to what a terminal can show."""
    try:
        text = log.read_text("utf-8", errors="replace")
    except OSError:
        return f"(there is no log {log})"
    last = [line[:400] for line in text.splitlines()[-lines:]]
    return "\n".join([f"--- end of {log}", *last]) if last else f"({log} is empty)"


class Running:
    """A server started as our own child, in its own process group."""

    def __init__(self, spec: ProcessSpec, log: Path) -> None:
        self.spec = spec
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                spec.argv,
                cwd=spec.cwd,
                env=spec.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=spec.user,
                group=pwd.getpwnam(spec.user).pw_gid if spec.user else None,
                extra_groups=() if spec.user else None,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self, timeout_s: float = 60) -> None:
        """See `wait_ready`."""
        wait_ready(self.spec, lambda: self._process.poll() is None, self._log, timeout_s)

    def stop(self, patience_s: float | None = None) -> None:
        """Ask the server to end, then end what is left of its group; safe to repeat."""
        if self._process.poll() is None:
            self._process.send_signal(self.spec.stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(self.spec.stop_seconds if patience_s is None else patience_s)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
