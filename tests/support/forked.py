"""Programs of ours by `fork` from a process that has imported what they need: they start at once.

What is started is a process like any other: arguments, environment, directory, streams, signals and exit code
are its own. Only its parent differs, and that the interpreter's own start is not part of it; tests of the
command line itself use `subprocess`.
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
    "tests.support.executed": ("fraud_adapters.job", "fraud_adapters.postgres"),
}
_MOST: Final = 2**20  # bytes of an order, which holds an environment


class Process:
    """A started program; what it has in common with `subprocess.Popen` means the same."""

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
            subprocess.TimeoutExpired: it has not within so many seconds.
        """
        if (code := self._ended(timeout)) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Nothing happens where it has ended already."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:  # noqa: A002
        """What it wrote to its pipes, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not within so many seconds.
        """
        with ThreadPoolExecutor(3) as beside:
            if self.stdin is not None:
                beside.submit(self._feed, input)
            outputs = [beside.submit(pipe.read) if pipe else None for pipe in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            out, errors = (output.result() if output else None for output in outputs)
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
    """Start `python -m module arguments…`; the rest as for `subprocess.Popen`."""
    order = {"module": module, "arguments": arguments, "env": dict(env), "cwd": str(cwd)}
    with ExitStack() as opened:
        ours: dict[str, IO[Any] | None] = {}
        theirs: dict[str, int] = {}
        for name, given in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
            if given == subprocess.STDOUT:
                theirs[name], ours[name] = theirs["stdout"], None
                continue
            theirs[name], ours[name] = _stream(name, given, opened, text=text)
        status, reported = os.pipe()
        opened.callback(os.close, reported)
        _server()(order, [*theirs.values(), reported])
    lines = os.fdopen(status)
    first = lines.readline()
    assert first, f"the fork server could not start {module}"
    return Process([sys.executable, "-m", module, *arguments], int(first), lines, ours)


def run(
    module: str,
    *arguments: str,
    env: Mapping[str, str],
    cwd: Path = ROOT,
    text: bool = True,
    timeout: float = 90,
) -> subprocess.CompletedProcess[Any]:
    """Run `python -m module arguments…` to its end and keep what it writes."""
    pipe = subprocess.PIPE
    with start(module, *arguments, env=env, cwd=cwd, stdout=pipe, stderr=pipe, text=text) as process:
        out, errors = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.wait(), out, errors)


def _stream(
    name: str, given: int | IO[Any] | None, opened: ExitStack, *, text: bool
) -> tuple[int, IO[Any] | None]:
    """The child's end, and ours where it is a pipe."""
    number = ("stdin", "stdout", "stderr").index(name)
    if given is None:
        return number, None
    if given == subprocess.DEVNULL:
        descriptor = os.open(os.devnull, os.O_RDWR)
        opened.callback(os.close, descriptor)
        return descriptor, None
    if given != subprocess.PIPE:
        return given if isinstance(given, int) else given.fileno(), None
    reading, writing = os.pipe()
    theirs, ours = (reading, writing) if name == "stdin" else (writing, reading)
    opened.callback(os.close, theirs)
    mode = ("w" if name == "stdin" else "r") + ("" if text else "b")
    return theirs, os.fdopen(ours, mode)


def _readable(stream: IO[Any], seconds: float | None) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        return bool(selector.select(seconds))


@cache
def _server() -> Callable[[Mapping[str, Any], Sequence[int]], None]:
    """Takes orders; its process is started at the first and ends with ours."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST)
    kept = ("PATH", "HOME", "LANG", "TMPDIR")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *(path for path in sys.path if path)])
    # One thread in all: a fork copies no other.
    environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    environment["JE_ARROW_MALLOC_CONF"] = "background_thread:false"
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forked", str(theirs.fileno())],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
    lock = Lock()

    def end() -> None:
        ours.close()
        process.wait(30)

    def send(order: Mapping[str, Any], descriptors: Sequence[int]) -> None:
        with lock:
            socket.send_fds(ours, [json.dumps(order).encode()], descriptors)

    atexit.register(end)
    return send


# --- the server's side ----------------------------------------------------------------------------


def serve(orders: socket.socket) -> None:
    """Until nobody can send an order any more; then every child that is left is killed."""
    # XGBoost would import it, and three seconds with it; the programs do without as well.
    sys.modules["sklearn"] = None  # type: ignore[assignment]
    children: dict[int, tuple[int, int]] = {}  # pidfd → pid and where its exit code goes
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
    """Import what the module will import; a program that must not be imported has no effect but that."""
    for name in (f"{module}.__main__", *LATER.get(module, ())):
        with suppress(ModuleNotFoundError):
            importlib.import_module(name)
    if (threads := len(os.listdir("/proc/self/task"))) > 1:
        # Its locks would be held for ever in the child, now and then.
        raise SystemExit(f"{threads - 1} threads were started by importing {module}: no fork copies them")


def _become(order: Mapping[str, Any], streams: Sequence[int]) -> None:
    """Be the program, to its end; an exception leaves this process as it leaves the program."""
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    os.closerange(3, max(256, *streams) + 1)
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    os.chdir(order["cwd"])
    module = order["module"]
    sys.argv = [module, *order["arguments"]]
    # It is executed anew, under the name that a program has; its package stays.
    for name in (module, f"{module}.__main__"):
        if not hasattr(sys.modules.get(name), "__path__"):
            sys.modules.pop(name, None)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _report(descriptor: int, number: int) -> None:
    with suppress(BrokenPipeError):
        os.write(descriptor, f"{number}\n".encode())


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
