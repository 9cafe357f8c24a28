"""What a canary and a shadow cost: `/predict` and columnar batches with and without them, in turns.

    ./fraud bench release_cost [--seconds 3] [--repeat 5] [--connections 1,16] [--quick] [--write]

One API on one core, the load generator on the other, durable Postgres. The release is opened and moved by the
API's own routes; canary and shadow are versions as large as the champion. `--write` puts what it prints into
docs/results/release-cost.md.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
from mlflow import MlflowClient

from config import constants
from fraud_adapters.columnar import MEDIA_TYPE as ARROW
from fraud_adapters.models.registry import Registry
from fraud_db.bootstrap import clone_database
from tests.benchmarks import cores, http_load, machine, rounds
from tests.benchmarks.batch import PATH, columnar_body, tables
from tests.benchmarks.http_load import Target
from tests.benchmarks.reload import publish
from tests.benchmarks.rounds import Run
from tests.benchmarks.servers import TEMPLATE, Servers, running, start_registry
from tests.support.api_server import ApiServer

QUICK: Final = {"seconds": 1.0, "repeat": 1, "connections": "1,16"}
ROWS: Final = 1000  # of a columnar batch, as the stream sends
SETTLE_SECONDS: Final = 20.0
PAIRED: Final = {
    "frauds": 3000,
    "both": 2900,
    "champion_only": 10,
    "candidate_only": 10,
    "legitimate": 20_000,
    "false_both": 100,
    "false_champion_only": 5,
    "false_candidate_only": 5,
}


@dataclass(frozen=True, slots=True)
class Mode:
    """What serves beside the champion."""

    name: str
    percent: int = 0
    shadow: bool = False


MODES: Final = (
    Mode("champion alone"),
    Mode("canary 10 %", percent=10),
    Mode("canary 50 %", percent=50),
    Mode("shadow", shadow=True),
    Mode("canary 10 % and shadow", percent=10, shadow=True),
)


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = rounds.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each measurement")
    parser.add_argument("--connections", default="1,16")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="write docs/results/release-cost.md")
    return rounds.parsed(parser, arguments, QUICK)


def main() -> int:
    chosen = options(sys.argv[1:])
    os.environ["FRAUD_CONTRACT"] = "creditcard"
    contract, load = rounds.creditcard(), machine.load()
    with running(contract) as servers, ExitStack() as until_the_end:
        start_registry(servers, until_the_end)
        servers.api.stop()
        folder = Path(until_the_end.enter_context(tempfile.TemporaryDirectory()))
        runs = measure_all(servers, folder, chosen)
        origin = machine.origin(servers.stack.postgres.url())
    text = report(runs, origin, load)
    print(text)
    rounds.save(chosen.json, {"runs": runs})
    if chosen.write:
        (machine.RESULTS / "release-cost.md").write_text(text + "\n", encoding="utf-8")
    return 0


def measure_all(servers: Servers, folder: Path, chosen: argparse.Namespace) -> list[Run]:
    contract, postgres = rounds.creditcard(), servers.stack.postgres
    uri, name = servers.stack.mlflow.tracking_uri, rounds.creditcard().registered_model
    clone_database(postgres.url(), TEMPLATE, "benchmark_release", constants.ROLE_OWNER)
    owner = postgres.url(constants.ROLE_OWNER, servers.passwords.owner, "benchmark_release")
    versions = [publish(uri, owner, contract, folder / str(seed), seed) for seed in (1, 2)]
    url = postgres.url(constants.SERVICE_ROLES["api"], servers.passwords.services["api"], "benchmark_release")
    api = ApiServer(url, folder / "models", folder / "api.log", contract.name, {"MLFLOW_TRACKING_URI": uri})
    runs: list[Run] = []
    with Registry(uri) as registry:
        registry.set_alias(name, constants.ALIAS_CHAMPION, versions[0])
        api.start()
        assert api.process is not None
        try:
            with cores.pinned(api.process.pid, cores.MEASURED):
                for _, mode in itertools.product(range(chosen.repeat), MODES):
                    switch(api, registry, uri, versions[1], mode)
                    runs += measure(api, mode, chosen)
        finally:
            api.stop()
    return runs


def switch(api: ApiServer, registry: Registry, uri: str, version: str, mode: Mode) -> None:
    """End the release that runs, and begin the one of the mode."""
    name = rounds.creditcard().registered_model
    with api.client("admin") as admin:
        for release in admin.get("/deployments").json()["deployments"]:
            if release["ended_at"] is None:
                admin.post(f"/deployments/{release['deployment_id']}/abort").raise_for_status()
        if mode.percent:
            release = admin.post("/deployments", json={"version": version}).raise_for_status().json()
            number = release["deployment_id"]
            move(admin, number, "validation", {"passed": True, "reason": "benchmark", "paired": PAIRED})
            move(admin, number, "traffic", {"percent": mode.percent})
        if mode.shadow:
            registry.set_alias(name, constants.ALIAS_SHADOW, version)
        else:
            MlflowClient(uri).delete_registered_model_alias(name, constants.ALIAS_SHADOW)
    settled(lambda: api.metric("fraud_api_canary_percent") == mode.percent)
    settled(lambda: (api.metric("fraud_api_shadow_loaded") == 1) == mode.shadow)


def move(admin: httpx.Client, number: int, to: str, body: dict[str, Any]) -> None:
    admin.post(f"/deployments/{number}/{to}", json=body).raise_for_status()


def settled(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the API does not follow")
        time.sleep(0.05)


def measure(api: ApiServer, mode: Mode, chosen: argparse.Namespace) -> list[Run]:
    token, runs = api.token(), []
    single = Target(
        api.port,
        http_load.head("/predict", token),
        http_load.unused_bodies(),
        lambda body: b'"replayed":false' in body,
    )
    contract = rounds.creditcard()
    columns = Target(
        api.port,
        http_load.head(PATH, token, ARROW),
        columnar_body(contract, ROWS),
        tables(len(contract.features), ROWS),
    )
    for connections in rounds.numbers(chosen.connections):
        runs.append(figures(mode, f"/predict, {connections} connections", single, connections, 1, chosen))
    runs.append(figures(mode, f"columns, {ROWS} rows", columns, 1, ROWS, chosen))
    return runs


def figures(  # noqa: PLR0917
    mode: Mode, door: str, target: Target, connections: int, rows: int, chosen: argparse.Namespace
) -> Run:
    with cores.on_core(cores.GENERATOR):
        http_load.closed_loop(target, connections, chosen.seconds * 0.3)
        load = http_load.closed_loop(target, connections, chosen.seconds)
    p50, p99 = np.percentile(np.array(load.latencies) * 1000, [50, 99])
    run = {
        "mode": mode.name,
        "door": door,
        "per_second": len(load.latencies) * rows / load.seconds,
        "p50": float(p50),
        "p99": float(p99),
    }
    print(f"{mode.name:25} {door:25} {run['per_second']:>9,.0f}/s p50 {p50:.2f} p99 {p99:.2f} ms", flush=True)
    return run


def report(runs: list[Run], origin: str, load: float) -> str:
    rows = []
    for door in dict.fromkeys(run["door"] for run in runs):
        alone = [run for run in runs if (run["door"], run["mode"]) == (door, MODES[0].name)]
        for mode in MODES:
            mine = [run for run in runs if (run["door"], run["mode"]) == (door, mode.name)]
            ratios = [
                f"{rounds.median(mine, figure) / rounds.median(alone, figure):.2f}"
                for figure in ("per_second", "p50", "p99")
            ]
            rows.append(
                [
                    door,
                    mode.name,
                    rounds.spread(run["per_second"] for run in mine),
                    rounds.spread((run["p50"] for run in mine), 2),
                    rounds.spread((run["p99"] for run in mine), 2),
                    *ratios,
                ]
            )
    head = ["door", "beside the champion", "a second", "p50 ms", "p99 ms", "÷ alone: a second", "p50", "p99"]
    return f"""# What a canary and a shadow cost

`{machine.command()}`

{origin} Load average before: {load:.2f}. Medians of the turns; in brackets the least and the most.

{machine.table(head, rows)}"""


if __name__ == "__main__":
    raise SystemExit(main())
