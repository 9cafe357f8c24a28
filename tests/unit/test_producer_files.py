"""Files to replay: which column is which field, and what is said about a bad one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.parameters import read_yaml
from config.settings import CONFIG_DIR
from fraud_adapters.transaction_files import BadFile, TransactionFile, layout
from fraud_core.contract import Contract
from tests.support.kaggle_files import KAGGLE, kaggle_rows, write_csv, write_parquet

CREDITCARD = Contract.from_mapping(read_yaml(CONFIG_DIR / "contracts" / "creditcard.yaml"))
WIRE = Contract.from_mapping(read_yaml(Path(__file__).parents[1] / "contracts" / "wire.yaml"))


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_kaggle_columns_are_read_and_quantised(tmp_path: Path, write: Any) -> None:
    suffix = "csv" if write is write_csv else "parquet"
    path = write(tmp_path / f"x.{suffix}", KAGGLE, kaggle_rows(2501))
    batches = list(TransactionFile.open(path, CREDITCARD).batches(1000))
    assert [len(batch) for batch in batches] == [1000, 1000, 501]
    second = batches[1].columns
    assert second["v3"][0] == 1000.002
    assert second["amount"][0] == 1005.0
    assert second["time"][5] == 1005
    assert second["class"].tolist() == [0, 1] * 500
    ids = [identifier for batch in batches for identifier in batch.ids]
    assert len(set(ids)) == 2501


def test_ids_follow_from_content_not_from_the_name(tmp_path: Path) -> None:
    paths = [write_csv(tmp_path / name, KAGGLE, kaggle_rows(3)) for name in ("a.csv", "b.csv")]
    changed = write_csv(tmp_path / "c.csv", KAGGLE, kaggle_rows(4))
    first, second, third = (
        next(TransactionFile.open(path, CREDITCARD).batches()).ids for path in (*paths, changed)
    )
    assert first == second
    assert not set(first) & set(third)


def test_other_columns_are_named_and_ignored(tmp_path: Path) -> None:
    header = ["weight", *KAGGLE, "uniform_time_sample", "transaction_id"]
    rows = [[7.9, *row, True, "mine"] for row in kaggle_rows(3)]
    file = TransactionFile.open(write_parquet(tmp_path / "x.parquet", header, rows), CREDITCARD)
    assert file.layout.ignored == ["weight", "uniform_time_sample", "transaction_id"]
    assert len(next(file.batches())) == 3


def test_the_class_may_be_absent(tmp_path: Path) -> None:
    rows = [row[:-1] for row in kaggle_rows(2)]
    file = TransactionFile.open(write_csv(tmp_path / "x.csv", KAGGLE[:-1], rows), CREDITCARD)
    assert "class" not in next(file.batches()).columns


def test_missing_and_doubled_columns_are_named() -> None:
    with pytest.raises(BadFile, match="no column v7, amount"):
        layout(CREDITCARD, [name for name in KAGGLE if name not in {"V7", "Amount"}], "x.csv")
    with pytest.raises(BadFile, match="Amount and amount both"):
        layout(CREDITCARD, [*KAGGLE, "amount"], "x.csv")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("V4", "abc", "v4: is not a number"),
        ("V4", "", "v4: is missing"),
        ("V4", "nan", "v4"),
        ("V4", "inf", "v4"),
        ("V4", "1e9", "v4"),
        ("Amount", "-1", "amount"),
        ("Class", "2", "class"),
        ("Class", "0.5", "class"),
    ],
)
def test_a_bad_value_is_named_with_its_row(tmp_path: Path, column: str, value: str, message: str) -> None:
    rows = kaggle_rows(1700)
    rows[1203][KAGGLE.index(column)] = value
    file = TransactionFile.open(write_csv(tmp_path / "x.csv", KAGGLE, rows), CREDITCARD)
    batches = file.batches()
    assert len(next(batches)) == 1000
    with pytest.raises(BadFile, match=rf"^x\.csv: row 1204: {message}"):
        next(batches)


NOT_NUMBERS = [
    "1_000",
    "١٢",
    "１２",
    "0x10",
    "1,5",
    "1 000",
    "1\xa0000",
    "1'000",
    "−1",
    "1e",
    "1.2.3",
    "$5",
    "5%",
    "²",
]


def odd_digits() -> list[tuple[Any, str, str]]:
    cases: list[tuple[Any, str, str]] = [(write_csv, "Amount", text) for text in NOT_NUMBERS]
    cases += [(write_parquet, "Amount", text) for text in NOT_NUMBERS[:3]]
    return cases + [(write_csv, column, "1_0") for column in ("Time", "V4", "Class")]


@pytest.mark.parametrize(("write", "column", "text"), odd_digits())
def test_only_plain_digits_are_a_number(tmp_path: Path, write: Any, column: str, text: str) -> None:
    rows = [[str(value) for value in row] for row in kaggle_rows(2)]
    rows[1][KAGGLE.index(column)] = text if write is write_parquet else f'"{text}"'
    path = write(tmp_path / f"x.{'csv' if write is write_csv else 'parquet'}", KAGGLE, rows)
    with pytest.raises(BadFile, match=rf"row 2: {column.lower()}: is not a number: write it as 1234\.5"):
        list(TransactionFile.open(path, CREDITCARD).batches())


@pytest.mark.parametrize("write", [write_csv, write_parquet])
@pytest.mark.parametrize(
    ("text", "value"),
    [("1e3", 1000), (" 1 ", 1), ("+1", 1), ("1E+2", 100), (".5", 0.5), ("5.", 5), ("007", 7), ("1e-9", 0)],
)
def test_every_usual_way_to_write_a_number_is_read(
    tmp_path: Path, write: Any, text: str, value: float
) -> None:
    rows = [[str(cell) for cell in row] for row in kaggle_rows(1)]
    rows[0][KAGGLE.index("Amount")] = text
    path = write(tmp_path / f"x.{'csv' if write is write_csv else 'parquet'}", KAGGLE, rows)
    assert next(TransactionFile.open(path, CREDITCARD).batches()).columns["amount"].tolist() == [value]


@pytest.mark.parametrize("value", [b"1_000", b"\xff", True])
def test_bytes_and_truths_of_parquet_are_no_amounts(tmp_path: Path, value: Any) -> None:
    rows = kaggle_rows(1)
    rows[0][KAGGLE.index("Amount")] = value
    path = write_parquet(tmp_path / "x.parquet", KAGGLE, rows)
    with pytest.raises(BadFile, match=r"row 1: amount: is not (a number|text)"):
        list(TransactionFile.open(path, CREDITCARD).batches())


def test_binary_text_of_parquet_is_text(tmp_path: Path) -> None:
    header = ["sent_amount", "hour", "channel", "urgent", "payer", "payee"]
    row = [b"12.5", b"3", b"web", b"true", b"p1", b"q1"]
    path = write_parquet(tmp_path / "x.parquet", header, [row])
    columns = next(TransactionFile.open(path, WIRE).batches()).columns
    assert [columns[name][0] for name in ("sent_amount", "hour", "channel")] == [12.5, 3, "web"]
    assert columns["payer"].tolist() == ["p1"]


@pytest.mark.parametrize(("separator", "named"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
@pytest.mark.parametrize(("quote", "mark"), [("", ""), ('"', "\ufeff")])
def test_another_separator_is_named(
    tmp_path: Path, separator: str, named: str, quote: str, mark: str
) -> None:
    lines = [separator.join(f"{quote}{name}{quote}" for name in KAGGLE)]
    lines += [separator.join(str(value).replace(".", ",") for value in row) for row in kaggle_rows(2)]
    (tmp_path / "x.csv").write_text(mark + "\r\n".join(lines), encoding="utf-8", newline="")
    with pytest.raises(
        BadFile, match=rf"^x\.csv: the columns are separated by {named}: separate them by commas"
    ):
        TransactionFile.open(tmp_path / "x.csv", CREDITCARD)


def test_a_line_that_is_not_csv_is_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x.csv", KAGGLE, [*kaggle_rows(1), ['"a"b', *kaggle_rows(1)[0][1:]]])
    with pytest.raises(BadFile, match=r"x\.csv: cannot be read: line 3: "):
        list(TransactionFile.open(path, CREDITCARD).batches())


def test_a_file_in_another_encoding_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes("Time;V1;é\n".encode("latin-1"))
    with pytest.raises(BadFile, match=r"x\.csv: is not UTF-8: save it as UTF-8"):
        TransactionFile.open(tmp_path / "x.csv", CREDITCARD)


def test_a_row_too_short_is_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x.csv", KAGGLE, [*kaggle_rows(5), [1, 2]])
    with pytest.raises(BadFile, match="row 6: has 2 values, the header has 31"):
        list(TransactionFile.open(path, CREDITCARD).batches())


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.csv", b"\xff\xfe\x00bad"), ("x.parquet", b"not parquet"), ("x.csv", b""), ("x.json", b"{}")],
)
def test_a_file_of_another_kind_is_one_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadFile, match=name) as caught:
        list(TransactionFile.open(path, CREDITCARD).batches())
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"gone\.csv: cannot be read: No such file"):
        TransactionFile.open(tmp_path / "gone.csv", CREDITCARD)


def test_another_contract_is_read_as_well(tmp_path: Path) -> None:
    header = ["sent_amount", "hour", "channel", "urgent", "fee", "payer", "payee", "is_fraud"]
    rows: list[list[Any]] = [
        [1.0005, 3, "web", "true", None, "p1", "q1", 0],
        [2.5, 4, "phone", "0", 1.255, "p2", "q2", None],
    ]
    batch = next(TransactionFile.open(write_csv(tmp_path / "x.csv", header, rows), WIRE).batches())
    assert batch.columns["sent_amount"].tolist() == [1.001, 2.5]
    assert batch.columns["channel"].tolist() == ["web", "phone"]
    assert batch.columns["urgent"].tolist() == [1.0, 0.0]
    assert math.isnan(batch.columns["fee"][0])
    assert batch.columns["fee"][1] == 1.26
    assert np.isnan(batch.columns["is_fraud"]).tolist() == [False, True]
    rows[1][2] = "pigeon"
    with pytest.raises(BadFile, match="row 2: channel"):
        list(TransactionFile.open(write_csv(tmp_path / "y.csv", header, rows), WIRE).batches())
