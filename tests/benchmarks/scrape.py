"""Reads a follower's metrics; has few imports, because the producer uses it too."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Final

TOPIC: Final = "benchmark-transactions"
STORED: Final = ("fraud_stream_records_total", f'topic="{TOPIC}"', 'outcome="stored"')
PARTITIONS: Final = ("fraud_stream_partitions", f'topic="{TOPIC}"')


def metric(url: str, name: str, *labels: str) -> float:
    """The sum over all series with these labels; 0 without such a series or without an answer."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own address
            lines = answer.read().decode().splitlines()
    except (urllib.error.URLError, OSError):
        return 0.0
    samples = [line.rpartition(" ") for line in lines if line.partition("{")[0] == name]
    return sum(float(value) for series, _, value in samples if all(label in series for label in labels))
