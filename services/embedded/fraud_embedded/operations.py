"""Status, logs, stop and removal of the embedded platform."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from config import constants
from config.settings import ConfigurationError
from fraud_embedded import addresses
from fraud_embedded.addresses import Addresses
from fraud_embedded.installation import Layout, read_settings
from fraud_embedded.platform import FOLLOWER, Platform, configure
from fraud_embedded.processes.process import base_environment, tail
from fraud_embedded.processes.supervision import NAMES, Supervisor
from fraud_embedded.servers import account, objectstore
from fraud_embedded.servers.airflow_api import AirflowApi
from fraud_embedded.startup import command
from fraud_embedded.summary import urls
from fraud_launcher.exit_codes import shell_code

NOT_RUNNING = 3
_FOLLOWER_READY_S = 60


def existing(layout: Layout, environ: dict[str, str]) -> Platform:
    """The platform as it was last started.

    Raises:
        ConfigurationError: it never was.
    """
    offset = addresses.read(layout.state_file)
    if offset is None:
        raise ConfigurationError("The platform was never started here: run ./fraud demo.")
    return configure(layout, Addresses(offset), read_settings(layout, environ))


def status(layout: Layout, environ: dict[str, str]) -> int:
    """Print what runs; exit code 3 when nothing does, 1 when a server is not ready."""
    supervisor = Supervisor(layout)
    if not supervisor.running():
        print("The platform is not running: ./fraud demo starts it.")
        return NOT_RUNNING
    platform = existing(layout, environ)
    specs = platform.specs()
    ready = True
    print(f"{'':<23}{'state':<10}{'ready':<7}{'pid':>8}  since")
    for state in supervisor.states():
        if state.name == FOLLOWER and not state.up:
            continue
        answers = state.up and specs[state.name].ready()
        ready = ready and answers
        since = (
            datetime.fromtimestamp(state.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if state.pid else ""
        )
        print(
            f"{state.name:<23}{state.state.lower():<10}{'yes' if answers else 'no':<7}{state.pid:>8}  {since}"
        )
    print()
    for name, address in urls(platform).items():
        print(f"{name:<23}{address}")
    print(f"{'credentials':<23}in {layout.env_file}")
    return 0 if ready else 1


def follow(layout: Layout, environ: dict[str, str], *, end: bool) -> int:
    """Start the long-lived consumer beside the running platform, or stop it; exit code 3 when nothing runs.

    Raises:
        StartFailed: it did not get ready.
    """
    supervisor = Supervisor(layout)
    if not supervisor.running():
        print("The platform is not running: ./fraud demo starts it.")
        return NOT_RUNNING
    if end:
        supervisor.stop(FOLLOWER)
        print("The follower is stopped; bounded runs go on from where it was.")
        return 0
    platform = existing(layout, environ)
    spec = platform.follower_spec()
    supervisor.write(spec)
    supervisor.start(FOLLOWER)
    supervisor.wait(spec, _FOLLOWER_READY_S)
    address = f"http://127.0.0.1:{platform.addresses.stream_metrics}"
    print(f"The follower is at work: {address}/metrics, {address}/health/ready, ./fraud demo-logs follower.")
    return 0


def logs(layout: Layout, service: str | None) -> int:
    """Print the ends of all logs, or follow one (on a terminal; else print its end)."""
    if service is None:
        for path in sorted(layout.logs.glob("*.log")):
            print(tail(path, 10), end="\n\n")
        return 0
    path = layout.logs / f"{service}.log"
    if not path.exists():
        known = ", ".join(sorted(found.stem for found in layout.logs.glob("*.log"))) or "none yet"
        raise ConfigurationError(f"There is no log of {service!r}; there are: {known}.")
    print(tail(path, 100))
    if sys.stdout.isatty():
        _follow_from_end(path)
    return 0


def unpause(layout: Layout, environ: dict[str, str]) -> int:
    """Let every scheduled DAG run; exit code 3 when nothing runs.

    Raises:
        StartFailed: Airflow does not answer.
    """
    if not Supervisor(layout).running():
        print("The platform is not running: ./fraud demo starts it.")
        return NOT_RUNNING
    api = AirflowApi(existing(layout, environ).airflow())
    for dag_id in (*constants.DAGS_REAL_TIME, *constants.DAGS_MONITORING, *constants.DAGS_TRAINING):
        if api.pause(dag_id, paused=False):
            print(f"{dag_id} is unpaused")
    return 0


def airflow_command(platform: Platform, arguments: list[str]) -> int:
    """Airflow's command line in the running platform's environment; its exit code."""
    server = platform.airflow()
    program = [str(server.python), server.script("airflow_cli.py"), *arguments]
    done = subprocess.run(program, env=base_environment() | server.commands(), check=False)
    return shell_code(done.returncode)


def _follow_from_end(path: Path) -> None:
    with path.open("r", encoding="utf-8", errors="replace") as file:
        file.seek(0, 2)
        while True:
            if line := file.readline():
                print(line, end="", flush=True)
            else:
                time.sleep(0.3)


def down(layout: Layout) -> int:
    """Stop everything; the data stays."""
    supervisor = Supervisor(layout)
    if supervisor.running():
        supervisor.shut_down()
        print("The platform is stopped; its data is kept.")
    else:
        supervisor.end_orphans(reversed(NAMES))
        print("The platform was not running.")
    offset = addresses.read(layout.state_file)
    if offset is not None:
        objectstore.remove_sockets(Addresses(offset).stack.object_store_internal)
    return 0


def clean(layout: Layout) -> int:
    """Stop everything and remove the data; `.env` and the installed packages stay."""
    down(layout)
    removed = []
    for path in (
        *(layout.local / name for name in ("objectstore", "broker", "mlflow", "airflow", "gateway")),
        *account.existing_directories(layout.local, account.database_account()),
        layout.models,
        layout.logs,
        layout.run,
    ):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
            removed.append(path)
    layout.state_file.unlink(missing_ok=True)
    print("Removed " + (", ".join(map(str, removed)) or "nothing: there was no data") + ".")
    return 0


def execute(platform: Platform, role: str, arguments: list[str]) -> int:
    """Run a command with the addresses and credentials of a role added to the environment."""
    if not arguments:
        raise ConfigurationError("exec needs a command: ./fraud exec [--role NAME] -- CMD.")
    try:
        return command(platform, role, arguments)
    except FileNotFoundError:
        print(f"{arguments[0]}: command not found", file=sys.stderr)
        return 127
    except OSError as error:
        print(f"{arguments[0]}: cannot be run: {error.strerror}", file=sys.stderr)
        return 126
    except subprocess.SubprocessError as error:
        print(error, file=sys.stderr)
        return 126
