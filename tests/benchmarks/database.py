"""A durable Postgres for one benchmark, and databases filled with a given number of rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from psycopg2.extensions import connection as Connection  # noqa: N812

from fraud_adapters.postgres import connect
from fraud_adapters.postgres.placement import NUMERIC_COLUMNS
from fraud_embedded.processes.process import Running
from fraud_embedded.servers import postgres
from tests.support.servers import Database, configured_stack, migrated_template, random_passwords


@contextmanager
def durable_template() -> Iterator[Database]:
    """A running server with a migrated, empty database."""
    with configured_stack(durable=True) as stack:
        postgres.prepare(stack.postgres)
        spec = postgres.spec(stack.postgres)
        server = Running(spec, spec.cwd.parent / f"{spec.name}.log")
        try:
            server.wait_ready(120)
            yield migrated_template(stack.postgres, random_passwords(stack))
        finally:
            server.stop(5)


def fill(database: Database, transactions: int) -> None:
    """Insert this many decided transactions of the last hundred days, and update the statistics.

    A fifth of those older than ten days have a label.
    """
    with closing(connect(database.url("admin"), "fill")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            # No other session is connected, so triggers and durability are not needed while filling.
            cursor.execute("SET session_replication_role = replica; SET synchronous_commit = off")
            for statement in _FILL:
                cursor.execute(statement, {"rows": transactions})
            for statement in ("VACUUM (ANALYZE)", "CHECKPOINT"):
                cursor.execute(statement)


def processor_ms(connection: Connection) -> float:
    """CPU time of a connection's server process, in milliseconds."""
    # In nanoseconds, because clock ticks are too coarse for one transaction.
    pid = connection.info.backend_pid
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e6


_NUMBERS: Final = list(NUMERIC_COLUMNS)
# The order of the ids differs from that of time, as with random ids.
_FILL: Final = (
    f"""
    INSERT INTO transactions (transaction_id, event_time, class, source, contract, {", ".join(_NUMBERS)})
    SELECT md5(n::text), now() - interval '100 days' * (1 - n / %(rows)s::float8), (n %% 100 = 0)::integer,
           'filled', 'creditcard/1', {", ".join("1.25" for _ in _NUMBERS)}
    FROM generate_series(1, %(rows)s) AS n
    """,
    """
    INSERT INTO predictions (transaction_id, fraud_score, is_fraud_predicted, model_version, score, decision,
                             deciding, feature_vector, engine, latency_ms, prediction_time)
    SELECT transaction_id, 0.1, false, '1', 0.1, 'approve', true, '{1,2,3}', 'filled', 1, event_time
    FROM transactions WHERE source = 'filled'
    """,
    """
    INSERT INTO labels (label_id, transaction_id, label, source, reported_at, matures_at)
    SELECT gen_random_uuid(), transaction_id, class, 'simulator', event_time, event_time FROM transactions
    WHERE source = 'filled' AND event_time < now() - interval '10 days' AND transaction_id < '33'
    """,
)
