"""`/predict/batch`: many transactions a request, as JSON and as Arrow, beside FastAPI and XGBoost by hand.

    ./fraud bench batch [--rows 500] [--connections 1,4] [--seconds 3] [--repeat 5] [--quick]

Nothing is stored. Starts its own servers. The floor is a small FastAPI application that reads a JSON list by
the same Pydantic model and scores it by the same XGBoost model. All take turns on one core; what sends the
requests has another. Every answer must hold a prediction for each row.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import orjson
import psutil

from fraud_adapters.columnar import MEDIA_TYPE as ARROW
from fraud_adapters.columnar import answer_from_ipc, batch_to_ipc
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from tests.benchmarks import cores, http_load, machine, rounds
from tests.benchmarks.alone import measure_alone
from tests.benchmarks.fastapi_floor import serving
from tests.benchmarks.http_load import Target
from tests.benchmarks.meter import cpu_seconds
from tests.benchmarks.rounds import Run, median, spread
from tests.benchmarks.servers import Servers

QUICK: Final = {"seconds": 0.6, "repeat": 3, "connections": "1"}
WARM_UP_SHARE: Final = 0.3
LIST, COLUMNS, FLOOR = "the API, JSON list", "the API, Arrow columns", "FastAPI + XGBoost, JSON list"
# On a core that others use too a server of several threads gets more of it: then CPU says more than speed.
COMPARED: Final = (("JSON list to FastAPI + XGBoost", LIST, FLOOR), ("columns to JSON list", COLUMNS, LIST))
PATH: Final = "/predict/batch"


@dataclass(frozen=True, slots=True)
class Kind:
    """One of those that take turns."""

    name: str
    pid: int
    target: Target


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = rounds.parser(__doc__)
    parser.add_argument("--rows", type=int, default=500, help="transactions of each request")
    parser.add_argument("--connections", default="1,4")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each measurement")
    parser.add_argument("--repeat", type=int, default=5, help="measurements of each kind")
    return rounds.parsed(parser, arguments, QUICK)


def main() -> None:
    measure_alone(run, options(sys.argv[1:]))


def run(servers: Servers, chosen: argparse.Namespace) -> dict[str, Any]:
    """All measurements; prints them and a table, and gives them."""
    runs: list[Run] = []
    log = servers.api.log.with_name("scoring.log")
    with serving("scoring", servers.model, "", log) as floor, ExitStack() as until_the_end:
        api, token = servers.api.port, servers.api.token()
        listed, columns = list_body(chosen.rows), columnar_body(rounds.creditcard(), chosen.rows)
        json_head, arrow_head = http_load.head(PATH, token), http_load.head(PATH, token, ARROW)
        width = len(rounds.creditcard().features)
        kinds = [
            Kind(LIST, servers.pids["api"], Target(api, json_head, listed, lists(chosen.rows))),
            Kind(COLUMNS, servers.pids["api"], Target(api, arrow_head, columns, tables(width, chosen.rows))),
            Kind(FLOOR, floor.pid, Target(floor.port, json_head, listed, lists(chosen.rows))),
        ]
        for kind in kinds[1:]:  # the first two are one process
            until_the_end.enter_context(cores.pinned(kind.pid, cores.MEASURED))
        for _, connections in itertools.product(range(chosen.repeat), rounds.numbers(chosen.connections)):
            for kind in kinds:
                runs.append(measure(kind, connections, chosen.seconds, chosen.rows))
                print(line(runs[-1]), flush=True)
    text, ratios = report(runs)
    print(f"\n{text}")
    return {"rows": chosen.rows, "runs": runs, "ratios": ratios, "load": machine.load()}


def measure(kind: Kind, connections: int, seconds: float, rows: int) -> Run:
    with cores.on_core(cores.GENERATOR):
        http_load.closed_loop(kind.target, connections, seconds * WARM_UP_SHARE)
        process = psutil.Process(kind.pid)
        before = cpu_seconds(process)
        load = http_load.closed_loop(kind.target, connections, seconds)
        cpu = cpu_seconds(process) - before
    answered = len(load.latencies)
    p50, p99 = np.percentile(np.array(load.latencies) * 1000, [50, 99])
    return {
        "kind": kind.name,
        "connections": connections,
        "rows_per_second": round(answered * rows / load.seconds),
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
        "cpu_us_per_row": round(cpu * 1e6 / (answered * rows), 2),
        "generator_busy": round(load.cpu / load.seconds, 2),
    }


def list_body(rows: int) -> itertools.cycle[bytes]:
    """The same list again and again: nothing is stored, so ids may repeat."""
    records = http_load.creditcard_records(rows)
    listed = [{"transaction_id": f"list-{row}", **record} for row, record in enumerate(records)]
    return itertools.cycle([orjson.dumps({"transactions": listed})])


def columnar_body(contract: Contract, rows: int) -> itertools.cycle[bytes]:
    """The same transactions as an Arrow stream."""
    records = http_load.creditcard_records(rows)
    columns = {name: np.array([record[name] for record in records]) for name in records[0]}
    ids = [f"columns-{row}" for row in range(rows)]
    batch = Batch(ids, [datetime.now(UTC)] * rows, columns)
    return itertools.cycle([batch_to_ipc(contract, batch)])


def lists(rows: int) -> Any:
    """Whether an answer holds so many predictions."""
    return lambda body: body.count(b'"score":') == rows


def tables(width: int, rows: int) -> Any:
    """Whether an answer is an Arrow stream of so many predictions; read once, then known by length."""
    good: set[int] = set()

    def accepts(body: bytes) -> bool:
        if len(body) not in good:
            answer_from_ipc(body, width, rows)
            good.add(len(body))
        return True

    return accepts


def line(run: Run) -> str:
    return (
        f"{run['connections']:2} connections, {run['kind']:28}: {run['rows_per_second']:7} rows/s, "
        f"p50 {run['p50_ms']:7.2f} ms, p99 {run['p99_ms']:7.2f} ms, {run['cpu_us_per_row']:6.2f} µs a row"
    )


def report(runs: list[Run]) -> tuple[str, dict[str, Any]]:
    """A table of medians, and the ratios to the floor."""
    groups: dict[tuple[int, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run["connections"], run["kind"]), []).append(run)
    head = ["connections", "server", "rows/s", "p50 ms", "p99 ms", "its CPU µs a row", "generator busy"]
    table = [
        [
            *(connections, kind, spread(run["rows_per_second"] for run in own)),
            *(spread((run[name] for run in own), 1) for name in ("p50_ms", "p99_ms")),
            *(f"{median(own, 'cpu_us_per_row'):.1f}", f"{median(own, 'generator_busy'):.2f}"),
        ]
        for (connections, kind), own in groups.items()
    ]
    ratios = {
        str(connections): {
            f"{figure}, {name}": round(
                median(groups[connections, one], figure) / median(groups[connections, other], figure), 2
            )
            for name, one, other in COMPARED
            for figure in ("rows_per_second", "cpu_us_per_row")
        }
        for connections in dict.fromkeys(connections for connections, _ in groups)
    }
    lines = [
        f"{connections} connections: {', '.join(f'{name} {value}' for name, value in ratio.items())}"
        for connections, ratio in ratios.items()
    ]
    return machine.table(head, table) + "\n\n" + "\n".join(lines), ratios


if __name__ == "__main__":
    main()
