"""A job's output, from bytes to what a person reads."""

from __future__ import annotations

import json
import logging

import pytest

from fraud_airflow.lines import LineSplitter, readable, sentence


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_lines_do_not_depend_on_how_they_are_read(size: int) -> None:
    stream = "one\n\nzwölf €\r\nlast".encode()
    splitter = LineSplitter()
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    assert [*lines, *splitter.rest()] == ["one", "", "zwölf €", "last"]
    assert splitter.rest() == []


def test_a_line_is_given_as_soon_as_it_is_complete() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"ha") == []
    assert splitter.feed(b"lf\nnext") == ["half"]


def test_a_long_line_is_cut_and_the_next_one_whole() -> None:
    splitter = LineSplitter(limit=10)
    lines = [line for _ in range(5) for line in splitter.feed(b"x" * 6)] + splitter.feed(b"\nnext\n")
    assert lines == ["x" * 10 + " … (20 bytes more)", "next"]


def test_bytes_that_are_no_utf8_are_shown_as_far_as_they_go() -> None:
    assert LineSplitter().feed(b"a\xff\xfeb\n") == ["a\ufffd\ufffdb"]


def test_a_json_line_is_shown_as_event_and_fields_at_its_level() -> None:
    line = json.dumps(
        {"event": "stored", "level": "warning", "rows": 5, "why": "two words", "empty": "", "x": [1, None],
         "timestamp": "2026-11-21T00:00:00Z", "service": "fraud_streaming", "logger": "l"}
    )  # fmt: skip
    assert readable(line) == (logging.WARNING, 'stored rows=5 why="two words" empty="" x=[1,null]')


def test_a_traceback_in_a_json_line_keeps_its_lines() -> None:
    line = json.dumps({"event": "unexpected_error", "level": "error", "exception": "Traceback\n  File x"})
    assert readable(line) == (logging.ERROR, "unexpected_error\nTraceback\n  File x")


@pytest.mark.parametrize(
    "line", ["plain", '{"no": "event"}', '{"event": "cut', "[1]", "{}", '{"a":' * 5000, ""]
)
def test_any_other_line_is_shown_as_it_is(line: str) -> None:
    assert readable(line) == (logging.INFO, line)


def test_a_level_that_is_none_is_information() -> None:
    assert readable('{"event": "e", "level": "loud"}') == (logging.INFO, "e")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("configuration: KAFKA_TOPIC is not set.", "KAFKA_TOPIC is not set."),
        ("nothing_to_do: a follower is at work", "a follower is at work"),
        (
            "python -m fraud_producer: error: argument --count",
            "python -m fraud_producer: error: argument --count",
        ),
        ('{"event": "broker_gone"}', "broker_gone"),
        ("  two\t spaces ", "two spaces"),
    ],
)
def test_the_reason_is_what_the_last_line_says(line: str, expected: str) -> None:
    assert sentence(line) == expected
