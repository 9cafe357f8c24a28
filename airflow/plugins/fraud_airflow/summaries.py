"""Formats the results of jobs as readable lines.

Standard library only, because the platform's tests use it to read the results of their jobs.
"""

from __future__ import annotations

from config.job_results.producer import GenerateResult
from config.job_results.streaming import Latency, RunResult


def producer(result: GenerateResult) -> list[str]:
    """How many transactions a run published, and how many labels were due."""
    return [
        f"{result['transactions']} transactions ({result['frauds']} fraudulent) and "
        f"{result['labels_sent']} labels published to {result['topic']}."
    ]


def streaming(result: RunResult) -> list[str]:
    """How many transactions a run stored and decided, and how long that took."""
    labels = result["labels"]
    dead_lettered = sum(result["dead_lettered"].values()) + sum(labels["dead_lettered"].values())
    lines = [
        f"{result['stored']} transactions stored in {result['batches']} batches "
        f"({result['replayed']} known already), lag {_known(result['lag'])}; "
        f"{labels['stored']} labels stored, lag {_known(labels['lag'])}; "
        f"{dead_lettered} dead letters, {result['alerts_published']} alerts published."
    ]
    if result["latency_ms"] is not None:
        lines.append(f"From production to the database: {_milliseconds(result['latency_ms'])}.")
    return lines


def _known(lag: int | None) -> str:
    """The lag is unknown if Kafka did not report the end of the topic in time."""
    return "unknown" if lag is None else str(lag)


def _milliseconds(latency: Latency) -> str:
    return f"p50 {latency['p50']:.0f} ms, p99 {latency['p99']:.0f} ms"
