"""Arrays sent to Postgres as text name exactly the values they came from."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_adapters.postgres.placement import NUMERIC_COLUMNS, placement
from fraud_adapters.postgres.rows import number_array, text_array, transaction_arguments
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


def elements(array: str) -> list[str]:
    """Of an array of one dimension whose elements need no quotes."""
    assert array[0] + array[-1] == "{}"
    return array[1:-1].split(",")


@given(st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1, max_size=8))
def test_a_vector_reads_back_to_the_same_bits(values: list[float]) -> None:
    vector = np.array(values, dtype=np.float32)
    back = np.array([np.float32(part) for part in elements(number_array(vector))], dtype=np.float32)
    assert np.array_equal(back, vector, equal_nan=True)
    assert np.array_equal(np.signbit(back[back == 0]), np.signbit(vector[vector == 0]))


def test_a_vector_is_its_shortest_text() -> None:
    assert number_array(np.array([0.1, 1e-7, 16777216.0], dtype=np.float32)) == "{0.1,1e-7,16777216.0}"
    assert number_array(np.zeros(0, dtype=np.float32)) == "{}"


@given(st.floats(-9999, 9999))
def test_a_number_is_sent_as_its_quantised_decimal(value: float) -> None:
    quantised = quantise(np.array([value]), 6)
    sent = Decimal(elements(number_array(quantised))[0])
    assert sent == sent.quantize(Decimal(1).scaleb(-6))
    assert float(sent) == quantised[0]


def test_missing_numbers_are_null_and_others_stay_what_they_are() -> None:
    values = np.array([[1.5, np.nan], [np.nan, np.inf]])
    assert number_array(values, np.isnan(values)) == "{{1.5,null},{null,inf}}"
    missing = np.array([[False, True], [False, False]])
    assert number_array(values, missing) == "{{1.5,null},{nan,inf}}"
    assert number_array(values[:1], missing[:1]) == "{{1.5,null}}"
    assert number_array(np.array([True, False])) == "{true,false}"


def test_texts_are_quoted_and_null_is_not_its_name() -> None:
    assert text_array(["a,b", "NULL", None, "", '\\ "x"']) == '{"a,b","NULL",null,"","\\\\ \\"x\\""}'


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
    arguments = transaction_arguments(CONTRACT, batch)
    documents = [{"v2": 0.1234567, "v3": True, "payee": "s"}]
    documents += [{"v2": 2.0, "v3": False, "payee": "t", "note": 'say "hi"'}]
    assert arguments["attributes"] == text_array(orjson.dumps(document).decode() for document in documents)
    assert (arguments["card_ids"], arguments["merchant_ids"]) == ('{"p","q"}', None)
    assert arguments["classes"] == "{1,null}"
    # A required number that is missing is sent as it is, for the database to refuse.
    rows = [elements("{" + row + "}") for row in arguments["numbers"][2:-2].split("},{")]
    columns = dict(zip(NUMERIC_COLUMNS, zip(*rows, strict=True), strict=True))
    assert (columns["v1"], columns["v2"], columns["amount"]) == (
        ("1.5", "nan"),
        ("null", "null"),
        ("1.0", "2.0"),
    )
    assert transaction_arguments(CONTRACT, batch, classes=[None, 0])["classes"] == "{null,0}"


def test_columns_of_different_lengths_are_refused() -> None:
    rows = Batch(["a", "b"], [MOMENT, MOMENT], {"v1": np.array([1.0])})
    with pytest.raises(ValueError, match="differ in length"):
        transaction_arguments(CONTRACT, rows)
