"""`make demo`: from nothing to scored transactions, and what they show."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from config.constants import ALIAS_CHAMPION, DAGS_REAL_TIME
from config.services import MLFLOW_PERSON, mlflow_password
from config.settings import ConfigurationError
from fraud_embedded.installation import Layout
from fraud_embedded.jobs import run_job
from fraud_embedded.platform import AUDIT, CANARY, OVERVIEW, Platform
from fraud_embedded.processes import probes
from fraud_embedded.processes.process import StartFailed, tail
from fraud_embedded.processes.supervision import Supervisor
from fraud_embedded.progress import Progress
from fraud_embedded.servers import gateway
from fraud_embedded.servers.airflow import SCHEDULER, WATCH
from fraud_embedded.servers.airflow_api import AirflowApi
from fraud_embedded.startup import Startup, prepare
from fraud_embedded.summary import Summary, decided_since, has_model, summarise

HISTORY_DAYS: Final = 30
# The DAGs make 50 every five seconds; a burst gives the figures some ground, and the scoring DAG a backlog.
BURST: Final = 1500
_READY_S: Final = 120
_PATIENCE_S: Final = 180


@dataclass(slots=True)
class Milestones:
    """Seconds from the start to what one waits for."""

    seconds: dict[str, float] = field(default_factory=dict)


def run(layout: Layout, progress: Progress) -> Summary:
    """Bring everything up, train the first model, score live transactions; the stack is left running.

    Raises:
        StartFailed, ConfigurationError: a server did not come up; what this call started is stopped again.
        JobEnded: a job failed, among them a model that did not pass its gate; the servers run on.
    """
    platform, supervisor, was_running = prepare(layout, progress)
    startup = Startup(platform, supervisor, progress)
    milestones = Milestones()
    try:
        _start(platform, supervisor, startup, progress, was_running)
        milestones.seconds["ready"] = round(progress.elapsed, 1)
        since = datetime.now(UTC)
        optimum = _watch_live(platform, supervisor, progress, since, milestones)
        for name in (AUDIT, OVERVIEW, CANARY):  # last, because nothing waits for them
            startup.start(name)
    finally:
        startup.close()
    milestones.seconds["summary"] = round(progress.elapsed, 1)
    return summarise(platform, since, milestones.seconds, optimum)


def _start(
    platform: Platform, supervisor: Supervisor, startup: Startup, progress: Progress, was_running: bool
) -> None:
    try:
        _bring_up(platform, startup, progress)
        _wait_for_model(platform, supervisor, progress)
        _run_dags(platform, supervisor, startup, progress)
    except (StartFailed, ConfigurationError):
        if not was_running:
            progress.close()
            supervisor.shut_down()
        raise


def _bring_up(platform: Platform, startup: Startup, progress: Progress) -> None:
    # MLflow takes longest to start: history is written meanwhile.
    startup.database.result()
    # Days that are there already are skipped, so one that was interrupted is completed.
    if not has_model(platform.database_url("readonly")):
        with progress.step(f"write {HISTORY_DAYS} days of simulated history"):
            run_job(platform, "producer", ["fraud_producer", "backfill", "--days", str(HISTORY_DAYS)])
    startup.mlflow.result()
    startup.broker.result()
    if champion(platform) is None:
        with progress.step("train the first model"):
            run_job(platform, "trainer", ["fraud_trainer", "run"])
    startup.start("api")
    startup.start(gateway.NAME)


def champion(platform: Platform) -> str | None:
    """The version the champion alias names, if there is one."""
    url = (
        f"{platform.stack.mlflow.tracking_uri}/api/2.0/mlflow/registered-models/alias"
        f"?name={platform.registered_model}&alias={ALIAS_CHAMPION}"
    )
    request = urllib.request.Request(url, headers=_mlflow_login(platform))  # noqa: S310 - our own server
    try:
        with probes.direct().open(request, timeout=30) as answer:
            return str(json.load(answer)["model_version"]["version"])
    except urllib.error.HTTPError as error:
        error.close()
        # Neither the model nor the alias is there yet.
        if error.code in (400, 404):
            return None
        raise StartFailed(f"mlflow answers {error.code} to the question for the champion.") from None
    except (OSError, ValueError, LookupError) as error:
        raise StartFailed(f"mlflow does not name the champion ({type(error).__name__}).") from None


def _mlflow_login(platform: Platform) -> dict[str, str]:
    login = f"{MLFLOW_PERSON}:{platform.secret(mlflow_password(MLFLOW_PERSON))}"
    return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


def _wait_for_model(platform: Platform, supervisor: Supervisor, progress: Progress) -> None:
    with progress.step("load the model into the API"):
        deadline = time.monotonic() + _READY_S
        while not probes.http_ok(platform.addresses.api, "/health/ready"):
            if time.monotonic() > deadline:
                raise StartFailed(f"api took up no model.\n{tail(supervisor.log('api'))}")
            time.sleep(0.2)


def _run_dags(platform: Platform, supervisor: Supervisor, startup: Startup, progress: Progress) -> None:
    startup.airflow.result()
    startup.start(SCHEDULER)
    api = AirflowApi(platform.airflow())
    with progress.step("unpause the real-time DAGs"):
        for dag_id in DAGS_REAL_TIME:
            _wait(partial(api.known, dag_id), f"{dag_id} is not known to airflow", api, supervisor)
            api.pause(dag_id, paused=False)
    startup.start(WATCH)


def _watch_live(
    platform: Platform, supervisor: Supervisor, progress: Progress, since: datetime, milestones: Milestones
) -> dict[str, Any]:
    """Wait for decisions by the DAGs, then for a burst to be scored; the optimum of the population."""
    api = AirflowApi(platform.airflow())
    url = platform.database_url("readonly")

    def wait_for(count: int, what: str) -> None:
        _wait(lambda: decided_since(url, since) >= count, what, api, supervisor)

    with progress.step("wait for the first decisions of the DAGs"):
        wait_for(1, "the DAGs stored no decision")
    milestones.seconds["first_decision"] = round(progress.elapsed, 1)
    with progress.step(f"produce a burst of {BURST:,} transactions"):
        result = run_job(platform, "producer", ["fraud_producer", "generate", "--count", str(BURST)])
    with progress.step("wait until the DAG has scored the burst"):
        wait_for(BURST, "the DAGs did not score the burst")
    return dict(result["optimum"])


def _wait(done: Callable[[], bool], otherwise: str, api: AirflowApi, supervisor: Supervisor) -> None:
    deadline, last_error = time.monotonic() + _PATIENCE_S, ""
    while time.monotonic() < deadline:
        try:
            if done():
                return
            last_error = ""
        except StartFailed as error:
            # On a busy machine one answer may take too long: that is a "not yet".
            last_error = f"{error}\n"
        time.sleep(0.2)
    reasons = last_error or _reasons(api)
    raise StartFailed(f"{otherwise} in {_PATIENCE_S} s.\n{reasons}{tail(supervisor.log(SCHEDULER))}")


def _reasons(api: AirflowApi) -> str:
    """What Airflow itself says is wrong."""
    lines = [f"{name}: {text.strip().splitlines()[-1]}" for name, text in api.import_errors().items()]
    for dag_id in DAGS_REAL_TIME:
        for run in api.runs(dag_id, limit=3) if api.known(dag_id) else ():
            states = api.tasks(dag_id, run.run_id)
            lines += [
                f"{dag_id} {run.run_id}: {name} {state}"
                for name, state in states.items()
                if state == "failed"
            ]
    return "".join(f"{line}\n" for line in lines)
