"""The commands of `./fraud`. Standard library only: it makes the environment the others run in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from config import services
from fraud_launcher import benchmarks, compose, image_offline, image_push, load_test, secret_files
from fraud_launcher.bootstrap import AIRFLOW, ROOT, Environment, Refused, environment, preflight
from fraud_launcher.exit_codes import shell_code

TESTED = ["config", "services", "db_init", "tests", "requirements", "airflow"]
TYPED = ["config", "db_init/fraud_db", "tests", "requirements/lock.py"]
TYPED += ["services/collect_sources.py", "services/health.py", "services/launcher/__main__.py"]
TYPED += services.typed()

# What runs inside Airflow, with Airflow's packages and settings of its own.
TYPED_AIRFLOW = ["plugins", "dags", "scripts", "tests"]

# What takes longest comes first, so that no worker is left with it alone at the end.
SUITES = ["tests/dags", "tests/faults", "tests/integration", "tests/unit"]
# Every worker has servers of its own, so what one kills is missed by nobody else. Tests wait for servers half
# of their time: with one more worker than cores they took 8:07 instead of 9:28 minutes, on two.
WORKERS = str(min(4, (os.cpu_count() or 1) + 1))
PARALLEL = ["-n", WORKERS, "--dist", "loadfile", "--no-loadscope-reorder"]

# name → (lock, what it does)
HELP = {
    "demo": "start the whole platform here, train a model, score live transactions; --json, --help",
    "demo-status": "what runs, where, and since when",
    "demo-logs": "the end of the logs; name a service to follow it",
    "demo-down": "stop the platform; its data stays",
    "demo-clean": "stop the platform and remove its data",
    "follow": "start the long-lived consumer beside the running platform; --stop ends it",
    "exec": "run a command with the running platform's addresses and credentials: exec [--role NAME] -- CMD",
    **compose.COMMANDS,
    **image_push.COMMANDS,
    **image_offline.COMMANDS,
    "unpause": "let the real-time, the monitoring and the training DAGs run",
    "airflow": "Airflow's own command line in the running platform: airflow dags list-runs -d DAG",
    "rotate-keys": "sign tokens with a new key; the old one stays valid until its tokens expire",
    "secrets": "write the secrets of a production installation, a file each; secrets [FOLDER]",
    "test-unit": "the tests that need no server",
    "test": "unit, integration and fault tests, against the real embedded servers",
    "proof": "the kill test in full, then every fault test, also the slow ones; see docs/faults.md",
    "test-browser": "the pages, in Chromium",
    "test-stack": "the platform on Docker Compose, from the images to its removal; --install, --keep, --help",
    "bench": "run a benchmark: bench NAME [options]; --quick: the main ones in two minutes; alone: the list",
    "load": "a load test of the scoring API by Locust, web UI on 8089; --headless --users 50 --run-time 60s",
    "lint": "ruff",
    "typecheck": "mypy --strict",
    "lock": "write requirements/*.txt anew (needs uv)",
    "help": "this list",
}
EMBEDDED = {
    "demo": "demo",
    "demo-status": "status",
    "demo-logs": "logs",
    "demo-down": "down",
    "demo-clean": "clean",
    "follow": "follow",
    "unpause": "unpause",
    "airflow": "airflow",
}


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit code is the command's."""
    command, rest = (arguments[0], list(arguments[1:])) if arguments else ("help", [])
    if command in {"help", "-h", "--help"}:
        return _help()
    if command not in HELP:
        _say(f"There is no command {command!r}; ./fraud help lists them.")
        return 2
    try:
        return _dispatch(command, rest)
    except Refused as reason:
        _say(str(reason))
        return 2
    except KeyboardInterrupt:
        return 130


def _dispatch(command: str, rest: list[str]) -> int:
    if command in compose.COMMANDS:
        return compose.run(command, rest)
    if compose.takes(command):
        return compose.inside(command, rest)
    if command in ALONE:
        return ALONE[command](rest)
    if command in CHECKS:
        return CHECKS[command](rest)
    if command == "demo":
        preflight(installed=True)
        with ThreadPoolExecutor(max_workers=1) as beside:
            airflow = beside.submit(environment, "requirements", _say, AIRFLOW)
            environment("demo", _say)
            airflow.result()
    here = environment("demo", _say)
    if command == "rotate-keys":
        rest = ["--role", "api", "--", "python", "-m", "fraud_api", "rotate-keys"]
    _replace(here, ["-m", "fraud_embedded", EMBEDDED.get(command, "exec"), *rest])
    return 0


def _test(rest: list[str]) -> int:
    """Both suites, or the tests named: those below airflow/ run with Airflow's packages."""
    # The DAGs' tests start Airflow itself.
    airflow = environment("requirements-test", _say, AIRFLOW)
    inside = ["-m", "pytest", "-c", "airflow/pyproject.toml", *rest]
    if any(word.startswith("airflow/") for word in rest):
        return _python(airflow, inside)
    if _names_tests(rest):
        return _python(environment("test", _say), ["-m", "pytest", *rest])
    with ThreadPoolExecutor(max_workers=1) as beside:
        # They start no server and fit beside the others; what they print is shown when those have ended.
        others = beside.submit(_output, airflow, [*inside, "airflow/tests"])
        failed = _python(environment("test", _say), ["-m", "pytest", *rest, *PARALLEL, *SUITES])
        done = others.result()
    print(done.stdout, end="", flush=True)
    return shell_code(done.returncode) or failed


def _test_unit(rest: list[str]) -> int:
    return _python(environment("test", _say), ["-m", "pytest", *rest, *PARALLEL, "tests/unit"])


def _test_browser(rest: list[str]) -> int:
    # The pages of Airflow are among them.
    environment("requirements-test", _say, AIRFLOW)
    where = [] if _names_tests(rest) else ["tests/browser"]
    return _python(environment("browser", _say), ["-m", "pytest", *rest, *where])


def _test_stack(rest: list[str]) -> int:
    return _python(environment("test", _say), ["-m", "tests.stack", *rest])


def _names_tests(words: list[str]) -> bool:
    """Whether a file or folder of tests is among the words; options alone are for the whole suite."""
    return any((ROOT / word.partition("::")[0]).exists() for word in words if not word.startswith("-"))


def _lint(_rest: list[str]) -> int:
    tools = environment("test", _say)
    checked = _python(tools, ["-m", "ruff", "check", *TESTED])
    return _python(tools, ["-m", "ruff", "format", "--check", *TESTED]) or checked


def _typecheck(_rest: list[str]) -> int:
    tools = environment("test", _say)
    airflow = environment("requirements-test", _say, AIRFLOW)
    failed = _python(tools, ["-m", "mypy", *TYPED])
    seen = ["--python-executable", str(airflow.python), "--config-file", "pyproject.toml"]
    inside = _python(tools, ["-m", "mypy", *seen, *TYPED_AIRFLOW], ROOT / "airflow")
    return failed or inside


def _proof(rest: list[str]) -> int:
    """The kill test with the options given, then the faults; stops at what fails."""
    tools = environment("test", _say)
    killed = _python(tools, ["-m", "tests.faults.kill", *rest])
    if killed or {"-h", "--help"} & set(rest):
        return killed
    return _python(tools, ["-m", "pytest", "tests/faults", "-m", "proof or not proof"])


def _bench(rest: list[str]) -> int:
    """One benchmark, with the tests' packages; without a name, the list of them."""
    if not rest or rest[0] in {"-h", "--help"}:
        print(benchmarks.listing())
        return 0
    module = benchmarks.QUICK if rest[0] == "--quick" else benchmarks.module(rest[0])
    return _python(environment("test", _say), ["-m", module, *rest[1:]])


def _load(rest: list[str]) -> int:
    """Locust against the platform that runs here, or the one the environment names."""
    variables = load_test.variables(ROOT, os.environ)
    tools = environment("load", _say)
    locust = ["-m", "locust", *load_test.OPTIONS, *rest]
    if variables is None:
        # The running demo knows its own address and credentials.
        program = ["-m", "fraud_embedded", "exec", "--role", load_test.CLIENT, "--", str(tools.python)]
        return _python(environment("demo", _say), [*program, *locust])
    return _python(Environment(tools.python, {**variables, **tools.variables}), locust)


def _python(here: Environment, arguments: list[str], folder: Path = ROOT) -> int:
    done = subprocess.run(
        [str(here.python), *arguments], cwd=folder, env={**os.environ, **here.variables}, check=False
    )
    return shell_code(done.returncode)


def _output(here: Environment, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """As `_python`, both outputs kept."""
    return subprocess.run(
        [str(here.python), *arguments],
        cwd=ROOT,
        env={**os.environ, **here.variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _replace(here: Environment, arguments: list[str]) -> None:
    """Become the command, so that signals and exit code are its own."""
    sys.stdout.flush()
    os.execve(here.python, [str(here.python), *arguments], {**os.environ, **here.variables})


def _lock() -> int:
    uv = shutil.which("uv")
    if uv is None:
        raise Refused("Locks are made by uv, and there is none: pip install uv.")
    return subprocess.run(
        [sys.executable, str(ROOT / "requirements" / "lock.py"), uv], check=False
    ).returncode


# What is run with the packages of the tests.
CHECKS: dict[str, Callable[[list[str]], int]] = {
    "test": _test,
    "test-unit": _test_unit,
    "proof": _proof,
    "test-browser": _test_browser,
    "test-stack": _test_stack,
    "bench": _bench,
    "load": _load,
    "lint": _lint,
    "typecheck": _typecheck,
}
# What needs no package.
ALONE: dict[str, Callable[[list[str]], int]] = {
    "push": image_push.run,
    "images-offline": image_offline.run,
    "secrets": secret_files.main,
    "lock": lambda _: _lock(),
}


def _help() -> int:
    width = max(map(len, HELP)) + 2
    lines = [f"  {name:<{width}}{text}" for name, text in HELP.items()]
    try:
        print(
            "usage: ./fraud COMMAND [options]      (make COMMAND does the same)\n",
            *lines,
            sep="\n",
            flush=True,
        )
    except BrokenPipeError:
        # Whoever reads it, as `head` does, has seen enough. Python would write the rest once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
