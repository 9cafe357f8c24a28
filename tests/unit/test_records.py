import codecs
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.parameters import read_yaml
from config.settings import CONFIG_DIR
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.moments import parse_moment
from fraud_core.quantise import quantise_one
from fraud_core.record_model import Reason
from fraud_core.records import RecordParser, batch_from_records

ARRIVAL = datetime(2026, 3, 1, 12, tzinfo=UTC)
CREDITCARD = Contract.from_mapping(read_yaml(CONFIG_DIR / "contracts" / "creditcard.yaml"))
WIRE = Contract.from_mapping(read_yaml(Path(__file__).parents[1] / "contracts" / "wire.yaml"))

CARD_RECORD = {
    "transaction_id": "t-1",
    "event_time": "2026-03-01T13:00:00+01:00",
    "time": 0.5,
    **{f"v{i}": i / 7 for i in range(1, 29)},
    "amount": 12.345,
}
WIRE_RECORD = {
    "transaction_id": "w-1",
    "sent_amount": 10,
    "hour": 13,
    "channel": "web",
    "urgent": True,
    "payer": "p",
    "payee": "Zoë & Co",
}


def parse(contract: Contract, *payloads: bytes | None) -> tuple[Batch, list[str]]:
    parsed = RecordParser(contract).parse(payloads, [ARRIVAL] * len(payloads))
    assert sorted([*parsed.kept, *(one.index for one in parsed.rejected)]) == list(range(len(payloads)))
    return parsed.batch, [one.reason for one in parsed.rejected]


def changed(record: dict[str, Any], **values: Any) -> bytes:
    return json.dumps({**record, **values}).encode()


def test_a_record_becomes_a_quantised_row() -> None:
    batch, rejected = parse(CREDITCARD, changed(CARD_RECORD))
    assert rejected == []
    assert batch.ids == ["t-1"]
    assert batch.event_times == [ARRIVAL]
    assert batch.columns["amount"].tolist() == [12.35]
    assert batch.columns["v1"].tolist() == [0.142857]
    assert "class" not in batch.columns


def test_arrival_stands_in_for_a_missing_event_time() -> None:
    record = {name: value for name, value in CARD_RECORD.items() if name != "event_time"}
    batch, _ = parse(CREDITCARD, json.dumps(record).encode())
    assert batch.event_times == [ARRIVAL]


def test_the_second_contract_goes_the_same_way() -> None:
    batch, rejected = parse(WIRE, changed(WIRE_RECORD), changed(WIRE_RECORD, transaction_id="w-2", fee=0.125))
    assert rejected == []
    assert batch.columns["channel"].tolist() == ["web", "web"]
    assert batch.columns["urgent"].tolist() == [1.0, 1.0]
    assert np.isnan(batch.columns["fee"][0])
    assert batch.columns["fee"][1] == 0.13


UTF_16_AND_32 = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
HOSTILE: list[tuple[bytes | None, Reason]] = [
    (None, Reason.EMPTY),
    (b"", Reason.EMPTY),
    (b"nonsense", Reason.NOT_JSON),
    (b"\xff\xfe", Reason.NOT_JSON),
    *((json.dumps(CARD_RECORD).encode(code), Reason.NOT_JSON) for code in UTF_16_AND_32),
    (json.dumps(CARD_RECORD).replace("t-1", "\u20ac").encode("cp1252"), Reason.NOT_JSON),
    (b'{"transaction_id": "\xed\xa0\x80"}', Reason.NOT_JSON),  # a surrogate, encoded
    (codecs.BOM_UTF8, Reason.NOT_JSON),
    (2 * codecs.BOM_UTF8 + json.dumps(CARD_RECORD).encode(), Reason.NOT_JSON),
    (b"[" * 20_000, Reason.NOT_JSON),
    (b"[1]", Reason.NOT_OBJECT),
    (b"x" * 70_000, Reason.TOO_LARGE),
    (changed(CARD_RECORD, amount=float("nan")), Reason.NOT_FINITE),
    (changed(CARD_RECORD, amount=float("inf")), Reason.NOT_FINITE),
    (changed(CARD_RECORD).replace(b"12.345", b"1e400"), Reason.NOT_FINITE),
    (changed(CARD_RECORD, amount=True), Reason.WRONG_TYPE),
    (changed(CARD_RECORD, amount="12"), Reason.WRONG_TYPE),
    (changed(CARD_RECORD, amount=None), Reason.WRONG_TYPE),
    (changed(CARD_RECORD, amount=[1]), Reason.WRONG_TYPE),
    (changed(CARD_RECORD, amount=int("1" * 400)), Reason.WRONG_TYPE),
    (changed(CARD_RECORD, amount=-0.01), Reason.OUT_OF_RANGE),
    (changed(CARD_RECORD, amount=1e13), Reason.OUT_OF_RANGE),
    (changed(CARD_RECORD, v1=9999.9999996), Reason.OUT_OF_RANGE),
    (changed(CARD_RECORD, time=1e8), Reason.OUT_OF_RANGE),
    (changed(CARD_RECORD, **{"class": 2}), Reason.OUT_OF_RANGE),
    (changed(CARD_RECORD, **{"class": 1.0}), Reason.WRONG_TYPE),
    (changed(CARD_RECORD, surprise=1), Reason.UNKNOWN_FIELD),
    (changed(CARD_RECORD, V1=1), Reason.UNKNOWN_FIELD),
    (b"{}", Reason.MISSING_FIELD),
    (changed(CARD_RECORD).replace(b'"t-1"', b"null"), Reason.MISSING_FIELD),
    (changed(CARD_RECORD).replace(b"12.345", b'12.345, "amount": 1'), Reason.DUPLICATE_KEY),
    (changed(CARD_RECORD, transaction_id="a\x00b"), Reason.BAD_ID),
    (changed(CARD_RECORD, transaction_id="\ud800"), Reason.BAD_ID),
    (changed(CARD_RECORD, transaction_id=""), Reason.BAD_ID),
    (changed(CARD_RECORD, transaction_id="x" * 51), Reason.BAD_ID),
    (changed(CARD_RECORD, transaction_id=7), Reason.WRONG_TYPE),
    (changed(CARD_RECORD, event_time="2026-03-01T12:00:00"), Reason.BAD_TIME),
    (changed(CARD_RECORD, event_time="2026-02-30T12:00:00Z"), Reason.BAD_TIME),
    (changed(CARD_RECORD, event_time="0001-01-01T00:00:00+23:59"), Reason.BAD_TIME),
    (changed(CARD_RECORD, event_time=1_700_000_000), Reason.BAD_TIME),
]


@pytest.mark.parametrize(("payload", "reason"), HOSTILE)
def test_hostile_records_are_rejected_and_neighbours_kept(payload: bytes | None, reason: Reason) -> None:
    good = changed(CARD_RECORD, transaction_id="good")
    batch, rejected = parse(CREDITCARD, good, payload, good)
    assert rejected == [reason]
    assert batch.ids == ["good", "good"]


def test_a_byte_order_mark_changes_nothing() -> None:
    plain = changed(CARD_RECORD)
    batch, rejected = parse(CREDITCARD, codecs.BOM_UTF8 + plain, plain)
    assert rejected == []
    assert batch.ids == ["t-1", "t-1"]
    assert all(column[0] == column[1] for column in batch.columns.values())


def test_rejections_never_show_a_value() -> None:
    parsed = RecordParser(CREDITCARD).parse([changed(CARD_RECORD, amount="4111111111111111")], [ARRIVAL])
    assert "4111" not in parsed.rejected[0].detail
    assert "amount" in parsed.rejected[0].detail


numbers = st.floats(width=64) | st.integers(-(10**6), 10**6)
anything = numbers | st.booleans() | st.none() | st.text(max_size=6) | st.lists(st.integers(), max_size=2)
names = st.sampled_from([*CARD_RECORD, "class", "Amount", "extra"])


@given(st.lists(st.dictionaries(names, anything, max_size=3), min_size=1, max_size=6))
def test_the_quick_way_agrees_with_the_model(changes: list[dict[str, Any]]) -> None:
    payloads = [changed(CARD_RECORD, **change) for change in changes]
    parser = RecordParser(CREDITCARD)
    parsed = parser.parse(payloads, [ARRIVAL] * len(payloads))
    strict = [parser._validated_row(index, payload) for index, payload in enumerate(payloads)]
    assert parsed.kept == [index for index, row in enumerate(strict) if isinstance(row, dict)]
    for row, index in enumerate(parsed.kept):
        expected = strict[index]
        assert isinstance(expected, dict)
        assert parsed.batch.ids[row] == expected["transaction_id"]
        assert parsed.batch.event_times[row] == (expected["event_time"] or ARRIVAL)
        for field in CREDITCARD.inputs:
            assert parsed.batch.columns[field.name][row] == expected[field.name]


@given(
    st.lists(
        st.dictionaries(st.sampled_from([*WIRE_RECORD, "fee", "is_fraud"]), anything, max_size=2), max_size=4
    )
)
def test_the_quick_way_agrees_for_the_second_contract(changes: list[dict[str, Any]]) -> None:
    payloads = [changed(WIRE_RECORD, **change) for change in changes]
    parser = RecordParser(WIRE)
    parsed = parser.parse(payloads, [ARRIVAL] * len(payloads))
    strict = [parser._validated_row(index, payload) for index, payload in enumerate(payloads)]
    assert parsed.kept == [index for index, row in enumerate(strict) if isinstance(row, dict)]


bounds = st.none() | st.integers(-1200, 1200).map(lambda hundredths: hundredths / 100)


@given(
    st.sampled_from(["decimal", "integer"]),
    bounds,
    bounds,
    bounds,
    st.lists(
        st.integers(-30_000, 30_000).map(lambda thousandths: thousandths / 1000), min_size=1, max_size=5
    ),
)
def test_every_bound_holds_before_and_after_rounding(
    kind: str, low: float | None, high: float | None, below: float | None, values: list[float]
) -> None:
    numbers = values
    if kind == "integer":
        numbers = [int(value) for value in values]
        low, high, below = (bound if bound is None else round(bound) for bound in (low, high, below))
    scale = 0 if kind == "integer" else 1
    bounded = {"name": "a", "type": kind, "precision": scale + 1, "scale": scale}
    bounded |= {"min": low, "max": high, "below": below}
    other = {"name": "b", "type": "decimal", "precision": 6, "scale": 2}
    feature = {"name": "a", "op": "field", "of": "a"}
    contract = Contract.from_mapping(
        {"name": "bounded", "version": 1, "fields": [bounded, other], "features": [feature]}
    )
    parser = RecordParser(contract)
    payloads = [json.dumps({"transaction_id": "t", "a": one, "b": 1.5}).encode() for one in numbers]
    parsed = parser.parse(payloads, [ARRIVAL] * len(payloads))
    strict = [parser._validated_row(index, payload) for index, payload in enumerate(payloads)]
    assert parsed.kept == [index for index, row in enumerate(strict) if isinstance(row, dict)]

    def allowed(value: float) -> bool:
        keeps = (low is None or value >= low) and (high is None or value <= high)
        return keeps and (below is None or value < below) and abs(value) < 10

    rounded = [quantise_one(float(number), scale) for number in numbers]
    expected = [
        n
        for n, (number, last) in enumerate(zip(numbers, rounded, strict=True))
        if allowed(number) and allowed(last)
    ]
    assert parsed.kept == expected
    # What is kept must be taken again by whoever it is sent to.
    stacked = np.column_stack([parsed.batch.columns[field.name] for field in contract.fields])
    assert not contract.input_bounds.quantised(stacked)[1].any()


def test_validated_models_become_the_same_batch() -> None:
    parser = RecordParser(WIRE)
    record = parser.model.model_validate(WIRE_RECORD)
    batch = batch_from_records(WIRE, [record], [ARRIVAL])
    expected = parser.parse([changed(WIRE_RECORD)], [ARRIVAL]).batch
    assert batch.ids == expected.ids
    assert [column.tolist() for name, column in batch.columns.items() if name != "fee"] == [
        column.tolist() for name, column in expected.columns.items() if name != "fee"
    ]


@pytest.mark.parametrize(
    "text", ["2026-01-01T00:00:00Z", "2026-01-01t00:00:00.123456789z", "2026-01-01 02:00:00+02:00"]
)
def test_rfc_3339_times_are_read_as_utc(text: str) -> None:
    moment = parse_moment(text)
    assert moment.replace(microsecond=0) == datetime(2026, 1, 1, tzinfo=UTC)
    assert moment.tzinfo is UTC


def test_batches_join_and_split() -> None:
    batch, _ = parse(CREDITCARD, *(changed(CARD_RECORD, transaction_id=f"t{i}", amount=i) for i in range(5)))
    parts = [batch.take([3, 1]), batch.take(slice(4, 5))]
    joined = Batch.concat(parts)
    assert joined.ids == ["t3", "t1", "t4"]
    assert joined.columns["amount"].tolist() == [3, 1, 4]
