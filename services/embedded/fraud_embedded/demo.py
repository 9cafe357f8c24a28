"""`make demo`: from nothing to scored transactions, and what they show."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from config.constants import ALIAS_CHAMPION
from config.settings import ConfigurationError
from fraud_embedded import probes
from fraud_embedded.installation import Layout
from fraud_embedded.installed import Platform
from fraud_embedded.jobs import run_job
from fraud_embedded.process import StartFailed, tail
from fraud_embedded.progress import Progress
from fraud_embedded.startup import Startup, prepare
from fraud_embedded.summary import Summary, has_model, summarise
from fraud_embedded.supervision import Supervisor

HISTORY_DAYS: Final = 30
# The first round is what the DAG does every five seconds; the others give the figures some ground.
ROUNDS: Final = (50, 500, 500, 500)
_READY_S: Final = 120


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
        _bring_up(platform, startup, progress)
    except (StartFailed, ConfigurationError):
        if not was_running:
            progress.close()
            supervisor.shut_down()
        raise
    finally:
        startup.close()
    _wait_for_model(platform, supervisor, progress)
    milestones.seconds["ready"] = round(progress.elapsed, 1)
    since = datetime.now(UTC)
    optimum = _score_live(platform, progress, milestones)
    milestones.seconds["summary"] = round(progress.elapsed, 1)
    return summarise(platform, since, milestones.seconds, optimum)


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


def champion(platform: Platform) -> str | None:
    """The version the champion alias names, if there is one."""
    url = (
        f"{platform.stack.mlflow.tracking_uri}/api/2.0/mlflow/registered-models/alias"
        f"?name={platform.registered_model}&alias={ALIAS_CHAMPION}"
    )
    try:
        with _direct().open(url, timeout=30) as answer:
            return str(json.load(answer)["model_version"]["version"])
    except urllib.error.HTTPError as error:
        # Neither the model nor the alias is there yet.
        if error.code in (400, 404):
            return None
        raise StartFailed(f"mlflow answers {error.code} to the question for the champion.") from None
    except (OSError, ValueError, LookupError) as error:
        raise StartFailed(f"mlflow does not name the champion ({type(error).__name__}).") from None


def _direct() -> urllib.request.OpenerDirector:
    """Opens addresses of this machine, whatever proxy the environment names."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _wait_for_model(platform: Platform, supervisor: Supervisor, progress: Progress) -> None:
    with progress.step("load the model into the API"):
        deadline = time.monotonic() + _READY_S
        while not probes.http_ok(platform.addresses.api, "/health/ready"):
            if time.monotonic() > deadline:
                raise StartFailed(f"api took up no model.\n{tail(supervisor.log('api'))}")
            time.sleep(0.2)


def _score_live(platform: Platform, progress: Progress, milestones: Milestones) -> dict[str, Any]:
    """Produce and score in rounds; the optimum of the population they were drawn from."""
    made: dict[str, Any] = {}
    for number, count in enumerate(ROUNDS, start=1):
        with progress.step(f"produce and score {count} transactions ({number}/{len(ROUNDS)})"):
            made = run_job(platform, "producer", ["fraud_producer", "generate", "--count", str(count)])
            result: dict[str, Any] = run_job(platform, "streaming", ["fraud_streaming", "run"])
        milestones.seconds.setdefault("first_decision", round(progress.elapsed, 1))
        if result.get("status") == "nothing_to_do":
            progress.say(f"streaming: {result.get('reason')}")
    return dict(made["optimum"])
