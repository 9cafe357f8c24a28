"""What may be removed from the embedded broker's log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from fraud_embedded.servers.broker_log import Batch, older_than, read_by_all

START = datetime(2026, 1, 1, tzinfo=UTC)


def log(sizes: list[int], first: int = 0) -> list[Batch]:
    """Produce requests of so many records, a minute apart."""
    offsets = accumulate(sizes[:-1], initial=first)
    return [Batch(at, str(at), START + timedelta(minutes=n)) for n, at in enumerate(offsets)]


SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=30)


@given(SIZES, st.integers(0, 300), st.integers(0, 40), st.integers(0, 100))
def test_only_what_lies_wholly_before_the_position_goes(
    sizes: list[int], position: int, keep: int, first: int
) -> None:
    batches = log(sizes, first)
    removed = read_by_all(batches, position, keep)
    ends = dict(zip(batches, (batch.offset for batch in batches[1:]), strict=False))
    read = [batch for batch in batches[:-1] if ends[batch] <= position]
    assert list(removed) == read[: max(0, len(read) - keep)]


def test_a_batch_that_is_read_in_part_stays() -> None:
    batches = log([10, 10, 10])
    assert [batch.offset for batch in read_by_all(batches, 19, keep=0)] == [0]
    assert [batch.offset for batch in read_by_all(batches, 20, keep=0)] == [0, 10]


def test_the_last_batch_stays_though_it_is_read() -> None:
    assert not read_by_all(log([10]), 10, keep=0)
    assert len(read_by_all(log([10, 10]), 20, keep=0)) == 1
    assert not read_by_all([], 10, keep=0)


@given(SIZES, st.integers(-5, 40))
def test_by_age_the_oldest_go_and_the_last_stays(sizes: list[int], minutes: int) -> None:
    batches = log(sizes)
    removed = older_than(batches, START + timedelta(minutes=minutes))
    assert list(removed) == batches[:-1][: max(0, minutes)]
