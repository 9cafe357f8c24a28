"""The commands of `./fraud`. Standard library only: it creates the environments for everything else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from config import services
from fraud_launcher import (
    benchmarks,
    compose,
    data,
    doctor,
    image_offline,
    image_push,
    load_test,
    secret_files,
)
from fraud_launcher.bootstrap import (
    AIRFLOW,
    ROOT,
    Environment,
    LauncherError,
    environment,
    installed_environment,
    preflight,
)
from fraud_launcher.exit_codes import shell_code

TESTED = ["config", "services", "db_init", "tests", "requirements", "airflow", "monitoring", "notebooks"]
TYPED = ["config", "db_init/fraud_db", "tests", "requirements/lock.py", "notebooks/execute.py"]
TYPED += ["services/collect_sources.py", "services/health.py", "services/launcher/__main__.py"]
TYPED += ["monitoring/grafana", *services.typed()]

# Code that runs inside Airflow, with Airflow's packages and mypy settings.
TYPED_AIRFLOW = ["plugins", "dags", "scripts", "tests"]

# The slowest suites come first, so that no worker is left alone with one at the end.
SUITES = ["tests/dags", "tests/faults", "tests/integration", "tests/unit"]
# Every worker has its own servers, so killing one does not affect other workers. Tests spend half of their
# time waiting for servers: on two cores, three workers left a third of the processors idle.
WORKERS = str(min(6, (os.cpu_count() or 1) + 2))
_BY_FILE = ["--dist", "loadfile", "--no-loadscope-reorder"]
PARALLEL = ["-n", WORKERS, *_BY_FILE]
# The unit tests wait for nothing, and another worker would only read all of them once more.
PARALLEL_UNIT = ["-n", str(min(4, os.cpu_count() or 1)), *_BY_FILE]

# name → description
HELP = {
    "demo": "start the whole platform here, train a model, score live transactions; --json, --help",
    "demo-status": "list the running servers with their addresses and start times",
    "demo-logs": "show the end of the logs; name a service to follow its log",
    "demo-down": "stop the platform; its data stays",
    "demo-clean": "stop the platform and remove its data",
    "follow": "start the long-lived consumer of the running platform; --stop ends it",
    "exec": "run a command with the running platform's addresses and credentials: exec [--role NAME] -- CMD",
    **compose.COMMANDS,
    **image_push.COMMANDS,
    **image_offline.COMMANDS,
    "doctor": doctor.HELP,
    "data": data.HELP,
    "notebook": "execute notebooks/first_model.ipynb, which trains a first model; --help",
    "unpause": "unpause the real-time, monitoring and training DAGs",
    "airflow": "Airflow's own command line in the running platform: airflow dags list-runs -d DAG",
    "drift": "let simulated transactions drift: drift amount-scale=1.5; drift off; alone: show what is on",
    "rollout": "release a model version: rollout validate, deploy, evaluate, promote; rollout status --watch",
    "chargebacks": "import a CSV file of chargebacks, all of it or nothing: chargebacks FILE",
    "users": "manage who logs in to the analysts' web app: users add NAME, list, passwd, lock, unlock, role",
    "rotate-keys": "sign tokens with a new key; the old one stays valid until its tokens expire",
    "audit-log": "audit-log verify: whether the audit log is whole, by its chain and its signed heads",
    "secrets": "write the secrets of a production installation, one file each; secrets [FOLDER]",
    "test-unit": "run the tests that need no server",
    "test": "run unit, integration and fault tests, against the real embedded servers",
    "proof": "run the full kill test, then all fault tests including the slow ones; see docs/faults.md",
    "test-browser": "test the web pages in Chromium",
    "test-stack": "test the platform on Docker Compose, from build to removal; --install, --keep, --help",
    "bench": "run a benchmark: bench NAME [options]; --quick: the main ones; without a name, list them",
    "load": "load-test the scoring API with Locust, web UI on 8089; --headless --users 50 --run-time 60s",
    "lint": "run ruff",
    "typecheck": "run mypy --strict",
    "lock": "regenerate requirements/*.txt (needs uv)",
    "help": "show this list",
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
# Commands that are a program of a service: whose addresses and credentials it gets, and the program.
ROLE_COMMANDS = {
    "rotate-keys": ("api", ["python", "-m", "fraud_api", "rotate-keys"]),
    "audit-log": ("audit-log", ["python", "-m", "fraud_adapters.audit_heads"]),
    "drift": ("producer", ["python", "-m", "fraud_producer", "drift"]),
    "rollout": ("rollout", ["python", "-m", "fraud_rollout"]),
    "chargebacks": ("feedback", ["python", "-m", "fraud_feedback", "import-chargebacks"]),
    "users": ("audit", ["python", "-m", "fraud_audit", "users"]),
}


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    command, rest = (arguments[0], list(arguments[1:])) if arguments else ("help", [])
    if command in {"help", "-h", "--help"}:
        return _help()
    if command not in HELP:
        _report(f"There is no command {command!r}; ./fraud help lists them.")
        return 2
    try:
        return _dispatch(command, rest)
    except LauncherError as reason:
        _report(str(reason))
        return 2
    except KeyboardInterrupt:
        return 130


def _dispatch(command: str, rest: list[str]) -> int:
    if command in compose.COMMANDS:
        return compose.run(command, rest)
    if compose.runs_in_container(command):
        return compose.run_in_container(command, rest)
    if command in WITHOUT_PACKAGES:
        return WITHOUT_PACKAGES[command](rest)
    if command in CHECKS:
        return CHECKS[command](rest)
    if command == "demo":
        preflight(installed=True)
        with ThreadPoolExecutor(max_workers=1) as executor:
            airflow = executor.submit(environment, "requirements", _report, AIRFLOW)
            environment("demo", _report)
            airflow.result()
    python_environment = environment("demo", _report)
    if command in ROLE_COMMANDS:
        role, program = ROLE_COMMANDS[command]
        rest = ["--role", role, "--", *program, *rest]
    _exec_python(python_environment, ["-m", "fraud_embedded", EMBEDDED.get(command, "exec"), *rest])
    return 0


def _test(rest: list[str]) -> int:
    """Run both suites, or the given tests; those below airflow/ run with Airflow's packages."""
    # The tests of the DAGs start Airflow itself.
    airflow = environment("requirements-test", _report, AIRFLOW)
    airflow_arguments = ["-m", "pytest", "-c", "airflow/pyproject.toml", *rest]
    if any(argument.startswith("airflow/") for argument in rest):
        return _run_python(airflow, airflow_arguments)
    if _names_tests(rest):
        return _run_python(environment("test", _report), ["-m", "pytest", *rest])
    with ThreadPoolExecutor(max_workers=1) as executor:
        # Airflow's tests start no server and run in parallel; their output is printed at the end.
        airflow_tests = executor.submit(_capture_output, airflow, [*airflow_arguments, "airflow/tests"])
        failed = _run_python(environment("test", _report), ["-m", "pytest", *rest, *PARALLEL, *SUITES])
        done = airflow_tests.result()
    print(done.stdout, end="", flush=True)
    return shell_code(done.returncode) or failed


def _test_unit(rest: list[str]) -> int:
    return _run_python(environment("test", _report), ["-m", "pytest", *rest, *PARALLEL_UNIT, "tests/unit"])


def _test_browser(rest: list[str]) -> int:
    # The tests include Airflow's pages.
    environment("requirements-test", _report, AIRFLOW)
    default_tests = [] if _names_tests(rest) else ["tests/browser"]
    return _run_python(environment("browser", _report), ["-m", "pytest", *rest, *default_tests])


def _test_stack(rest: list[str]) -> int:
    # Some of them use the pages of the stack's Airflow.
    return _run_python(environment("browser", _report), ["-m", "tests.stack", *rest])


def _names_tests(arguments: list[str]) -> bool:
    """Whether the arguments name a file or folder of tests; options alone apply to the whole suite."""
    names = [argument.partition("::")[0] for argument in arguments if not argument.startswith("-")]
    return any((ROOT / name).exists() for name in names)


def _lint(_rest: list[str]) -> int:
    tools = environment("test", _report)
    checked = _run_python(tools, ["-m", "ruff", "check", *TESTED])
    return _run_python(tools, ["-m", "ruff", "format", "--check", *TESTED]) or checked


def _typecheck(_rest: list[str]) -> int:
    tools = environment("test", _report)
    airflow = environment("requirements-test", _report, AIRFLOW)
    failed = _run_python(tools, ["-m", "mypy", *TYPED])
    airflow_options = ["--python-executable", str(airflow.python), "--config-file", "pyproject.toml"]
    airflow_failed = _run_python(tools, ["-m", "mypy", *airflow_options, *TYPED_AIRFLOW], ROOT / "airflow")
    return failed or airflow_failed


def _proof(rest: list[str]) -> int:
    """Run the kill test with the given options, then the fault tests; stops at the first failure."""
    tools = environment("test", _report)
    code = _run_python(tools, ["-m", "tests.faults.kill", *rest])
    if code or {"-h", "--help"} & set(rest):
        return code
    return _run_python(tools, ["-m", "pytest", "tests/faults", "-m", "proof or not proof"])


def _bench(rest: list[str]) -> int:
    """Run one benchmark with the packages of the tests; without a name, list them."""
    if not rest or rest[0] in {"-h", "--help"}:
        print(benchmarks.listing())
        return 0
    module = benchmarks.QUICK if rest[0] == "--quick" else benchmarks.module(rest[0])
    return _run_python(environment("test", _report), ["-m", module, *rest[1:]])


def _load(rest: list[str]) -> int:
    """Locust against the platform that runs here, or the one the environment names."""
    variables = load_test.variables(ROOT, os.environ)
    tools = environment("load", _report)
    locust = ["-m", "locust", *load_test.OPTIONS, *rest]
    if variables is None:
        # The running demo knows its own address and credentials.
        program = ["-m", "fraud_embedded", "exec", "--role", load_test.CLIENT, "--", str(tools.python)]
        return _run_python(environment("demo", _report), [*program, *locust])
    return _run_python(Environment(tools.python, {**variables, **tools.variables}), locust)


def _run_python(python_environment: Environment, arguments: list[str], folder: Path = ROOT) -> int:
    variables = {**os.environ, **python_environment.variables}
    command = [str(python_environment.python), *arguments]
    done = subprocess.run(command, cwd=folder, env=variables, check=False)
    return shell_code(done.returncode)


def _capture_output(
    python_environment: Environment, arguments: list[str]
) -> subprocess.CompletedProcess[str]:
    """Like `_run_python`, but capture stdout and stderr."""
    return subprocess.run(
        [str(python_environment.python), *arguments],
        cwd=ROOT,
        env={**os.environ, **python_environment.variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _exec_python(python_environment: Environment, arguments: list[str]) -> None:
    """Replace this process by the command, so that it receives signals and its exit code is returned."""
    sys.stdout.flush()
    variables = {**os.environ, **python_environment.variables}
    os.execve(python_environment.python, [str(python_environment.python), *arguments], variables)


def _doctor(rest: list[str]) -> int:
    """Examine the machine, and with the platform's packages, if they are installed, the servers too.

    For Compose, which needs no packages on this machine, they are installed: to examine the machine alone
    would look as if the platform were well.
    """
    installed = installed_environment("demo")
    if installed is None and doctor.parser().parse_args(rest).target == "compose":
        installed = environment("demo", _report)
    if installed is None:
        return doctor.examine_machine(ROOT, rest)
    _exec_python(installed, ["-m", "fraud_embedded.doctor", *rest])
    return 0


def _notebook(rest: list[str]) -> int:
    return _run_python(environment("test", _report), ["notebooks/execute.py", *rest])


def _lock() -> int:
    uv = shutil.which("uv")
    if uv is None:
        raise LauncherError("Lock files are generated with uv, which is not installed: pip install uv.")
    return subprocess.run(
        [sys.executable, str(ROOT / "requirements" / "lock.py"), uv], check=False
    ).returncode


# Commands that run with the packages of the tests.
CHECKS: dict[str, Callable[[list[str]], int]] = {
    "test": _test,
    "test-unit": _test_unit,
    "proof": _proof,
    "test-browser": _test_browser,
    "test-stack": _test_stack,
    "bench": _bench,
    "load": _load,
    "notebook": _notebook,
    "lint": _lint,
    "typecheck": _typecheck,
}
# Commands that need no packages.
WITHOUT_PACKAGES: dict[str, Callable[[list[str]], int]] = {
    "doctor": _doctor,
    "data": data.run,
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
        # The reader, such as `head`, has closed the pipe. Python would otherwise flush the rest again at
        # exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
