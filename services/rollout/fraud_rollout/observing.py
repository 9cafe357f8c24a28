"""The verbs that look: where a deployment stands, once or until it ends."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from time import sleep
from typing import Any, Final

from config.job_results.rollout import ListedRelease, StatusResult
from fraud_adapters.deployments_client import ENDED, Deployment
from fraud_adapters.job.logs import get_logger
from fraud_rollout.arguments import Verb, watch_option
from fraud_rollout.chosen_deployment import NoDeployment, find
from fraud_rollout.run_context import RunContext

_LISTED: Final = 10
_CLEAR: Final = "\x1b[H\x1b[2J"  # ANSI: to the upper left corner, clear the screen


def observe(context: RunContext, options: argparse.Namespace) -> StatusResult:
    """Log one line about the deployment; with --watch, one whenever something changes, until it ends.

    Raises:
        NoDeployment: none is named, and none is running.
    """
    deployment = find(context.api, options)
    said = ""
    while True:
        line = one_line(deployment, datetime.now(UTC))
        if line != said:
            get_logger(__name__).info("deployment", line=line)
            said = line
        if not options.watch or deployment["state"] in ENDED:
            return _status([line], [deployment])
        sleep(options.every)
        deployment = context.api.get(deployment["deployment_id"])


def status(context: RunContext, options: argparse.Namespace) -> StatusResult:
    """Show the latest deployments and the chosen or running one; with --watch on one screen until it ends."""
    while True:
        latest = context.api.latest(_LISTED)
        try:
            deployment: Deployment | None = find(context.api, options)
        except NoDeployment:
            if options.run_id is not None:
                raise
            deployment = None
        lines = list(screen(deployment, latest, datetime.now(UTC)))
        # The result is one document on stdout, so that what a person watches goes to stderr.
        shown = "\n".join(lines) + "\n"
        sys.stderr.write((_CLEAR if options.watch and sys.stderr.isatty() else "") + shown)
        sys.stderr.flush()
        if not options.watch or deployment is None or deployment["state"] in ENDED:
            return _status(lines, latest)
        options.deployment_id, options.run_id = deployment["deployment_id"], None
        sleep(options.every)


def one_line(deployment: Deployment, now: datetime) -> str:
    """Where a deployment stands, with the figures of each arm while it has traffic."""
    parts = [
        f"deployment {deployment['deployment_id']}: version {deployment['version']} {deployment['state']}"
    ]
    if deployment["traffic_percent"]:
        parts.append(f"{deployment['traffic_percent']} %")
    if deployment.get("window_ends"):
        parts.append(f"window ends in {_remaining(str(deployment['window_ends']), now)}")
    if evidence := deployment.get("evidence"):
        parts += [f"{arm}: {_arm(evidence[arm])}" for arm in ("control", "canary")]
    if judgement := deployment.get("judgement"):
        parts.append(f"{judgement['verdict']}: {judgement['sentence']}")
    elif deployment["reason"]:
        parts.append(str(deployment["reason"]))
    return "; ".join(parts)


def screen(deployment: Deployment | None, latest: list[Deployment], now: datetime) -> Iterator[str]:
    """The lines of `status`."""
    if deployment is None:
        yield "No deployment is running."
    else:
        yield from _details(deployment, now)
    if latest:
        yield ""
        yield f"{'':>4}  {'version':<9}{'state':<13}{'traffic':>7}  {'started':<20}  reason"
    for one in latest:
        yield (
            f"{one['deployment_id']:>4}  {one['version']:<9}{one['state']:<13}{one['traffic_percent']:>5} %  "
            f"{one['started_at'][:19]:<20}  {(one['reason'] or '')[:80]}"
        ).rstrip()


def _details(deployment: Deployment, now: datetime) -> Iterator[str]:
    yield (
        f"Deployment {deployment['deployment_id']}: version {deployment['version']} is "
        f"{deployment['state']}, {deployment['traffic_percent']} % of the traffic; champion when it began: "
        f"{deployment['previous_version'] or 'none'}."
    )
    if deployment.get("window_ends"):
        yield (
            f"The window ends in {_remaining(str(deployment['window_ends']), now)}, "
            f"extended {deployment['extensions']} times."
        )
    if evidence := deployment.get("evidence"):
        yield ""
        yield f"{'':<9}{'calls':>9}{'errors':>8}{'slow':>7}{'rows':>10}{'flagged':>9}{'share':>9}"
        for arm in ("control", "canary"):
            one = evidence[arm]
            share = f"{one['flagged'] / one['rows']:.2%}" if one["rows"] else "–"
            counts = "".join(
                f"{one[name]:>{width},}"
                for name, width in (("calls", 9), ("errors", 8), ("slow", 7), ("rows", 10), ("flagged", 9))
            )
            yield f"{arm:<9}{counts}{share:>9}"
    if judgement := deployment.get("judgement"):
        yield ""
        yield f"So far: {judgement['verdict']}. {judgement['sentence']}"
        for check in judgement["checks"]:
            yield f"  {check['outcome']:<13}{check['name']}: {check['sentence']}"
    elif deployment["reason"]:
        yield str(deployment["reason"])


def _arm(arm: dict[str, Any]) -> str:
    flagged = f", {arm['flagged'] / arm['rows']:.2%} flagged" if arm["rows"] else ""
    wrong = f", {arm['errors']} errors" if arm["errors"] else ""
    slow = f", {arm['slow']} slow" if arm["slow"] else ""
    return f"{arm['calls']:,} calls, {arm['rows']:,} rows{flagged}{wrong}{slow}"


def _remaining(moment: str, now: datetime) -> str:
    seconds = max(0, round((datetime.fromisoformat(moment) - now).total_seconds()))
    return f"{seconds // 60}:{seconds % 60:02d}"


def _status(lines: list[str], deployments: list[Deployment]) -> StatusResult:
    listed: list[ListedRelease] = [
        {
            "deployment_id": one["deployment_id"],
            "version": one["version"],
            "state": one["state"],
            "traffic_percent": one["traffic_percent"],
            "run_id": one["run_id"],
            "started_at": one["started_at"],
            "ended_at": one["ended_at"],
            "reason": one["reason"],
        }
        for one in deployments
    ]
    return {"status": "done", "lines": lines, "deployments": listed}


VERBS: Final[tuple[Verb, ...]] = (
    Verb("observe", "log where a deployment stands, one line", observe, add_options=watch_option),
    Verb(
        "status", "show the latest deployments, and the running one in full", status, add_options=watch_option
    ),
)
