"""JOB_RUNNER=process: each job runs in its own process group, which never outlives its task."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from config.constants import PROCESS_ENVIRONMENT
from fraud_airflow.jobs import RESULT_LIMIT_BYTES, RESULT_PATH, JobFailed, JobOutcome, JobRefused, JobSpec
from fraud_airflow.lines import Line, LineSplitter, ignoring_errors
from fraud_airflow.runners import launcher, lock
from fraud_airflow.runners.result import MISSING, parse, unreadable
from fraud_airflow.runners.timeouts import KILL_PATIENCE_S, LOCK_PATIENCE_S

_INTERVAL_S: Final = 1.0 if hasattr(os, "pidfd_open") else 0.05  # how often to check
_PIECE_BYTES: Final = 64 * 1024
_PIPE_BYTES: Final = 1024 * 1024  # the capacity of a pipe on Linux
_PASSED_ON: Final = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE")


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """How jobs run: their Python, working directory, directory for locks and results, and base
    environment."""

    python: Path
    cwd: Path
    run_dir: Path
    environment: Mapping[str, str]
    kill_patience_s: float = KILL_PATIENCE_S
    lock_patience_s: float = LOCK_PATIENCE_S


def from_environment(worker: Mapping[str, str]) -> ProcessRunner:
    """A runner configured by JOB_PYTHON, JOB_CWD, JOB_RUN_DIR, JOB_PYTHONPATH and JOB_PATH.

    Raises:
        JobRefused: one of the first three is missing or invalid.
    """
    python, cwd, run_dir = (_path(worker, name) for name in ("JOB_PYTHON", "JOB_CWD", "JOB_RUN_DIR"))
    if not os.access(python, os.X_OK) or python.is_dir():
        raise JobRefused(
            f"JOB_PYTHON: {python} is not a program: set the Python in which the services are installed."
        )
    if not cwd.is_dir():
        raise JobRefused(f"JOB_CWD: there is no directory {cwd}: set the working directory of jobs.")
    environment = {name: worker[name] for name in _PASSED_ON if worker.get(name)} | PROCESS_ENVIRONMENT
    for name, source in (("PATH", "JOB_PATH"), ("PYTHONPATH", "JOB_PYTHONPATH")):
        if worker.get(source):
            environment[name] = worker[source]
    return ProcessRunner(ProcessSettings(python, cwd, run_dir, environment))


class ProcessRunner:
    """Runs one job at a time; keeps none of its secrets."""

    def __init__(self, settings: ProcessSettings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False
        self._deadline: float | None = None
        self._supervisor = 0

    def run(self, spec: JobSpec, line: Line) -> JobOutcome:
        """See `fraud_airflow.jobs.JobRunner`."""
        self._supervisor = os.getppid()  # it may be gone as soon as the job runs
        with _result_file(self._settings.run_dir) as result, self._running(spec, result) as process:
            try:
                self._follow(process, line)
            except BaseException:
                # Such as a timeout, or a log that cannot be written: the job must not run on unsupervised.
                self.kill()
                self._follow(process, ignoring_errors(line))
                raise
            code = self._reap(process)
            document, problem = _read_result(result)
        if self._killed and code != 0:
            raise JobFailed("The job was ended, because its task was.")
        return JobOutcome(code, document, problem)

    def kill(self) -> None:
        """Stop the job: SIGTERM now, SIGKILL after the patience.

        Logs nothing: it runs in a signal handler, and the interrupted code may hold the log's lock.
        """
        self._killed = True
        if self._deadline is None:
            self._deadline = time.monotonic() + self._settings.kill_patience_s
            self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        # The pid cannot have been reused: the process is reaped only after `_process` is cleared.
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    @contextmanager
    def _running(self, spec: JobSpec, result: Path) -> Iterator[subprocess.Popen[bytes]]:
        descriptor = None
        if spec.single is not None:
            path = self._settings.run_dir / f"{spec.single}.lock"
            descriptor = lock.acquire(path, self._settings.lock_patience_s, lambda: self._killed)
        try:
            if self._killed:
                raise JobFailed("The task was ended before its job was started.")
            process = self._start(spec, result, descriptor)
        finally:
            if descriptor is not None:
                os.close(descriptor)  # only the job holds it from now on
        self._process = process
        if self._killed:
            self._signal(signal.SIGTERM)
        try:
            yield process
        finally:
            self._signal(signal.SIGKILL)
            self._reap(process)

    def _start(self, spec: JobSpec, result: Path, descriptor: int | None) -> subprocess.Popen[bytes]:
        lock_argument, (program, *arguments) = "" if descriptor is None else str(descriptor), spec.command
        if program != "python":
            raise JobRefused(f"command: {program} is not python, with which the command must start.")
        python = str(self._settings.python)
        holder = lock.describe_holder(spec.labels)
        start = (python, "-I", "-S", launcher.__file__, str(os.getpid()), lock_argument, holder)
        try:
            return subprocess.Popen(
                [*start, python, *arguments],
                cwd=self._settings.cwd,
                env={
                    **self._settings.environment,
                    **spec.environment,
                    **spec.private,
                    RESULT_PATH: str(result),
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                start_new_session=True,
                pass_fds=() if descriptor is None else (descriptor,),
            )
        except (OSError, ValueError) as error:
            raise JobFailed(f"The job {spec.title} cannot be started: {error}.") from None

    def _follow(self, process: subprocess.Popen[bytes], line: Line) -> None:
        """Forward the output until the job has ended, even if another process still holds its pipe."""
        assert process.stdout is not None
        output, splitter = process.stdout.fileno(), LineSplitter()
        os.set_blocking(output, False)
        with _selector(process.pid) as selector:
            selector.register(output, selectors.EVENT_READ)
            while not _has_ended(process.pid):
                ready = [key.fd for key, _ in selector.select(self._pause())]
                if output in ready and not _pass_on(output, splitter, line, _PIECE_BYTES):
                    selector.unregister(output)
                self._enforce()
        self._signal(signal.SIGKILL)  # processes that the job left behind in its group
        _pass_on(output, splitter, line, _PIPE_BYTES)
        for text in splitter.rest():
            line(text)

    def _pause(self) -> float:
        if self._deadline is None:
            return _INTERVAL_S
        return max(0.01, min(_INTERVAL_S, self._deadline - time.monotonic()))

    def _enforce(self) -> None:
        if os.getppid() != self._supervisor:  # it is gone, so Airflow will run the task again
            self.kill()
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._signal(signal.SIGKILL)

    def _reap(self, process: subprocess.Popen[bytes]) -> int:
        self._process = None
        code = process.wait()
        if process.stdout is not None:
            process.stdout.close()
        return code


@contextmanager
def _selector(pid: int) -> Iterator[selectors.BaseSelector]:
    """A selector that wakes up when the process ends, if the system supports it."""
    with selectors.DefaultSelector() as selector:
        if not hasattr(os, "pidfd_open"):
            yield selector
            return
        descriptor = os.pidfd_open(pid)
        try:
            selector.register(descriptor, selectors.EVENT_READ)
            yield selector
        finally:
            os.close(descriptor)


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _pass_on(output: int, splitter: LineSplitter, line: Line, limit: int) -> bool:
    """Forward available output, up to about `limit` bytes; false at the end of the output."""
    taken = 0
    while taken < limit:
        try:
            piece = os.read(output, _PIECE_BYTES)
        except BlockingIOError:
            return True
        if not piece:
            return False
        taken += len(piece)
        for text in splitter.feed(piece):
            line(text)
    return True


@contextmanager
def _result_file(run_dir: Path) -> Iterator[Path]:
    """The path for the result, in a temporary directory that is removed afterwards."""
    try:
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_stale_results(run_dir)
        directory = Path(
            tempfile.mkdtemp(
                prefix=f"result-{os.getpid()}-{launcher.process_start(os.getpid())}-", dir=run_dir
            )
        )
    except OSError as error:
        raise JobRefused(
            f"JOB_RUN_DIR: {run_dir} cannot be used ({error.strerror}): set another one."
        ) from None
    try:
        yield directory / "result.json"
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _remove_stale_results(run_dir: Path) -> None:
    """Remove the directories of killed tasks."""
    for directory in run_dir.glob("result-*-*-*"):
        _, pid, start, _ = directory.name.split("-", 3)
        if pid.isdecimal() and not lock.is_process(int(pid), start):
            shutil.rmtree(directory, ignore_errors=True)


def _read_result(path: Path) -> tuple[dict[str, Any] | None, str]:
    try:
        with path.open("rb") as file:
            content = file.read(RESULT_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return None, MISSING
    except OSError as error:
        return unreadable(error.strerror)
    return parse(content)


def _path(worker: Mapping[str, str], name: str) -> Path:
    if not worker.get(name):
        raise JobRefused(f"{name} is not set for Airflow's workers: jobs run as processes need it.")
    return Path(worker[name])
