"""The query plans of the store's statements, at several sizes of the tables.

    ./fraud bench plans [--rows 10000,5000000] [--write]

Starts its own Postgres, fills a database for each size, and makes the server log the plan of every statement
inside the store's functions, in a session that made its plans while the tables were empty. Exits with 1 if at
the largest size a statement reads a whole table. `--write` puts the plans into docs/results/plans.md.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import Any, Final
from uuid import uuid4

from psycopg2.extensions import connection as Connection  # noqa: N812

from fraud_adapters.postgres import connect
from fraud_adapters.postgres.labels import store_labels
from fraud_adapters.postgres.scored_transactions import store_scored, store_transactions
from fraud_core.batch import Batch
from fraud_core.labels import LabelEvent
from tests.benchmarks import machine
from tests.benchmarks.database import durable_template, fill
from tests.benchmarks.store import new_batch
from tests.support.servers import Database, cloned_database
from tests.support.stored_rows import CREDITCARD, predictions

FEW: Final = 10
MANY: Final = 500
WIDTH: Final = 140
FOREIGN_KEY: Final = 9  # lines; shorter plans that lock a row are foreign-key checks
# They have as many rows as the configuration has sources, or one.
SMALL: Final = frozenset({"label_sources", "audit_head"})
_SCAN: Final = re.compile(r"(?:Seq Scan|Index (?:Only )?Scan using \S+|Bitmap Index Scan) on (\w+)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default="10000,5000000", help="transactions that are there")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    sizes = sorted(map(int, options.rows.split(",")))
    plans: dict[int, dict[str, str]] = {}
    with durable_template() as template:
        for rows in sizes:
            with cloned_database(template, "plans") as database:
                plans[rows] = measure(database, rows)
            print(
                f"## {rows:,} transactions\n\n" + "\n\n".join(map(section, plans[rows].items())), flush=True
            )
        origin = machine.origin(template.url("owner"))
    summary = table({rows: pages(plans[rows]) for rows in sizes})
    print(summary)
    if options.write:
        head = f"# Plans of the store\n\n    {machine.command()}\n\n{origin}\n\n{INTRODUCTION}\n\n"
        (machine.RESULTS / "plans.md").write_text(f"{head}{summary}\n", encoding="utf-8")
    wrong = [line for plan in plans[sizes[-1]].values() for line in whole_tables(plan)]
    for line in wrong:
        print(line, file=sys.stderr)
    sys.exit(1 if wrong else 0)


INTRODUCTION: Final = """\
How each statement inside the store's functions reads tables, in a session that made its plans while the
tables were empty, and how many pages of a table or index it touches, all rows together. The transactions
are new, known already, have labels that came before them, or are history without a decision. The functions of
labels plan at each call, so that of a small table they may read the whole. Inserts and the checks of foreign
keys go by index in any case and are left out."""


def measure(database: Database, rows: int) -> dict[str, str]:
    """The plans for each way of storing."""
    with closing(connect(database.url("admin"), "plans")) as connection:
        for count in (FEW, MANY):  # this call plans the statements, on empty tables
            for _ in range(2):
                everything(connection, count)
        with connection, connection.cursor() as cursor:
            cursor.execute("DELETE FROM alert_outbox")
        fill(database, rows)
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "LOAD 'auto_explain'; SET client_min_messages = log; SET auto_explain.log_min_duration = 0;"
                "SET auto_explain.log_nested_statements = on; SET auto_explain.log_analyze = on;"
                "SET auto_explain.log_buffers = on; SET auto_explain.log_timing = off"
            )
        return {
            f"{name}, {count} rows": plan
            for count in (FEW, MANY)
            for name, plan in everything(connection, count).items()
        }


def everything(connection: Connection, count: int) -> dict[str, str]:
    """Store `count` rows in each way; returns the server's plans."""
    fresh, labelled, history = new_batch(count), new_batch(count), new_batch(count)
    labels = [LabelEvent(str(uuid4()), one, 0, "simulator", labelled.event_times[0]) for one in labelled.ids]

    def scored(rows: Batch) -> Callable[[Any], object]:
        decided = predictions(CREDITCARD, rows, "block")
        return lambda cursor: store_scored(cursor, CREDITCARD, rows, decided, "benchmark")

    return {
        name: logged(connection, work)
        for name, work in {
            "new": scored(fresh),
            "known": scored(fresh),
            "labels before their transactions": lambda cursor: store_labels(cursor, labels),
            "new, with labels": scored(labelled),
            "history": lambda cursor: store_transactions(cursor, CREDITCARD, history, "benchmark"),
            "history gets decisions": scored(history),
        }.items()
    }


def logged(connection: Connection, work: Callable[[Any], object]) -> str:
    notices: list[str] = []
    connection.notices = notices  # the driver's own list keeps the last fifty
    with connection, connection.cursor() as cursor:
        work(cursor)
    plans = [shortened(notice) for notice in notices if _SCAN.search(notice)]
    first: dict[str, str] = {}
    for plan in plans:
        first.setdefault(shape(plan), plan)
    runs = Counter(map(shape, plans))
    return "\n\n".join(f"{runs[known]} x\n{plan}" for known, plan in first.items())


def shape(plan: str) -> str:
    return re.sub(r"[0-9.]+", "", plan)


def shortened(notice: str) -> str:
    """The plan without the statement's text, which is in the migrations, and without a batch's values."""
    lines = notice.splitlines()
    begin = next(number for number, line in enumerate(lines) if "(cost=" in line)
    return "\n".join(line[:WIDTH].rstrip() for line in lines[begin:])


def pages(plans: dict[str, str]) -> dict[tuple[str, str], int]:
    """Pages touched, by way of storing and by table access."""
    counts: dict[tuple[str, str], int] = {}
    for name, plan in plans.items():
        for one in plan.split("\n\n"):
            lines = one.splitlines()
            if lines[1].startswith("LockRows") and len(lines) < FOREIGN_KEY:
                continue
            for number, line in enumerate(lines):
                match = _SCAN.search(line)
                if match is None or match[1] in SMALL or "never executed" in line:
                    continue
                depth = len(line) - len(line.lstrip())
                own = itertools.takewhile(
                    lambda other, depth=depth: len(other) - len(other.lstrip()) > depth,  # type: ignore[misc]
                    lines[number + 1 :],
                )
                buffers = next((other for other in own if "Buffers:" in other), "")
                key = (name, match[0].replace("using ", ""))
                counts[key] = max(
                    counts.get(key, 0), sum(map(int, re.findall(r"(?:hit|read)=(\d+)", buffers)))
                )
    return counts


def table(sizes: dict[int, dict[tuple[str, str], int]]) -> str:
    keys = dict.fromkeys(key for counts in sizes.values() for key in counts)
    rows = [[*key, *(counts.get(key, "") for counts in sizes.values())] for key in keys]
    return machine.table(["stored", "read by", *(f"pages of {rows:,}" for rows in sizes)], rows)


def whole_tables(plan: str) -> list[str]:
    """Parts of a plan that read all of a table, with or without an index."""
    lines = plan.splitlines()
    scans = []
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        match = _SCAN.search(line)
        if match is None or match[1] in SMALL:
            continue
        if "Seq Scan" in line or "Index Cond" not in after:
            scans.append(line.strip())
    return scans


def section(named: tuple[str, str]) -> str:
    name, plan = named
    return f"### {name}\n\n```\n{plan}\n```"


if __name__ == "__main__":
    main()
