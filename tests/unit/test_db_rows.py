"""Columns sent to Postgres as text name exactly the values they came from."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import orjson
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import csv

from fraud_adapters.postgres.placement import placement
from fraud_adapters.postgres.rows import transaction_arrays, vector_text
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.quantise import quantise

CONTRACT = Contract.from_mapping(
    {
        "name": "mixed",
        "version": 1,
        "fields": [
            {"name": "v1", "type": "decimal", "precision": 10, "scale": 6},
            {"name": "v2", "type": "decimal", "precision": 10, "scale": 7},
            {"name": "v3", "type": "boolean"},
            {"name": "paid", "type": "decimal", "precision": 9, "scale": 2, "role": "amount"},
            {"name": "step", "type": "integer", "precision": 8, "role": "clock"},
            {"name": "payer", "type": "text", "role": "card"},
            {"name": "payee", "type": "text", "max_length": 65, "role": "merchant"},
            {"name": "note", "type": "text", "required": False},
            {"name": "verdict", "type": "integer", "min": 0, "max": 1, "role": "label", "required": False},
        ],
        "features": [{"name": "v1", "op": "field", "of": "v1"}],
    }
)
MOMENT = datetime(2024, 1, 1, tzinfo=UTC)


def test_a_field_has_a_column_where_every_value_fits() -> None:
    where = placement(CONTRACT)
    assert where.columns == {"v1": "v1", "paid": "amount", "step": "time", "payer": "card_id"}
    assert [field.name for field in where.attributes] == ["v2", "v3", "payee", "note"]
    assert set(where.expressions(CONTRACT)) == {field.name for field in CONTRACT.inputs}


def test_a_name_beats_a_role() -> None:
    fields = [
        {"name": "fee", "type": "decimal", "precision": 9, "scale": 2, "role": "amount"},
        {"name": "amount", "type": "decimal", "precision": 9, "scale": 2},
    ]
    features = [{"name": "fee", "op": "field", "of": "fee"}]
    contract = Contract.from_mapping({"name": "two", "version": 1, "fields": fields, "features": features})
    assert placement(contract).columns == {"amount": "amount"}


@given(st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1, max_size=8))
def test_a_vector_reads_back_to_the_same_bits(values: list[float]) -> None:
    vectors = np.array([values, values[::-1]], dtype=np.float32)
    for text, vector in zip(vector_text(vectors).to_pylist(), vectors, strict=True):
        assert text[0] + text[-1] == "{}"
        back = np.array([np.float32(part) for part in text[1:-1].split(",")], dtype=np.float32)
        assert np.array_equal(back, vector, equal_nan=True)
        assert np.array_equal(np.signbit(back[back == 0]), np.signbit(vector[vector == 0]))


def test_a_vector_is_its_shortest_text() -> None:
    vectors = np.array([[0.1, 1e-7, 16777216.0]], dtype=np.float32)
    assert vector_text(vectors).to_pylist() == ["{0.1,1e-7,16777216}"]
    assert vector_text(np.zeros((2, 0), dtype=np.float32)).to_pylist() == ["{}", "{}"]


@given(st.floats(-9999, 9999))
def test_a_number_is_sent_as_its_quantised_decimal(value: float) -> None:
    quantised = quantise(np.array([value]), 6)
    buffer = io.BytesIO()
    csv.write_csv(pa.table({"v1": pa.array(quantised)}), buffer, csv.WriteOptions(include_header=False))
    sent = Decimal(buffer.getvalue().decode())
    assert sent == sent.quantize(Decimal(1).scaleb(-6))
    assert float(sent) == quantised[0]


def test_what_has_no_column_becomes_a_document() -> None:
    batch = Batch(
        ["a", "b"],
        [MOMENT, MOMENT],
        {
            "v1": np.array([1.5, np.nan]),
            "v2": np.array([0.1234567, 2.0]),
            "v3": np.array([1.0, 0.0]),
            "paid": np.array([1.0, 2.0]),
            "step": np.array([1.0, 2.0]),
            "payer": np.array(["p", "q"], dtype=object),
            "payee": np.array(["s", "t"], dtype=object),
            "note": np.array([None, 'say "hi"'], dtype=object),
            "verdict": np.array([1.0, np.nan]),
        },
    )
    arrays = transaction_arrays(CONTRACT, batch)
    documents = [orjson.loads(text) for text in arrays["attributes"].to_pylist()]
    assert documents == [
        {"v2": 0.1234567, "v3": True, "payee": "s"},
        {"v2": 2.0, "v3": False, "payee": "t", "note": 'say "hi"'},
    ]
    assert arrays["class"].to_pylist() == [1, None]
    # A required number that is missing is sent as it is, for the database to refuse.
    assert np.isnan(arrays["v1"].to_pylist()[1])
    assert transaction_arrays(CONTRACT, batch, classes=[None, 0])["class"].to_pylist() == [None, 0]
