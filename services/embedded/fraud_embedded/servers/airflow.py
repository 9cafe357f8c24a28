"""Embedded Airflow: its own packages, LocalExecutor, metadata in the embedded Postgres.

Jobs run as processes with the platform's Python; Airflow's own has none of our packages but `config`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from config import services
from fraud_embedded.processes import probes
from fraud_embedded.processes.process import ProcessSpec, StartFailed, base_environment, run_logged, tail

WEBSERVER: Final = "airflow-webserver"
SCHEDULER: Final = "airflow-scheduler"
DAG_PROCESSOR: Final = "airflow-dag-processor"
CLEANUP: Final = "airflow-cleanup"
WATCH: Final = "airflow-watch"
NAMES: Final = (WEBSERVER, DAG_PROCESSOR, SCHEDULER, CLEANUP, WATCH)
# Two cores, and jobs that mostly wait for the database: more at once only take each other's time.
PARALLELISM: Final = "4"
# A task in flight gets its time to end.
_SCHEDULER_STOP_S: Final = 40


@dataclass(frozen=True, slots=True)
class Airflow:
    """One installation.

    `public` every process gets, `jobs` only what runs tasks, `setup` only what sets up the connections.
    """

    root: Path
    place: Path
    port: int
    watch_metrics_port: int
    database_url: str = field(repr=False)
    fernet_key: str = field(repr=False)
    jwt_secret: str = field(repr=False)
    secret_key: str = field(repr=False)
    password: str = field(repr=False)
    train_password: str = field(repr=False)
    watch_password: str = field(repr=False)
    public: Mapping[str, str]
    jobs: Mapping[str, str] = field(repr=False)
    setup: Mapping[str, str] = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://{probes.HOST}:{self.port}"

    @property
    def folder(self) -> Path:
        """DAGs, plugins, configuration and scripts."""
        return self.root / "airflow"

    @property
    def task_logs(self) -> Path:
        return self.place / "logs"

    @property
    def python(self) -> Path:
        """The Python that has Airflow's packages, which `bootstrap` made."""
        venv = self.root / ".venv-airflow" / "bin" / "python"
        return venv if venv.exists() else Path(sys.executable)

    def metadata(self) -> dict[str, str]:
        """What every process of Airflow gets."""
        variables = {
            **self.public,
            "AIRFLOW_HOME": str(self.place),
            "AIRFLOW_CONFIG": str(self.folder / "config" / "airflow.cfg"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.folder / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(self.folder / "plugins"),
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": self.public.get("AIRFLOW_PARALLELISM") or PARALLELISM,
            "AIRFLOW__CORE__FERNET_KEY": self.fernet_key,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            # Otherwise it asks the name service who this machine is, at each task.
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.database_url.replace(
                "postgresql:", "postgresql+psycopg2:", 1
            ),
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.task_logs),
            "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(
                self.task_logs / "dag_processor"
            ),
            "AIRFLOW__API__HOST": probes.HOST,
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            # Other people of this machine must not read what a task wrote.
            "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FOLDER_PERMISSIONS": "0o700",
            "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FILE_PERMISSIONS": "0o600",
        }
        if not (self.root / ".venv-airflow").exists():
            packages = self.root / ".local" / "airflow-packages"
            variables["PYTHONPATH"] = os.pathsep.join([str(packages), str(self.root)])
        return variables

    def tokens(self) -> dict[str, str]:
        """What makes and checks the tokens of tasks and people."""
        return {
            "AIRFLOW__API_AUTH__JWT_SECRET": self.jwt_secret,
            "AIRFLOW__API__SECRET_KEY": self.secret_key,
        }

    def commands(self) -> dict[str, str]:
        """For Airflow's command line, and what runs tasks."""
        return self.metadata() | self.tokens() | dict(self.jobs)

    def script(self, name: str) -> str:
        return str(self.folder / "scripts" / name)


def prepare(server: Airflow) -> None:
    """Make the directories."""
    for folder in (server.place, server.task_logs, Path(server.jobs["JOB_RUN_DIR"])):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)


def initialise(server: Airflow, log: Path) -> None:
    """Migrate the metadata, set up the log-in and the connections; safe to repeat.

    Raises:
        StartFailed: it did not work; the message ends with the end of its log.
    """
    environment = base_environment() | server.metadata() | server.tokens() | dict(server.setup)
    environment |= {"AIRFLOW_PYTHON": str(server.python), "AIRFLOW_PASSWORD": server.password}
    environment |= {"AIRFLOW_TRAIN_PASSWORD": server.train_password}
    if code := run_logged(["/bin/sh", server.script("init-airflow.sh")], server.place, environment, log):
        raise StartFailed(f"airflow could not be prepared (exit code {code}).\n{tail(log)}")


def specs(server: Airflow) -> tuple[ProcessSpec, ...]:
    """The processes, in the order they depend on each other; the metadata must be migrated."""
    airflow = (str(server.python), "-m", "airflow")

    def healthy(part: str) -> bool:
        return probes.json_at(server.port, "/api/v2/monitor/health", (part, "status")) == "healthy"

    return (
        ProcessSpec(
            name=WEBSERVER,
            argv=(*airflow, "api-server"),
            cwd=server.place,
            env=server.metadata() | server.tokens(),
            ready=lambda: probes.http_ok(server.port, "/api/v2/version"),
        ),
        ProcessSpec(
            name=DAG_PROCESSOR,
            argv=(*airflow, "dag-processor"),
            cwd=server.place,
            # It runs the DAG files and sends what became of dead tasks, so it gets no key of the jobs.
            env=server.metadata(),
            ready=lambda: healthy("dag_processor"),
        ),
        ProcessSpec(
            name=SCHEDULER,
            # The web server reads task logs from the same folder: nobody has to serve them.
            argv=(*airflow, "scheduler", "--skip-serve-logs"),
            cwd=server.place,
            env=server.commands(),
            stop_seconds=_SCHEDULER_STOP_S,
            # It tells its own workers, which let their task end.
            stop_group=False,
            ready=lambda: healthy("scheduler"),
        ),
        ProcessSpec(
            name=CLEANUP,
            argv=(str(server.python), server.script("clean_metadata.py"), "--every", "1h"),
            cwd=server.place,
            env=server.metadata(),
            ready=lambda: True,
        ),
        ProcessSpec(
            name=WATCH,
            argv=(str(server.python), server.script("watch_dags.py")),
            cwd=server.place,
            env=server.metadata()
            | {"AIRFLOW_WATCH_METRICS_PORT": str(server.watch_metrics_port)}
            | {services.role_password("watch"): server.watch_password},
            ready=lambda: probes.http_ok(server.watch_metrics_port, "/metrics"),
        ),
    )


def job_variables(
    python: str, root: Path, run: Path, environments: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    """What a worker must hold to run jobs as processes, each with its own role's credentials.

    Args:
        environments: the variables of each service's role.
    """
    variables = {
        "JOB_RUNNER": "process",
        "JOB_PYTHON": python,
        "JOB_CWD": str(root),
        "JOB_RUN_DIR": str(run / "jobs"),
    }
    if "PYTHONPATH" in os.environ and sys.prefix == sys.base_prefix:
        variables["JOB_PYTHONPATH"] = os.environ["PYTHONPATH"]
    for service in services.SERVICES:
        if environment := environments.get(service.name):
            variables |= {source: environment[name] for name, source in service.private.items()}
    return variables
