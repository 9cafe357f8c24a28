"""How long the query routes of the API take at a million predictions, and how many bytes a decision costs.

    ./fraud bench queries [--rows 1000000] [--repeat 20] [--write]

Starts its own Postgres, fills it, and asks the API's application, in this process, for pages by each filter:
the first page, and some behind it. Exits with 1 if the p95 of a page, or the bytes, are above their bounds.
`--write` puts the figures into docs/results/queries.md.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any, Final
from urllib.parse import urlencode

import numpy as np
from httpx import ASGITransport, AsyncClient

from fraud_adapters.postgres import connect
from tests.benchmarks import machine
from tests.benchmarks.database import durable_template
from tests.support.api_application import Application
from tests.support.servers import Database, cloned_database
from tests.support.stored_rows import run

BOUND_MS: Final = 300.0
BYTES: Final = 2_000
PAGES_BEHIND: Final = 4  # asked by cursor, one after the other


def queries(now: datetime) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """The route and the filters of each query, by what it is called."""
    day = {"from": (now - timedelta(days=41)).isoformat(), "to": (now - timedelta(days=40)).isoformat()}
    return {
        "no filter": ("/predictions", {}),
        "1,000 rows a page": ("/predictions", {"limit": 1000}),
        "a day 40 days ago": ("/predictions", day),
        "frauds": ("/predictions/frauds", {}),
        "non-frauds": ("/predictions/non-frauds", {}),
        "decision block": ("/predictions", {"decision": "block"}),
        "the oldest model version": ("/predictions", {"model_version": "1"}),
        "a version that never was": ("/predictions", {"model_version": "99"}),
        "scores of 0.5 to 0.6": ("/predictions", {"min_score": 0.5, "max_score": 0.6}),
        "scores that nobody has": ("/predictions", {"min_score": 1}),
        "amounts above 900": ("/predictions", {"min_amount": 900}),
        "amounts that nobody has": ("/predictions", {"min_amount": 1e6}),
        "labelled as frauds": ("/predictions", {"label": 1}),
        "without a label": ("/predictions", {"labelled": "false"}),
        "one card": ("/predictions", {"card_id": "card-77"}),
        "one merchant": ("/predictions", {"merchant_id": "merchant-77"}),
        "blocks of one merchant": ("/predictions", {"merchant_id": "merchant-7", "decision": "block"}),
    }


STATISTICS: Final = {
    "statistics of a day": 1,
    "statistics of a week": 7,
    "statistics of everything": None,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="predictions that are there")
    parser.add_argument("--repeat", type=int, default=20, help="how often each page is asked for")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    load = machine.load()
    with durable_template() as template, cloned_database(template, "queries") as database:
        fill(database, options.rows)
        bytes_a_row = {name: size(database, name) / options.rows for name in ("predictions", "transactions")}
        with tempfile.TemporaryDirectory() as folder:
            application = Application.create(Path(folder), database.url("api"))
            pages, figures = asyncio.run(measure(application, options.repeat))
            application.service.queries.close()
        origin = machine.origin(template.url("owner"))
    rows = [
        [name, *(f"{value:.1f}" for value in np.percentile(times, [50, 95, 100]))]
        for name, times in (pages | figures).items()
    ]
    text = "\n\n".join(
        [
            f"{origin} Load before: {load:.1f}.",
            f"{options.rows:,} predictions; milliseconds of a request, {options.repeat} of the first page and"
            f" of each of {PAGES_BEHIND} pages behind it.",
            machine.table(["query", "p50", "p95", "max"], rows),
            f"A decision costs {bytes_a_row['predictions']:,.0f} bytes in `predictions`, with all that a"
            f" replay needs, and {bytes_a_row['transactions']:,.0f} in `transactions`; both with their"
            " indexes, as pg_total_relation_size has it.",
        ]
    )
    print(text)
    if options.write:
        content = f"# Queries over stored predictions\n\n    {machine.command()}\n\n{text}\n"
        (machine.RESULTS / "queries.md").write_text(content, encoding="utf-8")
    slow = [name for name, times in pages.items() if np.percentile(times, 95) > BOUND_MS]
    large = sum(bytes_a_row.values()) > BYTES
    if slow or large:
        print(f"above the bounds: {', '.join(slow)}{' bytes' if large else ''}", file=sys.stderr)
    sys.exit(1 if slow or large else 0)


async def measure(
    application: Application, repeat: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Milliseconds of the requests, by query: pages, and figures."""
    headers = {"Authorization": f"Bearer {application.token(['read'])}"}
    transport, now = ASGITransport(application.app), datetime.now(UTC)
    async with AsyncClient(transport=transport, base_url="http://api", headers=headers, timeout=60) as client:
        pages: dict[str, list[float]] = {}
        for name, (path, filters) in queries(now).items():
            pages[name] = []
            for _ in range(repeat):
                pages[name] += await walk(client, path, filters)
        figures: dict[str, list[float]] = {}
        for name, days in STATISTICS.items():
            since = {} if days is None else {"from": (now - timedelta(days=days)).isoformat()}
            figures[name] = [
                (await timed(client, "/predictions/stats", since))[0] for _ in range(max(repeat // 4, 1))
            ]
    return pages, figures


async def walk(client: AsyncClient, path: str, filters: Mapping[str, Any]) -> list[float]:
    times: list[float] = []
    cursor: dict[str, str] = {}
    for _ in range(1 + PAGES_BEHIND):
        milliseconds, page = await timed(client, path, {**filters, **cursor})
        times.append(milliseconds)
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    return times


async def timed(client: AsyncClient, path: str, filters: Mapping[str, Any]) -> tuple[float, Any]:
    started = perf_counter()
    answer = await client.get(f"{path}?{urlencode(filters)}")
    milliseconds = (perf_counter() - started) * 1000
    if answer.status_code != 200:
        raise SystemExit(f"{path} {filters}: {answer.status_code} {answer.text}")
    return milliseconds, answer.json()


def size(database: Database, table: str) -> int:
    [(total,)] = run(database.url("owner"), "SELECT pg_total_relation_size(%s::regclass)", table)
    return int(total)


def fill(database: Database, rows: int) -> None:
    """Decisions of the last hundred days, with values of the contract's precision, by five versions."""
    with closing(connect(database.url("admin"), "fill")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            # No other session is connected, so triggers and durability are not needed while filling.
            cursor.execute("SET session_replication_role = replica; SET synchronous_commit = off")
            for statement in (*_FILL, "VACUUM (ANALYZE)", "CHECKPOINT"):
                cursor.execute(statement.replace(":rows", str(rows)))


_NUMBERS: Final = [f"v{number}" for number in range(1, 29)]
# Six tenths have a label; one of 500 is a fraud.
_FILL: Final = (
    f"""
    INSERT INTO transactions (transaction_id, event_time, class, class_implied, source, contract, card_id,
                              merchant_id, time, amount, {", ".join(_NUMBERS)})
    SELECT gen_random_uuid()::text, now() - interval '100 days' * (1 - n / :rows::float8), label,
           CASE WHEN label IS NOT NULL THEN n % 5 <> 0 END, 'stream', 'creditcard/1', 'card-' || n % 50000,
           'merchant-' || n % 2000, round((n % 86400)::numeric, 2),
           round((1000 * greatest(random(), 0.01) ^ 8)::numeric, 2),
           {", ".join("round((random() * 6 - 3)::numeric, 6)" for _ in _NUMBERS)}
    FROM generate_series(1, :rows) AS n,
         LATERAL (SELECT CASE WHEN n <= :rows * 0.6 THEN (n % 500 = 0)::integer END AS label) AS known
    """,
    f"""
    INSERT INTO predictions (transaction_id, fraud_score, is_fraud_predicted, model_version, score, decision,
                             deciding, feature_vector, engine, latency_ms, prediction_time, traceparent)
    SELECT t.transaction_id, score, score >= 0.5,
           (5 - floor(extract(epoch FROM now() - event_time) / 1728001))::integer::text, score,
           CASE WHEN score >= 0.9 THEN 'block' WHEN score >= 0.5 THEN 'review' ELSE 'approve' END, true,
           ARRAY[{", ".join(f"t.{name}" for name in _NUMBERS)}, t.amount, t.time]::real[],
           'xgboost-3.2.0', 1.5,
           event_time + interval '1 second',
           '00-' || replace(gen_random_uuid()::text, '-', '') || '-00f067aa0ba902b7-01'
    FROM transactions t,
         LATERAL (SELECT power(greatest(random(), 0.01), 60) + 0 * t.amount::float8 AS score) AS drawn
    ORDER BY event_time
    """,
)


if __name__ == "__main__":
    main()
