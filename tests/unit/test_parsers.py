"""The one parser each for traces, moments and whole numbers."""

from datetime import UTC, datetime, timedelta

import pytest

from fraud_core.moments import moment_of_milliseconds
from fraud_core.plain_numbers import parse_whole_number
from fraud_core.traceparent import parse_traceparent

GOOD_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("header", "valid"),
    [
        (GOOD_TRACE, True),
        (None, False),
        ("", False),
        (GOOD_TRACE.upper(), False),
        (GOOD_TRACE + "-x", False),
        (GOOD_TRACE + "\n", False),
        ("00-" + "0" * 32 + "-b7ad6b7169203331-01", False),
        ("00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01", False),
        ("x" * 5000, False),
    ],
)
def test_only_a_proper_trace_is_kept(header: str | None, valid: bool) -> None:
    """Whether it comes with a request, as text, or with a record, as bytes."""
    assert parse_traceparent(header) == (header if valid else None)
    assert parse_traceparent(None if header is None else header.encode()) == (header if valid else None)


def test_a_trace_that_is_not_ascii_is_ignored() -> None:
    assert parse_traceparent(b"\xff" * 55) is None


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("-3", -3), ("+7", 7), ("007", 7)])
def test_a_whole_number_is_read(text: str, number: int) -> None:
    assert parse_whole_number(text, -3, 7) == number


@pytest.mark.parametrize("text", ["", " 1", "1 ", "1_0", "1.0", "1e1", "²", "-4", "8", "9" * 31])
def test_what_is_no_whole_number_in_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a whole number from -3 to 7"):
        parse_whole_number(text, -3, 7)


def test_milliseconds_are_counted_from_1970() -> None:
    assert moment_of_milliseconds(1_500) == datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)
    assert moment_of_milliseconds(-1) == datetime(1970, 1, 1, tzinfo=UTC) - timedelta(milliseconds=1)
    assert moment_of_milliseconds(2**62) is None
