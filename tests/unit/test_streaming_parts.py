"""The stream's parts that need no server."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from fraud_adapters.job.failures import JobFailed
from fraud_adapters.kafka import Record
from fraud_adapters.kafka.arrival import arrival, sent_at_ms
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.predictions import PredictedRows
from fraud_core.records import RecordParser
from fraud_streaming.__main__ import main
from fraud_streaming.consume.chunk import Chunk
from fraud_streaming.consume.commit import Committed
from fraud_streaming.consume.labels import LabelProcessor
from fraud_streaming.consume.processor import ChunkOutcome, dead_letter
from fraud_streaming.consume.pump import CHUNK_BYTES, Pump, RunLimits
from fraud_streaming.consume.report import Report
from fraud_streaming.consume.transactions import TransactionProcessor
from fraud_streaming.dead_letters.repaired import RepairedFile

NOW = datetime(2026, 5, 1, tzinfo=UTC)
CONTRACT = Contract.from_mapping(
    yaml.safe_load((Path(__file__).parents[1] / "contracts/wire.yaml").read_text(encoding="utf-8"))
)
GOOD = (
    b'{"transaction_id": "a", "sent_amount": 1.5, "hour": 3, "channel": "web", "urgent": true,'
    b' "payer": "p", "payee": "q"}'
)


def record(value: bytes, offset: int = 0, timestamp_ms: int = 0, **headers: bytes) -> Record:
    return Record("t", 0, offset, timestamp_ms, b"k", value, headers)


class NoScorer:
    def score(
        self, contract: Contract, batch: Batch, traceparents: Sequence[str | None] | None = None
    ) -> list[PredictedRows]:
        raise AssertionError("nothing was to be scored")


def work() -> TransactionProcessor:
    return TransactionProcessor(
        CONTRACT, RecordParser(CONTRACT), NoScorer(), payload_bytes=10, clock=lambda: NOW
    )


def test_the_records_time_counts_where_the_broker_has_one() -> None:
    assert arrival(record(b"", timestamp_ms=1_500), NOW) == datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)
    assert arrival(record(b"", timestamp_ms=-1), NOW) == NOW


def test_a_timestamp_that_is_no_time_holds_nothing_up() -> None:
    far = record(GOOD, timestamp_ms=2**62)
    assert arrival(far, NOW) == NOW
    prepared, dead_letters = work().prepare([far, record(GOOD, timestamp_ms=10**15)])
    assert (prepared.batch.event_times, dead_letters) == ([NOW, NOW], [])


def test_a_dead_letter_keeps_the_beginning_and_the_size() -> None:
    letter = dead_letter(record(b"x" * 100, offset=7), "empty", "why", 10)
    assert (letter.payload, letter.payload_bytes, letter.offset, letter.key) == (b"x" * 10, 100, 7, b"k")
    assert dead_letter(Record("t", 0, 1, 0, None, b"", {}), "empty", "why", 10).key is None


def test_rows_stay_with_their_records() -> None:
    values = [b"{", GOOD, b"", GOOD.replace(b'"a"', b'"b"')]
    records = [record(value, offset) for offset, value in enumerate(values)]
    records.append(record(GOOD, 4, schema=b"wire/2"))
    prepared, dead_letters = work().prepare(records)
    assert prepared.batch.ids == ["a", "b"]
    assert [valid.offset for valid in prepared.records] == [1, 3]
    reasons = sorted((letter.offset, str(letter.reason)) for letter in dead_letters)
    assert reasons == [(0, "not_json"), (2, "empty"), (4, "schema_mismatch")]


@pytest.mark.parametrize("header", [b"", CONTRACT.schema_id.encode()])
def test_an_empty_schema_header_names_no_contract(header: bytes) -> None:
    prepared, dead_letters = work().prepare([record(GOOD, schema=header)])
    assert (prepared.batch.ids, dead_letters) == (["a"], [])


def test_an_empty_redriven_header_names_no_origin() -> None:
    plain = record(b"", timestamp_ms=1_500, redriven=b"", origin_timestamp_ms=b"9000")
    assert sent_at_ms(plain) == 1_500
    assert dead_letter(plain, "empty", "why", 10).redriven_from is None


def test_a_chunk_without_transactions_is_not_scored() -> None:
    prepared, _ = work().prepare([record(b"{")])
    assert not work().decide(prepared).predictions


def test_labels_that_are_too_large_are_not_parsed() -> None:
    labels = LabelProcessor(max_bytes=200, payload_bytes=10, clock=lambda: NOW)
    message = b'{"transaction_id": "a", "label": 1, "source": "analyst"}'
    prepared, dead_letters = labels.prepare([record(message), record(message + b" " * 200)])
    assert [event.transaction_id for event in prepared.events] == ["a"]
    assert [str(letter.reason) for letter in dead_letters] == ["too_large"]


@pytest.mark.parametrize("code", ["utf-16", "utf-16-le", "utf-32"])
def test_a_repaired_file_in_another_encoding_is_refused(code: str, tmp_path: Path) -> None:
    path = tmp_path / "repaired.jsonl"
    line = '{"id": 7, "record": {"payer": "Zo\u00eb"}}'
    path.write_bytes(f"{line}\n{line}\n".encode(code))
    with closing(RepairedFile(path)) as file, pytest.raises(JobFailed, match="line 1: is not JSON in UTF-8"):
        list(file.pages())


def test_a_repaired_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "repaired.jsonl"
    path.write_text('{"id": 7, "record": {"payer": "Zo\u00eb"}}\n', encoding="utf-8-sig")
    with closing(RepairedFile(path)) as file:
        assert [one.record for page in file.pages() for one in page] == [{"payer": "Zo\u00eb"}]


def test_the_report_has_percentiles_only_of_something() -> None:
    report = Report()
    assert report.as_result()["latency_ms"] is None
    records = [record(GOOD, offset, timestamp_ms=1000 + offset) for offset in range(100)]
    dead_letters = [dead_letter(records[0], "empty", "why", 1)]
    report.committed(Committed(Chunk(records, {}, 0.0), ChunkOutcome(stored=99), dead_letters, 2000, 0.1))
    result = report.as_result()
    assert result["latency_ms"] == {"p50": 950.5, "p99": 999.0}
    assert (result["consumed"], result["stored"], result["dead_lettered"]) == (100, 99, {"empty": 1})


def test_the_report_keeps_the_latencies_of_the_latest_records() -> None:
    report = Report()
    for batch in range(200):
        records = [record(GOOD, offset, timestamp_ms=-batch) for offset in range(1000)]
        report.committed(Committed(Chunk(records, {}, 0.0), ChunkOutcome(stored=1000), [], 0, 0.1))
    assert report.as_result()["latency_ms"] == {"p50": 149.5, "p99": 198.0}
    assert report.as_result()["stored"] == 200_000


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["run", "--batch-size", "0"],
        ["run", "--max-records", "x"],
        ["run", "--max-bad-share", "nan"],
        ["stop"],
        ["topics", "--peek", "-1"],
        ["topics", "--topic", "others"],
        ["dead-letters", "--since", "yesterday"],
        ["dead-letters", "--since", "999999d"],
        ["dead-letters", "--reason", "gossip"],
        ["dead-letters", "--limit", "0"],
        ["redrive"],
        ["redrive", "--id", "x"],
        ["redrive", "--id", "1", "--all"],
        ["redrive", "--file", __file__, "--reason", "empty"],
        ["redrive", "--all", "--since", "2026-01-31T12:00:00Z"],
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


class LargeRecords:
    """A reader of a topic without end whose records are large, one a fetch."""

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        return [record(b"x" * 1_000_000)]

    def drained(self) -> bool:
        return False

    def positions(self) -> dict[int, int]:
        return {0: 1}

    def high_watermarks(self) -> dict[int, int]:
        return {}


def test_large_records_end_a_chunk_early() -> None:
    pump: Pump[Any] = Pump(
        reader=LargeRecords(),
        stored={0: 0},
        processor=work(),
        committer=None,  # type: ignore[arg-type]
        limits=RunLimits(chunk_records=100, seconds=5),
    )
    assert len(pump._collect(100, time.monotonic() + 5)) == CHUNK_BYTES / 1_000_000
