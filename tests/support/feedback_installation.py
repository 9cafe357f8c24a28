"""Helpers of the feedback tests: its verbs on a real database, and people who label as the web app does."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast, get_type_hints

from psycopg2.extensions import connection as Connection  # noqa: N812

from config.parameters import Parameters, load_parameters
from config.settings import CONFIG_DIR
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.labels import store_labels
from fraud_core.cases import Origin, label_source
from fraud_core.labels import LabelEvent, Source
from fraud_feedback.job import VERBS
from fraud_feedback.run_context import RunContext
from tests.support.monitor_installation import MonitorInstallation
from tests.support.stored_rows import CREDITCARD, Database, new_id, run
from tests.support.typed_results import mismatches

DAG = "03_feedback_collection"


@dataclass
class FeedbackInstallation:
    """One test's database, with the verbs of the feedback collection."""

    database: Database
    parameters: Parameters = field(default_factory=lambda: load_parameters(CONFIG_DIR, "testing"))

    @property
    def monitor(self) -> MonitorInstallation:
        """Stores decisions, and reads them as the monitor does."""
        return MonitorInstallation(self.database, parameters=self.parameters)

    def with_opening(self, **values: Any) -> None:
        """Replace parameters of how cases are opened."""
        audit = self.parameters.audit
        opening = audit.opening.model_copy(update=values)
        self.parameters = self.parameters.model_copy(
            update={"audit": audit.model_copy(update={"opening": opening})}
        )

    def with_parameters(self, section: str, **values: Any) -> None:
        changed = getattr(self.parameters, section).model_copy(update=values)
        self.parameters = self.parameters.model_copy(update={section: changed})

    def do(self, verb: str, run_id: str = "first", **options: Any) -> Any:
        """The result of a verb, checked against its type."""
        [known] = [one for one in VERBS if one.name == verb]
        context = RunContext(
            contract=CREDITCARD,
            parameters=self.parameters,
            database=partial(connect, self.database.url("feedback"), "fraud_feedback"),
            dag=DAG,
            run_id=run_id,
        )
        result = json.loads(json.dumps(known.run(context, argparse.Namespace(**options))))
        assert list(mismatches(get_type_hints(known.run)["return"], result)) == []
        return result

    def collection(self, run_id: str) -> dict[str, Any]:
        """All steps of one run of the DAG, in their order; their results by verb."""
        verbs = ("pending", "collect", "apply", "metrics", "housekeeping")
        return {verb: self.do(verb, run_id) for verb in verbs}

    def report(
        self,
        labels: dict[str, int],
        source: Source = "analyst",
        by: str | None = None,
        ago: timedelta = timedelta(seconds=1),
    ) -> None:
        """Labels as their writers store them."""
        now = datetime.now(UTC)
        events = [LabelEvent(new_id(), name, label, source, now - ago, by) for name, label in labels.items()]
        with closing(connect(self.database.url("feedback"), "test")) as connection, connection:
            store_labels(connection.cursor(), events, by)

    def decide_case(self, transaction: str, label: int, by: str) -> None:
        """A person labels a case, in one transaction, as the web app does."""
        with closing(connect(self.database.url("owner"), "test")) as connection:
            label_case(connection, transaction, label, by)

    def cases(self, columns: str = "transaction_id, origin, state") -> list[tuple[Any, ...]]:
        return self.rows(f"SELECT {columns} FROM cases ORDER BY transaction_id")

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return run(self.database.url("owner"), statement, *values)


def label_case(connection: Connection, transaction: str, label: int, by: str) -> None:
    """The case's row is locked, the label stored, and the case closed."""
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT origin FROM cases WHERE transaction_id = %s FOR UPDATE", (transaction,))
        [(origin,)] = cursor.fetchall()
        source = cast("Source", label_source(Origin(origin)))
        event = LabelEvent(new_id(), transaction, label, source, datetime.now(UTC), by)
        store_labels(cursor, [event], by)
        cursor.execute(
            "UPDATE cases SET state = 'closed', closed_at = clock_timestamp(), decision = %s,"
            " decided_by = %s, assignee = %s, label_id = %s WHERE transaction_id = %s",
            (label, by, by, event.label_id, transaction),
        )


def figures(result: dict[str, Any], metric: str) -> dict[str, dict[str, Any]]:
    """The figures of one metric, by part."""
    return {one["part"]: one for one in result["figures"] if one["metric"] == metric}


def ids(rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    return [row[0] for row in rows]
