"""Where a training's examples come from: options, files and spans of the topic, without servers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from config.job_results.common import EXIT_CONFIGURATION
from config.settings import ConfigurationError
from fraud_adapters.kafka import Record
from fraud_adapters.transaction_files import BadFile
from fraud_trainer.arguments import example_source, parser
from fraud_trainer.load.file_examples import read_file
from fraud_trainer.load.sources import ExampleSource
from fraud_trainer.load.topic_examples import Bound, TopicSpan
from tests.support.labelled_files import columns, write
from tests.support.stored_rows import CREDITCARD, START, WIRE

HOUR = timedelta(hours=1)
FROM, TO = (START + 10 * HOUR), (START + 20 * HOUR)


def source(*options: str) -> ExampleSource:
    return example_source(parser(datetime.now(UTC)).parse_args(["load", *options]))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--from", TO.isoformat(), "--to", FROM.isoformat()], "--from: must be before --to."),
        (["--file", "x.csv", "--from", FROM.isoformat()], "--from and --to: select rows of the database"),
        (
            ["--file", "x.csv", "--as-of", FROM.isoformat()],
            "--as-of: the labels of a --file are those",
        ),
        (["--file", "x.csv", "--kafka-from", "0"], "--file: examples come from a file or from the topic"),
        (["--kafka-from", "0", "--to", FROM.isoformat()], "--from and --to: select rows of the database"),
        (["--file-start", FROM.isoformat()], "--file-start: is for a --file only"),
        (["--file", "s3://fraud-mlflow/x.csv"], "--file: only objects of the bucket fraud-runs can be read"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: list[str], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        source(*options)


def test_a_moment_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        source("--from", "yesterday")
    assert ended.value.code == EXIT_CONFIGURATION
    assert "argument --from: must be a time with a zone" in capsys.readouterr().err


def test_an_offset_or_a_time_bounds_the_topic() -> None:
    span = source("--kafka-from", "7", "--kafka-to", TO.isoformat()).topic
    assert span == TopicSpan(7, TO)
    assert source().topic is None


def record(offset: int, at: datetime) -> Record:
    return Record("t", 0, offset, int(at.timestamp() * 1000), None, b"", {})


@pytest.mark.parametrize(
    ("start", "end", "held"),
    [
        (None, None, [0, 1, 2]),
        (1, None, [1, 2]),
        (None, 1, [0]),
        (FROM + HOUR, None, [1, 2]),
        (1, FROM + 2 * HOUR, [1]),
    ],
)
def test_a_span_includes_its_start_and_not_its_end(start: Bound, end: Bound, held: list[int]) -> None:
    span = TopicSpan(start, end)
    assert [n for n in range(3) if span.holds(record(n, FROM + n * HOUR))] == held


def test_without_event_times_the_clock_counts_from_the_start_that_is_given(tmp_path: Path) -> None:
    rows = {field.name: [1.5, 2.5] for field in CREDITCARD.inputs} | {
        "time": [7260.5, 60.25],
        "class": [1, 0],
    }
    path = write(tmp_path / "rows.csv", rows)
    with pytest.raises(BadFile, match="needs a column event_time, or --file-start and time"):
        read_file(path, CREDITCARD, None)
    table = read_file(path, CREDITCARD, START)
    assert table.column("event_time").to_pylist() == [START - timedelta(seconds=7200.25), START]
    assert table.column("_label").to_pylist() == [0, 1]


def test_rows_that_are_not_in_order_are_ordered_by_event_time(tmp_path: Path) -> None:
    content = columns(50)
    turned = {name: values[::-1] for name, values in content.items()}
    table = read_file(write(tmp_path / "rows.csv", turned), WIRE, None)
    moments = table.column("event_time").to_pylist()
    assert moments == [START + timedelta(minutes=minute) for minute in range(50)]
    assert table.column("_label").to_pylist() == content["is_fraud"]


def changed(**changes: Any) -> dict[str, list[Any]]:
    """The file with the value of its third row replaced in these columns; `...` drops a column."""
    content = columns(5)
    for name, value in changes.items():
        if value is ...:
            del content[name]
        else:
            content[name][2] = value
    return content


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (changed(sent_amount=-5), r"rows.csv: row 3: sent_amount: "),
        (changed(channel="pigeon"), r"rows.csv: row 3: channel: "),
        (changed(is_fraud=""), r"rows.csv: row 3: is_fraud: has no label"),
        (changed(is_fraud=2), r"rows.csv: row 3: is_fraud: "),
        (changed(event_time=""), r"rows.csv: row 3: event_time: is missing"),
        (changed(event_time="2024-01-01 10:00:00"), r"rows.csv: row 3: event_time: must be an RFC 3339 time"),
        (changed(is_fraud=...), r"rows.csv: training needs a column is_fraud for each row"),
        (changed(sent_amount=...), r"rows.csv: there is no column sent_amount"),
        (changed(event_time=...), r"rows.csv: when its transactions happened is not known"),
        ({name: [] for name in columns(1)}, r"rows.csv: holds no transaction"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, content: dict[str, list[Any]], sentence: str) -> None:
    path = write(tmp_path / "rows.csv", content)
    with pytest.raises(BadFile, match=sentence):
        read_file(path, WIRE, None)
