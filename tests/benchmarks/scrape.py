"""Reads a follower's metrics; has few imports, because the producer uses it too."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Final

TOPIC: Final = "benchmark-transactions"


def stored(url: str, topic: str) -> float:
    """How many transactions of a topic it has stored."""
    return metric(url, "fraud_stream_records_total", f'topic="{topic}"', 'outcome="stored"')


def partitions(url: str, topic: str) -> float:
    """How many partitions of a topic it holds."""
    return metric(url, "fraud_stream_partitions", f'topic="{topic}"')


def metric(url: str, name: str, *labels: str) -> float:
    """The sum over all series with these labels; 0 without such a series or without an answer."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own address
            lines = answer.read().decode().splitlines()
    except (urllib.error.URLError, OSError):
        return 0.0
    samples = [line.rpartition(" ") for line in lines if line.partition("{")[0] == name]
    return sum(float(value) for series, _, value in samples if all(label in series for label in labels))
