"""Starts the platform's programs by `fork` from a process that has already imported what they need.

Such a process has its own arguments, environment, directory, streams, signals and exit code. It differs from
a process started by a shell only in its parent and in skipping the interpreter's start; tests of the command
line itself use `subprocess`.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from threading import Lock
from typing import IO, Any, Final, Self

ROOT: Final = Path(__file__).parents[2]
# What takes the longest of the imports that a program leaves to its verbs. ONNX Runtime is not among them: it
# starts a thread, which no fork copies.
_API: Final = (
    *("fraud_adapters.columnar", "fraud_adapters.kafka", "fraud_adapters.models.registry"),
    *("fraud_api.access", "fraud_api.openapi", "granian", "xgboost"),
)
LATER: Final = {
    "fraud_api": _API,
    "tests.integration.changed_api": _API,
    "tests.support.executed": (
        *("fraud_adapters.job", "fraud_adapters.postgres"),
        *("fraud_embedded.__main__", "fraud_embedded.demo"),
    ),
}
# Programs that start a thread when they are imported, and the imports of theirs that take longest instead.
INSTEAD: Final = {
    "fraud_trainer": (
        *("fraud_adapters.models.registry_writer", "fraud_adapters.models.tracked_runs"),
        *("fraud_adapters.objectstore.run_store", "fraud_adapters.postgres.examples"),
        "fraud_trainer.load.loading",
        *("mlflow", "matplotlib.figure", "matplotlib.backends.backend_svg", "scipy.optimize"),
    ),
}
_MOST: Final = 2**20  # maximum size of an order in bytes; it contains an environment


class Process:
    """A started program; members also found in `subprocess.Popen` behave the same."""

    def __init__(
        self, command: Sequence[str], pid: int, status: IO[str], pipes: Mapping[str, IO[Any] | None]
    ) -> None:
        self.args = list(command)
        self.pid = pid
        self.returncode: int | None = None
        self.stdin, self.stdout, self.stderr = pipes["stdin"], pipes["stdout"], pipes["stderr"]
        self._status = status
        self._lock = Lock()

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code as soon as it has ended.

        Raises:
            subprocess.TimeoutExpired: it is still running after that many seconds.
        """
        if (code := self._ended(timeout)) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send the signal; ignored if the process has already ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:  # noqa: A002
        """Wait for the end of the process; returns what it wrote to its pipes.

        Raises:
            subprocess.TimeoutExpired: it is still running after that many seconds.
        """
        with ThreadPoolExecutor(3) as executor:
            if self.stdin is not None:
                executor.submit(self._feed, input)
            outputs = [executor.submit(pipe.read) if pipe else None for pipe in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            out, errors = (output.result() if output else None for output in outputs)
        for pipe in (self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()
        return out, errors

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()
        self.wait()

    def _feed(self, content: Any) -> None:
        assert self.stdin is not None
        with suppress(BrokenPipeError), self.stdin:
            if content is not None:
                self.stdin.write(content)

    def _ended(self, seconds: float | None) -> int | None:
        with self._lock:
            if self.returncode is None and _readable(self._status, seconds):
                with self._status:
                    line = self._status.readline()
                assert line, "the fork server has ended before its children"
                self.returncode = int(line)
            return self.returncode


def start(
    module: str,
    *arguments: str,
    env: Mapping[str, str],
    cwd: Path = ROOT,
    stdin: int | IO[Any] | None = subprocess.DEVNULL,
    stdout: int | IO[Any] | None = None,
    stderr: int | IO[Any] | None = None,
    text: bool = False,
) -> Process:
    """Start `python -m module arguments…`; other parameters are those of `subprocess.Popen`."""
    order = {"module": module, "arguments": arguments, "env": dict(env), "cwd": str(cwd)}
    with ExitStack() as opened:
        parent_streams: dict[str, IO[Any] | None] = {}
        child_streams: dict[str, int] = {}
        for name, stream in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
            if stream == subprocess.STDOUT:
                child_streams[name], parent_streams[name] = child_streams["stdout"], None
                continue
            child_streams[name], parent_streams[name] = _stream(name, stream, opened, text=text)
        status, reported = os.pipe()
        opened.callback(os.close, reported)
        _server()(order, [*child_streams.values(), reported])
    lines = os.fdopen(status)
    first = lines.readline()
    assert first, f"the fork server could not start {module}"
    return Process([sys.executable, "-m", module, *arguments], int(first), lines, parent_streams)


def run(
    module: str,
    *arguments: str,
    env: Mapping[str, str],
    cwd: Path = ROOT,
    text: bool = True,
    timeout: float = 90,
) -> subprocess.CompletedProcess[Any]:
    """Run `python -m module arguments…` to its end and capture its output."""
    pipe = subprocess.PIPE
    with start(module, *arguments, env=env, cwd=cwd, stdout=pipe, stderr=pipe, text=text) as process:
        out, errors = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.wait(), out, errors)


def _stream(
    name: str, stream: int | IO[Any] | None, opened: ExitStack, *, text: bool
) -> tuple[int, IO[Any] | None]:
    """The child's file descriptor, and the parent's stream if it is a pipe."""
    number = ("stdin", "stdout", "stderr").index(name)
    if stream is None:
        return number, None
    if stream == subprocess.DEVNULL:
        descriptor = os.open(os.devnull, os.O_RDWR)
        opened.callback(os.close, descriptor)
        return descriptor, None
    if stream != subprocess.PIPE:
        return stream if isinstance(stream, int) else stream.fileno(), None
    reading, writing = os.pipe()
    child_end, parent_end = (reading, writing) if name == "stdin" else (writing, reading)
    opened.callback(os.close, child_end)
    mode = ("w" if name == "stdin" else "r") + ("" if text else "b")
    return child_end, os.fdopen(parent_end, mode)


def _readable(stream: IO[Any], seconds: float | None) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        return bool(selector.select(seconds))


@cache
def _server() -> Callable[[Mapping[str, Any], Sequence[int]], None]:
    """Sends orders to the fork server, which is started on first use and stopped at exit."""
    parent_end, child_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent_end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST)
    inherited = ("PATH", "HOME", "LANG", "TMPDIR", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    environment = {name: os.environ[name] for name in inherited if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *(path for path in sys.path if path)])
    # The fork server must have one thread only, because `fork` copies no others.
    environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    environment["JE_ARROW_MALLOC_CONF"] = "background_thread:false"
    with child_end:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forked", str(child_end.fileno())],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            pass_fds=[child_end.fileno()],
        )
    lock = Lock()

    def end() -> None:
        parent_end.close()
        process.wait(30)

    def send(order: Mapping[str, Any], descriptors: Sequence[int]) -> None:
        with lock:
            socket.send_fds(parent_end, [json.dumps(order).encode()], descriptors)

    atexit.register(end)
    return send


# --- the server's side ----------------------------------------------------------------------------


def serve(orders: socket.socket) -> None:
    """Serve orders until the socket is closed; then kill all remaining children."""
    # XGBoost would import it, which takes three seconds; the programs do not need it either.
    sys.modules["sklearn"] = None  # type: ignore[assignment]
    children: dict[
        int, tuple[int, int]
    ] = {}  # pidfd → pid, and the descriptor that the exit code is written to
    events = selectors.DefaultSelector()
    events.register(orders, selectors.EVENT_READ)
    while True:
        for key, _ in events.select():
            if key.fileobj is not orders:
                events.unregister(key.fd)
                pid, reported = children.pop(key.fd)
                os.close(key.fd)
                _report(reported, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                os.close(reported)
                continue
            message, descriptors, _, _ = socket.recv_fds(orders, _MOST, 4)
            if not message:
                for child in children:
                    signal.pidfd_send_signal(child, signal.SIGKILL)
                return
            order = json.loads(message)
            *streams, reported = descriptors
            _import(order["module"])
            gc.freeze()
            pid = os.fork()
            if not pid:
                _become(order, streams)
                return
            for descriptor in streams:
                os.close(descriptor)
            child = os.pidfd_open(pid)
            children[child] = pid, reported
            events.register(child, selectors.EVENT_READ)
            _report(reported, pid)


@cache
def _import(module: str) -> None:
    """Import the module for the sake of its imports."""
    for name in INSTEAD.get(module, (f"{module}.__main__", *LATER.get(module, ()))):
        with suppress(ModuleNotFoundError):
            importlib.import_module(name)
    if (threads := len(list(Path("/proc/self/task").iterdir()))) > 1:
        # Its locks would be held for ever in the child, now and then.
        raise SystemExit(f"{threads - 1} threads were started by importing {module}: no fork copies them")


def _become(order: Mapping[str, Any], streams: Sequence[int]) -> None:
    """Run the program; an uncaught exception ends this process as it would end the program."""
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    os.closerange(3, max(256, *streams) + 1)
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    os.chdir(order["cwd"])
    module = order["module"]
    sys.argv = [module, *order["arguments"]]
    # The module is executed again as `__main__`; its package stays imported.
    for name in (module, f"{module}.__main__"):
        if not hasattr(sys.modules.get(name), "__path__"):
            sys.modules.pop(name, None)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _report(descriptor: int, number: int) -> None:
    with suppress(BrokenPipeError):
        os.write(descriptor, f"{number}\n".encode())


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
