"""Finds the deployment that a verb is about, and describes it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from config.job_results.rollout import FindingResult, ReleaseResult
from fraud_adapters.deployments_client import ENDED, Deployment, DeploymentsClient
from fraud_adapters.job.failures import LastingFailure


class NoDeployment(LastingFailure):
    """None was opened by the run, or none is running; one sentence."""


def find(api: DeploymentsClient, options: argparse.Namespace) -> Deployment:
    """The deployment that the options name, or the one that is running.

    Raises:
        DeploymentNotFound: none has that number.
        NoDeployment: the run opened none, or none is named and none is running.
    """
    if options.deployment_id is not None:
        return api.get(options.deployment_id)
    latest = api.latest()
    if options.run_id is not None:
        chosen = next((one for one in latest if one["run_id"] == options.run_id), None)
        if chosen is None:
            raise NoDeployment(f"The run {options.run_id} has opened no deployment.")
    else:
        chosen = next((one for one in latest if one["state"] not in ENDED), None)
        if chosen is None:
            raise NoDeployment("No deployment is running: name one by --deployment-id.")
    return api.get(chosen["deployment_id"])


def described(deployment: Deployment, text: str) -> ReleaseResult:
    """What every result says of a deployment."""
    return {
        "status": "done",
        "deployment_id": deployment["deployment_id"],
        "version": deployment["version"],
        "previous_version": deployment["previous_version"],
        "state": deployment["state"],
        "traffic_percent": deployment["traffic_percent"],
        "text": text,
    }


def findings_of(deployment: Deployment) -> list[FindingResult]:
    """The checks of the validation, as the deployment keeps them."""
    return list((deployment.get("findings") or {}).get("checks") or [])


def latest_verdict(deployment: Deployment) -> Mapping[str, Any] | None:
    """The details of the newest event `judged`, or None if the deployment was never judged."""
    judged = [event for event in deployment.get("events", []) if event["kind"] == "judged"]
    return judged[-1]["details"] if judged else None
