"""Files in the format of Kaggle's credit-card fraud data set, with generated rows."""

from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

KAGGLE = ["Time", *(f"V{n}" for n in range(1, 29)), "Amount", "Class"]


def kaggle_rows(count: int) -> list[list[Any]]:
    return [[float(n), *(n + j / 1000 + 1e-9 for j in range(28)), n * 1.005, n % 2] for n in range(count)]


def write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> Path:
    lines = [",".join(f'"{name}"' for name in header)]
    lines += [",".join("" if value is None else str(value) for value in row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_parquet(path: Path, header: list[str], rows: list[list[Any]]) -> Path:
    columns = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    parquet.write_table(pa.table(columns), path)
    return path
