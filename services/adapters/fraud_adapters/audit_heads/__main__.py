"""`python -m fraud_adapters.audit_heads verify | publish`: see `fraud_adapters.audit_heads`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime

from psycopg2.extensions import cursor as Cursor  # noqa: N812

from config import constants
from config.job_results.audit_heads import PublishHeadResult, VerifyAuditLogResult
from config.settings import AuditHeadSettings, DatabaseSettings, ObjectStoreSettings, load
from fraud_adapters import job
from fraud_adapters.audit_heads import HeadPublisher, verify
from fraud_adapters.job import Result
from fraud_adapters.job.failures import RefusedFailure
from fraud_adapters.objectstore import ObjectStore
from fraud_adapters.postgres import connect


class AuditLogBroken(RefusedFailure):
    """The audit log or its heads were tampered with; one sentence names the first finding."""


def main(arguments: Sequence[str]) -> Result:
    parser = argparse.ArgumentParser(prog="audit-log", description="Verify the audit log against its heads.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    verbs.add_parser("verify", help="check the chain, and that every published head still fits")
    verbs.add_parser("publish", help="publish the log's end now; a service does it every minute")
    verb = parser.parse_args(arguments).verb
    key = load(AuditHeadSettings).audit_head_key.get_secret_value().encode()
    store = ObjectStore(load(ObjectStoreSettings), constants.BUCKET_RUNS)
    with (
        closing(connect(load(DatabaseSettings).url, "audit-log")) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        now = datetime.now(UTC)
        return _publish(cursor, store, key, now) if verb == "publish" else _verify(cursor, store, key, now)


def _publish(cursor: Cursor, store: ObjectStore, key: bytes, now: datetime) -> PublishHeadResult:
    head = HeadPublisher(store, key).publish(cursor, now)
    return {
        "status": "done",
        "published": head is not None,
        "number": head.number if head else None,
        "entry_id": head.entry_id if head else None,
    }


def _verify(cursor: Cursor, store: ObjectStore, key: bytes, now: datetime) -> VerifyAuditLogResult:
    found = verify(cursor, store, key, now)
    if found.problems:
        first = found.problems[0]
        raise AuditLogBroken(f"{first[0].upper()}{first[1:]}.", {"problems": list(found.problems)})
    return {
        "status": "done",
        "entries": found.entries,
        "heads": found.heads,
        "last_head_at": found.last_head.at if found.last_head else None,
        "last_head_entry": found.last_head.entry_id if found.last_head else None,
    }


if __name__ == "__main__":
    job.run("audit_log", main)
