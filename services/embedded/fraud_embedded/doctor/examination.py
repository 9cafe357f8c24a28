"""The checks of one examination, run side by side, and the findings that come of them."""

from __future__ import annotations

import http.client
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from fraud_adapters.job.failures import JobFailed
from fraud_adapters.preflight.together import TimedOut, run_together
from fraud_embedded.doctor import databases, docker, stores, web
from fraud_embedded.doctor.listeners import ports_of_family
from fraud_embedded.doctor.ports import check_ports
from fraud_embedded.doctor.target import Target
from fraud_embedded.doctor.versions import check_packages
from fraud_embedded.installation import Layout
from fraud_embedded.startup import usable
from fraud_launcher import machine_checks
from fraud_launcher.compose import Compose
from fraud_launcher.findings import Finding, Problem, State

SECONDS: Final = 20.0  # the most that one check may take
# The name of a part's log, for `./fraud demo-logs NAME` and `make logs service=NAME`.
LOGS: Final[Mapping[str, tuple[str, str]]] = {
    "postgres": ("postgres", "postgres"),
    "kafka": ("broker", "kafka"),
    "object store": ("objectstore", "objectstore"),
    "mlflow": ("mlflow", "mlflow"),
    "api": ("api", "api"),
    "airflow": ("airflow-webserver", "airflow-webserver"),
}


@dataclass(frozen=True, slots=True)
class Check:
    """A check of a part: it returns one sentence, or raises Problem, JobFailed or OSError.

    `skip` is the state that is reported, with its sentence, instead of a run.
    """

    part: str
    name: str
    run: Callable[[], str]
    skip: tuple[State, str] | None = None


def examine(checks: Sequence[Check], target: Target, seconds: float = SECONDS) -> list[Finding]:
    """Run the checks side by side; the findings are in the order of the checks."""
    outcomes = run_together({n: one.run for n, one in enumerate(checks) if one.skip is None}, seconds)
    return [
        Finding(one.part, one.name, *one.skip) if one.skip is not None else _finding(one, outcomes[n], target)
        for n, one in enumerate(checks)
    ]


def _finding(check: Check, outcome: str | Exception, target: Target) -> Finding:
    if isinstance(outcome, str):
        return Finding(check.part, check.name, State.OK, outcome)
    detail = " ".join(str(outcome).split())
    fix = _restart(check.part, target)
    if isinstance(outcome, Problem):
        fix = outcome.fix
    elif isinstance(outcome, TimedOut):
        detail = f"The check {detail}."
    elif isinstance(outcome, OSError | http.client.HTTPException):
        detail = (
            f"{check.part} on port {target.ports.get(check.part)} does not answer ({type(outcome).__name__})."
        )
    elif not isinstance(outcome, JobFailed):
        detail = f"The check failed unexpectedly ({type(outcome).__name__}: {detail})."
    return Finding(check.part, check.name, State.PROBLEM, detail, fix)


def _restart(part: str, target: Target) -> str:
    if part not in LOGS:
        return f"Run {target.start}."
    demo, compose = LOGS[part]
    log = f"./fraud demo-logs {demo}" if target.kind == "demo" else f"make logs service={compose}"
    return f"Start it ({target.start}), and look into its log ({log})."


def machine(target: Target, layout: Layout, environ: Mapping[str, str]) -> list[Check]:
    """The checks that need no server."""
    no_file = (State.NOT_RUNNING, f"There is no .env yet: {target.start} writes one with random secrets.")
    airflow = next((layout.root / ".venv-airflow").glob("lib/python3*/site-packages"), None)
    absent = (State.NOT_RUNNING, "Airflow's packages are not installed yet: ./fraud demo installs them.")
    lock = layout.root / "airflow" / "requirements.txt"
    disk_of = layout.local if layout.local.exists() else layout.root
    return [
        Check("machine", "python", machine_checks.python),
        Check(
            "machine",
            "packages",
            partial(check_packages, layout.root / "requirements" / "demo.txt", _site_packages(layout)),
        ),
        Check(
            "machine",
            "airflow packages",
            partial(check_packages, lock, airflow or layout.root),
            None if airflow else absent,
        ),
        Check("machine", "memory", partial(machine_checks.memory, running=target.running)),
        Check(
            "machine",
            "disk",
            partial(machine_checks.disk, disk_of, installed=True, running=target.running),
        ),
        Check(
            "machine",
            "variables",
            partial(machine_checks.variables, layout.root, environ),
            None if layout.env_file.exists() else no_file,
        ),
        Check("machine", "ports", lambda: check_ports(target, usable, _held(target, layout))),
    ]


def servers(target: Target, layout: Layout) -> list[Check]:
    """The checks of the platform's servers; nothing is wrong with one that was never started."""
    down = (
        None
        if target.running
        else (State.NOT_RUNNING, f"The platform is not running: {target.start} starts it.")
    )
    unpublished = (
        State.NOT_USED,
        "Compose does not publish the object store: its container's health check uses it.",
    )
    store = unpublished if target.kind == "compose" and target.running else down
    checks = {
        ("postgres", "log-ins"): partial(databases.check_log_ins, target),
        ("postgres", "migrations"): partial(databases.check_migrations, target),
        ("postgres", "rights"): partial(databases.check_rights, target),
        ("kafka", "broker"): partial(stores.check_broker, target),
        ("kafka", "topics"): partial(stores.check_topics, target),
        ("object store", "buckets"): partial(stores.check_buckets, target),
        ("object store", "permissions"): partial(stores.check_permissions, target),
        ("mlflow", "health"): partial(web.check_mlflow, target),
        ("mlflow", "log-ins"): partial(web.check_mlflow_users, target),
        ("mlflow", "host"): partial(web.check_mlflow_host, target),
        ("api", "ready"): partial(web.check_api, target),
        ("api", "tokens"): partial(web.check_tokens, target),
        ("airflow", "health"): partial(web.check_airflow, target),
        ("airflow", "dags"): partial(web.check_dags, target, layout.root / "airflow" / "dags"),
    }
    return [
        Check(part, name, run, store if part == "object store" else down)
        for (part, name), run in checks.items()
    ]


def containers(target: Target, layout: Layout) -> list[Check]:
    """The checks of Docker, which the embedded platform does not use."""
    unused = (State.NOT_USED, "The embedded platform needs no Docker.") if target.kind == "demo" else None
    return [
        Check("docker", "daemon", partial(docker.check_daemon, layout.root), unused),
        Check("docker", "images", partial(docker.check_images, layout.root), unused),
    ]


def _held(target: Target, layout: Layout) -> set[int]:
    """The ports that the platform itself listens on."""
    if not target.running:
        return set()
    if target.kind == "compose":
        return Compose(layout.root, offline=False).held()
    try:
        return ports_of_family(int((layout.run / "supervisor.pid").read_text("ascii")))
    except (OSError, ValueError):
        return set()


def _site_packages(layout: Layout) -> Path:
    without_venv = layout.local / "site-packages"
    return without_venv if without_venv.exists() else Path(sysconfig.get_path("purelib"))
