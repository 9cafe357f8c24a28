"""The verb `drift`: measures, decides, stores, and leaves for `save-drift` what the report needs."""

from __future__ import annotations

import argparse
from datetime import datetime
from time import monotonic

import pyarrow as pa

from config.job_results.monitor import DriftResult, MovedFeature
from fraud_adapters.job.logs import get_logger
from fraud_core import profile as profiles
from fraud_core.drift.verdict import Verdict
from fraud_monitor.drift.labelling import compare_estimates
from fraud_monitor.drift.measuring import Findings, measure
from fraud_monitor.drift.storing import store
from fraud_monitor.run_context import RunContext

SAMPLE = "sample.parquet"


def drift(context: RunContext, _options: argparse.Namespace) -> DriftResult:
    """Compare what was scored with the champion's reference profile."""
    started = monotonic()
    found = measure(context)
    stored = store(context, found)
    compared = compare_estimates(context, found.now)
    verdict = found.verdict
    result: DriftResult = {
        "status": "done",
        "dag": context.run.dag,
        "run_id": context.run.run_id,
        "prefix": context.run.prefix,
        "champion": found.champion.version if found.champion else None,
        "severity": verdict.severity,
        "data": verdict.data,
        "target": verdict.target,
        "concept": verdict.concept,
        "title": verdict.title,
        "text": verdict.text,
        "unknown": list(verdict.unknown),
        "moved": _moved(verdict, found),
        "rows": {window.name: window.rows for window in found.windows},
        "step": stored.response.step,
        "held_back": stored.response.held_back,
        "trigger": stored.trigger,
        "metrics_stored": stored.rows,
        "estimates_compared": compared,
        "seconds": round(monotonic() - started, 2),
    }
    _leave(context, found, result)
    get_logger(__name__).info("drift", severity=verdict.severity, title=verdict.title, text=verdict.text)
    return result


def _moved(verdict: Verdict, found: Findings) -> list[MovedFeature]:
    return [
        {
            "name": one.name,
            "psi": round(one.psi or 0.0, 4),
            "how": str(one.movement),
            "since": _iso(found.since.get(one.name)),
            "importance": found.importance.get(one.name) if found.importance else None,
        }
        for one in verdict.top
    ]


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _leave(context: RunContext, found: Findings, result: DriftResult) -> None:
    """Store the verdict, the sample and the profile in the run's folder."""
    outcome: dict[str, object] = {**result, "figures": figures(found), "files": {}}
    if found.sample is not None and found.champion is not None and found.champion.profile is not None:
        table = pa.table(
            {
                **{f"f{k}": column for k, column in enumerate(found.sample.features.T)},
                "score": found.sample.scores,
            }
        )
        outcome["files"] = {
            SAMPLE: context.run.put_table(SAMPLE, table),
            profiles.FILE_NAME: context.run.put(profiles.FILE_NAME, found.champion.profile.to_json()),
        }
    context.run.finish(context.run.seal("drift", outcome))


def figures(found: Findings) -> dict[str, float | None]:
    """What MLflow draws over time."""
    values: dict[str, float | None] = {"fraud_rate": found.fraud_rate.value}
    values |= {one.metric: one.value for one in found.performance}
    for window in found.windows:
        name = window.name.replace(" ", "_")
        values |= {f"psi_{one.name}_{name}": one.psi for one in window.features}
        values[f"drifted_share_{name}"] = window.share
        values[f"predicted_rate_{name}"] = window.predicted_rate.value
        values |= {f"estimated_{one.metric}_{name}": one.value for one in window.estimates}
    return values
