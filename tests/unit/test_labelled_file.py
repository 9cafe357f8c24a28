"""Labelled transactions in a file: read as those from the database are, or refused with the row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest

from config.parameters import read_yaml
from fraud_adapters.postgres import examples
from fraud_core.contract import Contract
from fraud_trainer.labelled_file import BadFile, read_labelled_file

WIRE = Contract.from_mapping(read_yaml(Path(__file__).parents[1] / "contracts" / "wire.yaml"))
START = datetime(2026, 1, 1, tzinfo=UTC)


def frame(rows: int = 4) -> pd.DataFrame:
    """Rows in reverse order of time."""
    return pd.DataFrame(
        {
            "Event_Time": [(START + timedelta(hours=rows - row)).isoformat() for row in range(rows)],
            "SENT_AMOUNT": [10.12345 + row for row in range(rows)],
            "hour": list(range(rows)),
            "channel": ["web"] * rows,
            "urgent": [True, False] * (rows // 2),
            "fee": [None, 1.005] * (rows // 2),
            "payer": ["Ana, of Ávila"] * rows,
            "payee": ["007"] * rows,
            "is_fraud": [0, 1] * (rows // 2),
            "note": ["is ignored"] * rows,
        }
    )


def write(data: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".csv":
        data.to_csv(path, index=False)
    else:
        data.to_parquet(path)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_file_becomes_examples_in_order_of_time(name: str, tmp_path: Path) -> None:
    table = read_labelled_file(write(frame(), tmp_path / name), WIRE)
    assert table.column(examples.TIME).to_pylist() == [START + timedelta(hours=hour) for hour in (1, 2, 3, 4)]
    assert table.column(examples.LABEL).to_pylist() == [1, 0, 1, 0]
    batch = examples.to_batch(WIRE, table)
    assert batch.columns["sent_amount"].tolist() == [13.123, 12.123, 11.123, 10.123]
    assert np.array_equal(batch.columns["fee"], [1.01, np.nan, 1.01, np.nan], equal_nan=True)
    assert batch.columns["urgent"].tolist() == [0, 1, 0, 1]
    assert set(batch.columns["payee"]) == {"007"}
    assert len(set(batch.ids)) == 4


def test_times_of_parquet_are_taken_with_their_zone(tmp_path: Path) -> None:
    data = frame().assign(Event_Time=pd.date_range("2026-01-01", periods=4, freq="h", tz="Europe/Berlin"))
    table = read_labelled_file(write(data, tmp_path / "t.parquet"), WIRE)
    assert table.column(examples.TIME)[0].as_py() == datetime(2025, 12, 31, 23, tzinfo=UTC)
    naive = frame().assign(Event_Time=pd.date_range("2026-01-01", periods=4, freq="h"))
    with pytest.raises(BadFile, match="event_time must have a zone"):
        read_labelled_file(write(naive, tmp_path / "n.parquet"), WIRE)


CHANGES = {
    "no time": (lambda t: t.drop(columns="Event_Time"), "there is no column event_time"),
    "no label": (lambda t: t.drop(columns="is_fraud"), "there is no column is_fraud"),
    "no field": (lambda t: t.drop(columns="hour"), "there is no column hour"),
    "bad label": (lambda t: t.assign(is_fraud=[0, 1, 2, 0]), "row 3: is_fraud must be 0 or 1"),
    "label missing": (lambda t: t.assign(is_fraud=[0, None, 1, 0]), "row 2: is_fraud must be 0 or 1"),
    "bad time": (lambda t: t.assign(Event_Time=["2026-01-01 10:00"] * 4), "row 1: event_time must be an RFC"),
    "not finite": (
        lambda t: t.assign(SENT_AMOUNT=[1, 2, np.inf, 4]),
        "row 3: sent_amount is missing, not fin",
    ),
    "out of range": (lambda t: t.assign(hour=[1, 24, 3, 4]), "row 2: hour is missing, not finite or out"),
    "text": (lambda t: t.assign(hour=["1", "2", "x", "4"]), "row 3: hour is not a number"),
    "category": (lambda t: t.assign(channel=["web", "web", "web", "post"]), "row 4: channel is not one of"),
    "two columns": (lambda t: t.assign(HOUR=[1, 2, 3, 4]), "hour and HOUR have the same name"),
    "no rows": (lambda t: t.head(0), "has no rows"),
}


@pytest.mark.parametrize(("change", "words"), CHANGES.values(), ids=CHANGES)
def test_a_bad_file_is_refused_with_its_row(change: object, words: str, tmp_path: Path) -> None:
    path = write(change(frame()), tmp_path / "bad.csv")  # type: ignore[operator]
    with pytest.raises(BadFile, match=words):
        read_labelled_file(path, WIRE)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(BadFile, match="cannot be read"):
        read_labelled_file(tmp_path / "a.parquet", WIRE)
    with pytest.raises(BadFile, match=r"ends in \.csv or \.parquet"):
        read_labelled_file(tmp_path / "model.pkl", WIRE)
