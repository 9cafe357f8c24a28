"""Columnar bodies: what goes in comes out, and nothing hostile gets through."""

from __future__ import annotations

import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import ipc

from fraud_adapters.columnar import (
    AnswerPart,
    ColumnarAnswer,
    ColumnarError,
    answer_from_ipc,
    answer_to_ipc,
    batch_from_ipc,
    batch_to_ipc,
)
from fraud_adapters.columnar.stream import END_OF_STREAM, write_stream
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.predictions import Predictions
from fraud_core.record_model import ID_PATTERN

ROOT = Path(__file__).parents[2]
MOMENT = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
CONTRACT_FILES = {
    "creditcard": ROOT / "config/contracts/creditcard.yaml",
    "wire": ROOT / "tests/contracts/wire.yaml",
}


@cache
def load(name: str) -> Contract:
    return Contract.from_mapping(yaml.safe_load(CONTRACT_FILES[name].read_text(encoding="utf-8")))


def wire_batch(rows: int = 3) -> Batch:
    columns: dict[str, Any] = {
        "sent_amount": np.arange(rows) + 0.125,
        "hour": np.arange(rows) % 24.0,
        "urgent": np.arange(rows) % 2.0,
        "fee": np.where(np.arange(rows) % 2, 1.25, np.nan),
        "channel": np.array(["web", "phone", "branch"] * rows, dtype=object)[:rows],
        "payer": np.array([f"payer é {i}" for i in range(rows)], dtype=object),
        "payee": np.array([f"payee {i}" for i in range(rows)], dtype=object),
    }
    return Batch(
        [f"id-{i}" for i in range(rows)], [MOMENT + timedelta(seconds=i) for i in range(rows)], columns
    )


def table(batch: Batch) -> pa.RecordBatch:
    return ipc.open_stream(batch_to_ipc(load("wire"), batch)).read_next_batch()


def stream(*batches: pa.RecordBatch, options: ipc.IpcWriteOptions | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, batches[0].schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue())


def replaced(name: str, values: pa.Array) -> bytes:
    good = table(wire_batch())
    return stream(good.set_column(good.schema.get_field_index(name), name, values))


def reason_for(body: bytes, max_rows: int = 100) -> str:
    with pytest.raises(ColumnarError) as caught:
        batch_from_ipc(load("wire"), body, max_rows)
    assert str(caught.value).endswith((".", "'"))
    return caught.value.reason


@pytest.mark.parametrize("rows", [0, 1, 3, 50])
def test_a_batch_comes_back_equal(rows: int) -> None:
    batch = wire_batch(rows)
    back = batch_from_ipc(load("wire"), batch_to_ipc(load("wire"), batch), 100)
    assert back.ids == batch.ids
    assert back.event_times == batch.event_times
    assert set(back.columns) == set(batch.columns)  # no record brought a label: there is no column of it
    for name, values in batch.columns.items():
        np.testing.assert_array_equal(back.columns[name], values)


def test_a_stream_of_several_batches_is_one_batch() -> None:
    rows = table(wire_batch(5))
    back = batch_from_ipc(load("wire"), stream(rows.slice(0, 2), rows.slice(2, 3)), 100)
    assert back.ids == [f"id-{i}" for i in range(5)]
    np.testing.assert_array_equal(back.columns["sent_amount"], np.arange(5) + 0.125)


def test_values_are_quantised_again() -> None:
    body = replaced("sent_amount", pa.array([0.0015, 1.0005, 2.0]))
    assert batch_from_ipc(load("wire"), body, 10).columns["sent_amount"].tolist() == [0.002, 1.001, 2.0]


def test_a_label_travels() -> None:
    batch = wire_batch()
    batch.columns["is_fraud"] = np.array([1.0, np.nan, 0.0])
    back = batch_from_ipc(load("wire"), batch_to_ipc(load("wire"), batch), 10)
    np.testing.assert_array_equal(back.columns["is_fraud"], [1.0, np.nan, 0.0])


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("sent_amount", pa.array([1.0, None, 2.0]), "missing_field"),
        ("sent_amount", pa.array([1.0, float("nan"), 2.0]), "not_finite"),
        ("sent_amount", pa.array([1.0, float("-inf"), 2.0]), "not_finite"),
        ("sent_amount", pa.array([1.0, -0.5, 2.0]), "out_of_range"),
        ("sent_amount", pa.array([1.0, 1e9, 2.0]), "out_of_range"),
        ("sent_amount", pa.array([1.0, 999999999.9999, 2.0]), "out_of_range"),  # once rounded
        ("sent_amount", pa.array(["1", "2", "3"]), "wrong_type"),
        ("sent_amount", pa.array([1, 2, 3]), "wrong_type"),
        ("sent_amount", pa.array([1.0, 2.0, 3.0], pa.float32()), "wrong_type"),
        ("hour", pa.array([1.0, 2.5, 3.0]), "wrong_type"),
        ("hour", pa.array([1.0, 24.0, 3.0]), "out_of_range"),
        ("urgent", pa.array([1.0, 0.5, 0.0]), "wrong_type"),
        ("fee", pa.array([1.0, float("nan"), None]), "not_finite"),  # missing is null, never NaN
        ("channel", pa.array(["web", "fax", "web"]), "out_of_range"),
        ("channel", pa.array(["web", None, "web"]), "missing_field"),
        ("channel", pa.array(["web", "web", "web"]).dictionary_encode(), "wrong_type"),
        ("payer", pa.array(["a", "b\0c", "d"]), "bad_text"),
        ("payer", pa.array(["a", "b" * 65, "d"]), "bad_text"),
        ("payer", pa.array(["a", "", "d"]), "bad_text"),
        ("transaction_id", pa.array(["a", "b" * 51, "d"]), "bad_id"),
        ("transaction_id", pa.array(["a", "b\n", "d"]), "bad_id"),
        ("transaction_id", pa.array(["a", "", "d"]), "bad_id"),
        ("transaction_id", pa.array(["a", None, "d"]), "missing_field"),
        ("event_time", pa.array([MOMENT.replace(tzinfo=None)] * 3, pa.timestamp("us")), "wrong_type"),
        ("event_time", pa.array([0, 2**62, 0], pa.timestamp("us", "UTC")), "bad_time"),
        ("event_time", pa.array([0, None, 0], pa.timestamp("us", "UTC")), "missing_field"),
    ],
)
def test_a_wrong_column_is_refused_with_its_reason(name: str, values: pa.Array, reason: str) -> None:
    assert reason_for(replaced(name, values)) == reason


def test_ids_obey_the_cores_rule() -> None:
    for candidate in (*map(chr, range(0x180)), "a" * 50, "a" * 51, "a b", "", "é" * 20):
        body = replaced("transaction_id", pa.array(["a", candidate, "c"]))
        if ID_PATTERN.fullmatch(candidate):
            assert batch_from_ipc(load("wire"), body, 10).ids[1] == candidate
        else:
            assert reason_for(body) == "bad_id"


def test_columns_must_be_the_contracts() -> None:
    good = table(wire_batch())
    assert reason_for(stream(good.drop_columns(["hour"]))) == "missing_field"
    assert reason_for(stream(good.append_column("extra", pa.array([1.0] * 3)))) == "unknown_field"
    assert reason_for(stream(good.append_column("hour", good.column("hour")))) == "duplicate_key"
    assert "fee" in batch_from_ipc(load("wire"), stream(good.drop_columns(["fee"])), 10).columns


def test_too_many_rows_and_compression_are_refused() -> None:
    assert reason_for(stream(table(wire_batch(5))), max_rows=4) == "too_large"
    for codec in ("zstd", "lz4"):
        options = ipc.IpcWriteOptions(compression=codec)
        assert reason_for(stream(table(wire_batch(500)), options=options), max_rows=1000) == "wrong_type"


def test_every_truncation_is_refused() -> None:
    body = stream(table(wire_batch()))
    for length in {*range(0, len(body), 11), *range(len(body) - 40, len(body))}:
        with pytest.raises(ColumnarError):
            batch_from_ipc(load("wire"), body[:length], 100)


@pytest.mark.parametrize("body", [b"", b"{}", b"\0" * 100, b"\xff" * 64, b"ARROW1\0\0"])
def test_what_is_no_stream_is_refused(body: bytes) -> None:
    assert reason_for(body) in {"truncated", "not_arrow"}


@pytest.mark.parametrize(
    "trailing",
    [
        stream(table(wire_batch())),
        END_OF_STREAM,
        b"garbage" + END_OF_STREAM,
        b"\0" * 8 + END_OF_STREAM,
        stream(table(wire_batch()))[len(END_OF_STREAM) :],
    ],
    ids=["a stream", "an end mark", "garbage", "zeros", "a stream's tail"],
)
def test_what_follows_the_stream_is_refused(trailing: bytes) -> None:
    assert reason_for(stream(table(wire_batch())) + trailing) == "not_arrow"
    with pytest.raises(ColumnarError, match="continues after the end"):
        answer_from_ipc(answer_to_ipc(answer(3)) + trailing, 6, 100)


def test_flipped_bytes_never_do_worse_than_a_refusal() -> None:
    source = random.Random(7)
    body = stream(table(wire_batch(4)))
    for _ in range(500):
        damaged = bytearray(body)
        for _ in range(source.randint(1, 4)):
            damaged[source.randrange(len(damaged))] = source.randrange(256)
        try:
            batch_from_ipc(load("wire"), bytes(damaged), 100)
        except ColumnarError as refused:
            assert refused.reason


def answer(rows: int) -> ColumnarAnswer:
    scores = np.linspace(0, 1, rows) if rows else np.empty(0)
    predictions = Predictions.from_scores(
        scores,
        np.arange(rows * 6, dtype=np.float32).reshape(rows, 6),
        threshold=0.1234567890123456,
        block_threshold=0.9,
        model_version="7",
        engine="xgboost-3.2.0",
        policy_version="0",
    )
    ids = [f"id-{i}" for i in range(rows)]
    return ColumnarAnswer.of_one(ids, predictions, 0.1234567890123456, 0.9)


@pytest.mark.parametrize("rows", [0, 1, 20])
def test_an_answer_comes_back_bit_equal(rows: int) -> None:
    sent = answer(rows)
    back = answer_from_ipc(answer_to_ipc(sent), 6, 100)
    assert back.ids == sent.ids
    same_part(back.parts[0], sent.parts[0])


def same_part(back: AnswerPart, sent: AnswerPart) -> None:
    assert list(back.rows) == list(sent.rows)
    for name in ("scores", "predicted", "feature_vectors"):
        np.testing.assert_array_equal(getattr(back.predictions, name), getattr(sent.predictions, name))
    for name in ("decisions", "model_version", "engine", "policy_version", "role"):
        assert getattr(back.predictions, name) == getattr(sent.predictions, name)
    for name in ("threshold", "block_threshold"):
        assert getattr(back, name) == getattr(sent, name)


@given(st.lists(st.booleans(), min_size=2, max_size=40).filter(lambda flags: len(set(flags)) == 2))
def test_the_rows_of_champion_and_canary_come_back_apart(flags: list[bool]) -> None:
    whole = answer(len(flags))
    sent = ColumnarAnswer(
        whole.ids,
        [
            AnswerPart(
                rows := [row for row, flag in enumerate(flags) if flag is canary],
                whole.parts[0]
                .predictions.take(rows)
                .described(model_version=version, engine=engine, policy_version="0", role=role),
                threshold,
                0.9,
            )
            for canary, version, engine, role, threshold in (
                (False, "6", "xgboost-3.2.0", "champion", 0.5),
                (True, "7", "onnx-1.31.1", "canary", 0.25),
            )
        ],
    )
    back = answer_from_ipc(answer_to_ipc(sent), 6, 100)
    assert back.ids == sent.ids
    for one, other in zip(back.parts, sent.parts, strict=True):
        same_part(one, other)


@pytest.mark.parametrize(
    "metadata",
    [{}, {"parts": "no list"}, {"parts": "[]"}, {"parts": '[{"model_version": "7"}]'}, {"parts": "[1, 2]"}],
)
def test_parts_that_are_not_described_are_refused(metadata: dict[str, str]) -> None:
    whole = answer(2)
    one = whole.parts[0].predictions
    parts = [AnswerPart([row], one.take([row]), 0.5, 0.9) for row in range(2)]
    table = ipc.open_stream(answer_to_ipc(ColumnarAnswer(whole.ids, parts))).read_all().to_batches()[0]
    changed = {key: value for key, value in table.schema.metadata.items() if key != b"parts"} | metadata
    with pytest.raises(ColumnarError):
        answer_from_ipc(write_stream(table.replace_schema_metadata(changed)), 6, 100)


def test_an_answer_of_another_width_is_refused() -> None:
    with pytest.raises(ColumnarError):
        answer_from_ipc(answer_to_ipc(answer(3)), 7, 100)


def test_nothing_on_the_consumers_way_imports_pandas() -> None:
    """It takes most of a second, at the start of every job."""
    program = """
import sys
from datetime import UTC, datetime
import numpy as np, yaml
from fraud_adapters.columnar import ColumnarAnswer, answer_from_ipc, answer_to_ipc, batch_to_ipc
from fraud_adapters.postgres.rows import prediction_arguments, transaction_arguments
from fraud_core.predictions import Predictions
from fraud_core.batch import Batch
from fraud_core.contract import Contract
with open("config/contracts/creditcard.yaml") as file:
    contract = Contract.from_mapping(yaml.safe_load(file))
batch = Batch(["a"], [datetime.now(UTC)], {field.name: np.ones(1) for field in contract.inputs})
batch_to_ipc(contract, batch)
vectors = np.ones((1, 2), dtype=np.float32)
times, none = np.zeros(1, dtype=np.float32), [None]
predictions = Predictions(np.ones(1), np.ones(1, bool), ["block"], "7", "x", vectors, "0", times, none)
body = answer_to_ipc(ColumnarAnswer.of_one(["a"], predictions, 0.5, 0.9))
transaction_arguments(contract, batch)
prediction_arguments(answer_from_ipc(body, 2, 10).parts[0].predictions)
print("pandas" in sys.modules)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr
