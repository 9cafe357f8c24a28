"""Parsing tables by columns: the same rows and values as the contract's own model gives, one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fraud_adapters.transaction_files import cell_value
from fraud_adapters.transaction_tables import ParsedTable, TableColumns, TableParser
from fraud_batch.input_file import FileInput
from fraud_batch.output_file import safe_for_spreadsheets
from fraud_core.contract import Contract
from fraud_core.record_model import record_model
from tests.support.stored_rows import CREDITCARD, WIRE

NUMBERS = [
    *("1", "-1.5", "+2", " 3 ", "1e3", "nan", "inf", "-inf", "0x10", "1_0", "1,5", "", "1e400", "12345678"),
    *(".5", "5.", "٣", "=1+1", "true"),
]
TEXTS = ["web", " web ", "branch", "", "no", "\t", "a" * 2000, "x\x00y"]


def parse(contract: Contract, columns: dict[str, Any]) -> ParsedTable:
    table = pa.table(columns)
    places = TableColumns.of(contract, table.column_names, "table")
    return TableParser(contract, places, "digest", 1).parse(table, np.arange(1, table.num_rows + 1))


def by_model(contract: Contract, record: dict[str, Any]) -> dict[str, Any] | None:
    """What the model makes of the cells, or None where it refuses them."""
    try:
        values = {
            name: record[name] if name == "transaction_id" else cell_value(contract.field(name), record[name])
            for name in record
        }
        given_values = {name: value for name, value in values.items() if value is not None}
        return dict(record_model(contract).model_validate(given_values).__dict__)
    except (ValidationError, ValueError):
        return None


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_columns_give_what_the_model_gives(data: st.DataObject) -> None:
    contract = data.draw(st.sampled_from([CREDITCARD, WIRE]))
    plain = {
        field.name: "0.5"
        if field.type == "decimal"
        else "1"
        if field.numeric
        else (field.values or ("x",))[0]
        for field in contract.inputs
    }
    rows = []
    for number in range(6):
        row = {"transaction_id": data.draw(st.sampled_from([f"t{number}", "with space", "é"]))} | plain
        for field in data.draw(st.lists(st.sampled_from(contract.inputs), max_size=2)):
            row[field.name] = data.draw(st.sampled_from(NUMBERS if field.numeric else TEXTS))
        rows.append(row)
    columns = {name: pa.array([row[name] or None for row in rows], pa.string()) for name in rows[0]}
    parsed = parse(contract, columns)
    expected = {number: by_model(contract, row) for number, row in enumerate(rows, 1)}
    good = [number for number, values in expected.items() if values is not None]
    assert parsed.lines.tolist() == good
    assert [row.line for row in parsed.rejected] == [line for line in expected if line not in good]
    assert parsed.ids.to_pylist() == parsed.batch.ids
    for field in contract.inputs:
        column = parsed.batch.columns[field.name]
        for position, line in enumerate(good):
            value = (expected[line] or {})[field.name]
            shown = column[position]
            missing = np.isnan(shown) if field.numeric else shown is None
            assert missing if value is None else shown == value, (field.name, value, shown)


@pytest.mark.parametrize(
    ("kind", "value"),
    [(pa.int64(), 3), (pa.decimal128(10, 2), 3), (pa.float32(), 3), (pa.binary(), b"3"), (pa.string(), "3")],
)
def test_numbers_of_every_type_are_read(kind: pa.DataType, value: Any) -> None:
    columns = {field.name: pa.array([value, None], kind) for field in CREDITCARD.inputs}
    parsed = parse(CREDITCARD, {"Transaction_ID": ["a", "b"], **columns})
    assert parsed.batch.ids == ["a"]
    assert {column[0] for column in parsed.batch.columns.values()} == {3.0}
    [bad] = parsed.rejected
    assert (bad.line, bad.transaction_id, bad.reason) == (2, "b", "missing_field")


def test_lines_of_a_csv_file_are_kept_wherever_a_run_goes_on(tmp_path: Path) -> None:
    """Rows with other numbers of values and empty lines in between."""
    names = ["transaction_id", *(field.name for field in CREDITCARD.inputs)]
    lines = [",".join(names)]
    for number in range(2, 4000):
        row = [f"t{number}", *["1"] * 30]
        lines.append("" if number % 50 == 0 else ",".join(row[: 5 if number % 70 == 0 else None]))
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    source = FileInput.open(path, CREDITCARD)
    whole = read(source, None)
    assert len(whole) == 3998 - sum(number % 50 == 0 for number in range(2, 4000))
    assert all(name in {f"t{line}", ""} for line, name in whole.items())
    ends = [chunk.mark.end for chunk in source.chunks(None, 0, 1)]
    assert len(ends) > 3
    for end in ends[:-1]:
        assert read(source, end) == {line: name for line, name in whole.items() if line > end}


def read(source: FileInput, after: int | None) -> dict[int, str]:
    """The id of each line that is read, "" if it is malformed."""
    found: dict[int, str] = {}
    for chunk in source.chunks(after, 0 if after is None else 1, 1):
        ids = chunk.table["transaction_id"].to_pylist()
        pairs = [*zip(chunk.lines.tolist(), (one.decode() for one in ids), strict=True)]
        pairs += [(row.line, "") for row in chunk.malformed]
        assert not found.keys() & dict(pairs).keys()
        found |= dict(pairs)
    return found


def test_text_that_looks_like_a_formula_is_quoted_and_numbers_are_not() -> None:
    texts = ["=1", "+1", "-1", "@x", "\tx", "\rx", "x=1", ""]
    table = safe_for_spreadsheets(pa.table({"text": texts, "number": [-1.0] * len(texts)}))
    assert table["text"].to_pylist() == ["'=1", "'+1", "'-1", "'@x", "'\tx", "'\rx", "x=1", ""]
    assert table["number"].to_pylist() == [-1.0] * len(texts)
