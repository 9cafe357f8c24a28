"""What storing decisions costs: the store beside the same columns written by hand.

    ./fraud bench store [--rows 1,10,100,500,1000] [--repeat 30] [--filled 100000] [--write]

Starts its own durable Postgres. The floors: two prepared INSERTs a row and a commit, and a COPY into each
table and a commit; neither looks for conflicts, labels or alerts. All take turns on one database. Prints a
table and, as the last line, JSON. `--write` puts the table into docs/results/store.md.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from fraud_adapters.postgres import connect
from fraud_adapters.postgres.scored_transactions import store_scored
from fraud_core.batch import Batch
from fraud_core.predictions import Predictions
from tests.benchmarks import machine
from tests.benchmarks.database import durable_template, fill, processor_ms
from tests.benchmarks.prepared_inserts import NUMBERS, PREDICTION, TRANSACTION, insert, prepare
from tests.support.servers import cloned_database
from tests.support.stored_rows import CREDITCARD, batch, predictions

WARM_UP: Final = 6  # calls of each kind before the first that counts: connection, catalogue and plans
ONE_BY_ONE: Final = 100  # rows; more are only compared with copying
SINGLE_REPEATS: Final = 10  # times as many calls of one row
Write = Callable[[Cursor, Batch, Predictions], None]


@dataclass(slots=True)
class Cost:
    """Of each call, in milliseconds."""

    elapsed: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)
    client: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default="1,10,100,500,1000", help="of one database transaction")
    parser.add_argument(
        "--repeat", type=int, default=30, help="calls of each kind; ten times as many of 1 row"
    )
    parser.add_argument("--filled", type=int, default=100_000, help="transactions that are there before")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    runs = []
    with durable_template() as template, cloned_database(template, "store") as database:
        fill(database, options.filled)
        url = database.url("streaming")
        for rows in map(int, options.rows.split(",")):
            runs += compare(url, rows, options.repeat * (SINGLE_REPEATS if rows == 1 else 1))
        origin = machine.origin(url)
    found = table(runs)
    print(found)
    if options.write:
        path = machine.RESULTS / "store.md"
        head = f"# Storing decisions\n\n    {machine.command()}\n\n{origin}\n\n"
        path.write_text(f"{head}{found}\n", encoding="utf-8")
    print(json.dumps(runs))


def compare(url: str, rows: int, repeat: int) -> list[dict[str, Any]]:
    kinds: dict[str, Write] = {"store": stored}
    if rows <= ONE_BY_ONE:
        kinds["floor: prepared inserts"] = inserted
    if rows > 1:
        kinds["floor: copy"] = copied
    costs = {kind: Cost() for kind in kinds}
    connections = {kind: connect(url, "benchmark") for kind in kinds}
    try:
        for number in range(WARM_UP + repeat):
            for kind, write in kinds.items():
                measure(connections[kind], write, rows, Cost() if number < WARM_UP else costs[kind])
    finally:
        for connection in connections.values():
            connection.close()
    return [summary(kind, rows, cost) for kind, cost in costs.items()]


def measure(connection: Connection, write: Write, rows: int, cost: Cost) -> None:
    made = new_batch(rows)
    predicted = predictions(CREDITCARD, made)
    server, client, started = processor_ms(connection), time.thread_time(), time.perf_counter()
    with connection, connection.cursor() as cursor:
        write(cursor, made, predicted)
    cost.elapsed.append((time.perf_counter() - started) * 1000)
    cost.client.append((time.thread_time() - client) * 1000)
    time.sleep(0.001)  # what the server does after its answer is its cost too
    cost.server.append(processor_ms(connection) - server)


def new_batch(rows: int) -> Batch:
    """Of ids that come in no order, a second apart up to now: too young for silence to mean anything."""
    made = batch(rows, prefix=secrets.token_hex(8))
    now = datetime.now(UTC)
    return Batch(made.ids, [now - timedelta(seconds=number) for number in range(rows)], made.columns)


def stored(cursor: Cursor, made: Batch, predicted: Predictions) -> None:
    if len(store_scored(cursor, CREDITCARD, made, predicted, "benchmark").new_rows) != len(made):
        raise SystemExit("not all rows were new")


def inserted(cursor: Cursor, made: Batch, predicted: Predictions) -> None:
    cursor.execute("SELECT FROM pg_prepared_statements")
    if not cursor.rowcount:
        prepare(cursor)
    for transaction, prediction in table_rows(made, predicted):
        insert(cursor, transaction, prediction)


def copied(cursor: Cursor, made: Batch, predicted: Predictions) -> None:
    transactions, decided = io.StringIO(), io.StringIO()
    one, other = csv.writer(transactions), csv.writer(decided)
    for transaction, prediction in table_rows(made, predicted):
        one.writerow(transaction)
        prediction[5] = "{" + ",".join(map(str, prediction[5])) + "}"
        other.writerow(prediction)
    for table, columns, text in (
        ("transactions", TRANSACTION, transactions),
        ("predictions", PREDICTION, decided),
    ):
        text.seek(0)
        cursor.copy_expert(f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT csv)", text)


def table_rows(made: Batch, predicted: Predictions) -> list[tuple[list[Any], list[Any]]]:
    now = datetime.now(UTC)
    numbers = zip(*(made.columns[name].tolist() for name in NUMBERS), strict=True)
    shared = [1.5, now, predicted.model_version, predicted.role, True, predicted.engine, "0"]
    scores, flags = predicted.scores.tolist(), predicted.predicted.tolist()
    vectors = predicted.feature_vectors.tolist()
    return [
        (
            [made.ids[row], made.event_times[row], *values, "creditcard/1", "benchmark"],
            [
                *(made.ids[row], scores[row], round(scores[row], 4), flags[row], predicted.decisions[row]),
                *(vectors[row], *shared),
            ],
        )
        for row, values in enumerate(numbers)
    ]


def summary(kind: str, rows: int, cost: Cost) -> dict[str, Any]:
    p50, p99 = np.percentile(cost.elapsed, [50, 99])
    return {
        "rows": rows,
        "kind": kind,
        "calls": len(cost.elapsed),
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
        "server_us_per_row": round(float(np.median(cost.server)) * 1000 / rows, 1),
        "client_us_per_row": round(float(np.median(cost.client)) * 1000 / rows, 1),
    }


def table(runs: list[dict[str, Any]]) -> str:
    own = {run["rows"]: run for run in runs if run["kind"] == "store"}
    rows = []
    for run in runs:
        ratio = own[run["rows"]]["p50_ms"] / run["p50_ms"]
        server = own[run["rows"]]["server_us_per_row"] / run["server_us_per_row"]
        ratios = ["", ""] if run["kind"] == "store" else [f"{ratio:.2f}", f"{server:.2f}"]
        figures = ("p50_ms", "p99_ms", "server_us_per_row", "client_us_per_row")
        rows.append([run["rows"], run["kind"], *(run[name] for name in figures), *ratios])
    head = ["rows", "kind", "p50 ms", "p99 ms", "Postgres CPU µs a row", "client CPU µs a row"]
    return machine.table([*head, "store ÷ floor, p50", "store ÷ floor, Postgres CPU"], rows)


if __name__ == "__main__":
    main()
