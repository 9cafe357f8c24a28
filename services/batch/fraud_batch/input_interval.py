"""The stored transactions of an interval, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from psycopg2.extensions import connection as Connection  # noqa: N812

from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.postgres import transaction_pages
from fraud_adapters.postgres.transaction_pages import POSITION, Selection
from fraud_adapters.transaction_tables import ID, TableColumns
from fraud_batch.chunks import Chunk, Mark


@dataclass(frozen=True, slots=True)
class IntervalInput:
    """Rows of the table; their lines count from 1 in the order of event time and id."""

    connection: Connection
    selection: Selection
    columns: TableColumns
    rows: int
    kind: str = "interval"
    digest: str = ""  # the chunks have one each
    first_line: int = 1

    @classmethod
    def open(cls, connection: Connection, selection: Selection) -> IntervalInput:
        """Count the rows.

        Raises:
            LastingFailure: there is none.
        """
        rows = transaction_pages.count(connection, selection)
        if not rows:
            raise LastingFailure(
                f"There is no stored transaction of {selection.contract.schema_id} {selection.interval}."
            )
        fields = {field.name: field.name for field in selection.contract.inputs}
        return cls(connection, selection, TableColumns(fields, (), ID, None), rows)

    def chunks(self, after: list[Any] | None, number: int, rows: int) -> Iterator[Chunk]:
        """The chunks behind the row with the line, event time and id of `after`; `number` is the first
        one's."""
        read, position = (0, None) if after is None else (int(after[0]), (str(after[1]), str(after[2])))
        while True:
            page = transaction_pages.read_page(self.connection, self.selection, position, rows)
            table = page.table
            if not table.num_rows:
                return
            lines = np.arange(read + 1, read + table.num_rows + 1)
            read += table.num_rows
            position = (table[POSITION][-1].as_py(), table[ID][-1].as_py())
            mark = Mark(number, [read, *position], min(1.0, read / self.rows), page.digest)
            yield Chunk(mark, table, lines)
            number += 1
