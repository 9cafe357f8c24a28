"""Files of labelled transactions of the contract `wire`."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.integration.training_installation import wire_rows


def columns(n: int) -> dict[str, list[Any]]:
    """Labelled transfers as a file holds them."""
    rows, labels = wire_rows(n)
    values = {name: column.tolist() for name, column in rows.columns.items()}
    values["fee"] = [None if np.isnan(fee) else fee for fee in values["fee"]]
    values["urgent"] = [bool(value) for value in values["urgent"]]
    values["payer"] = [f"payer {number}" for number in range(n)]
    moments = [moment.isoformat() for moment in rows.event_times]
    return {"event_time": moments, **values, "is_fraud": labels.tolist()}


def write(path: Path, content: dict[str, list[Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.table(content), path)
        return path
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(content)
        writer.writerows(zip(*content.values(), strict=True))
    return path
