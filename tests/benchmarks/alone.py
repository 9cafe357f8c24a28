"""A benchmark with a floor on servers of its own, as `./fraud bench NAME` runs it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

from tests.benchmarks import machine, rounds
from tests.benchmarks.servers import Servers, running


def measure_alone(
    run: Callable[[Servers, argparse.Namespace], dict[str, Any]], chosen: argparse.Namespace
) -> None:
    """Start the servers, say on which machine, measure, and save the figures where they are wanted."""
    os.environ["FRAUD_CONTRACT"] = "creditcard"
    with running(rounds.creditcard()) as servers:
        origin = machine.origin(servers.stack.postgres.url())
        print(f"{origin} Load before: {machine.load():.1f}.\n", flush=True)
        result = run(servers, chosen)
    rounds.save(chosen.json, result | {"origin": origin})
