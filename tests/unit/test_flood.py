"""When bad records are a flood: the chunk's own share and the window's."""

from __future__ import annotations

import pytest

from fraud_adapters.kafka import Record
from fraud_streaming.consume.flood import FloodGuard, PoisonFlood
from fraud_streaming.consume.processor import dead_letter

BAD, GOOD = True, False


class Stream:
    """Chunks of good and bad records, one after the other; a refused one is not moved."""

    def __init__(self, guard: FloodGuard) -> None:
        self.guard = guard
        self.offset = 0
        self.bad = 0

    def chunk(self, *flags: bool) -> None:
        records = [Record("t", 0, self.offset + n, 0, None, b"{}", {}) for n in range(len(flags))]
        dead_letters = [
            dead_letter(record, "missing_field", "id: is missing.", 10)
            for record, flag in zip(records, flags, strict=True)
            if flag
        ]
        self.guard.admit(records, dead_letters)
        self.offset += len(flags)
        self.bad += sum(flags)

    def until_it_stops(self, *flags: bool) -> int:
        """Chunks that were let through."""
        for passed in range(1000):
            try:
                self.chunk(*flags)
            except PoisonFlood:
                return passed
        raise AssertionError("it never stopped")


def test_a_chunk_full_of_bad_records_is_refused_and_says_what_is_wrong() -> None:
    stream = Stream(FloodGuard(0.5))
    with pytest.raises(PoisonFlood, match=r"^30 of 40 records of t from offset 0 of partition 0 ") as caught:
        stream.chunk(*[GOOD] * 10, *[BAD] * 30)
    assert "30 of them with missing_field (id: is missing.)" in str(caught.value)
    stream.chunk(*[GOOD] * 20, *[BAD] * 20)  # just the limit


def test_a_few_records_are_no_flood_until_they_are_many() -> None:
    stream = Stream(FloodGuard(0.5))
    assert stream.until_it_stops(BAD, BAD, BAD) == 6
    with pytest.raises(PoisonFlood, match=r"\(21 of the latest 21\)"):
        stream.chunk(BAD, BAD, BAD)  # as often as it is asked


def test_after_good_records_a_flood_in_small_chunks_is_stopped_at_the_windows_share() -> None:
    stream = Stream(FloodGuard(0.5))
    stream.chunk(*[GOOD] * 500)
    assert stream.until_it_stops(BAD) == 100


def test_a_restart_lets_no_more_pass() -> None:
    stream = Stream(FloodGuard(0.5))
    stream.chunk(*[GOOD] * 500)
    stream.until_it_stops(BAD)
    for _ in range(5):
        stream.guard = FloodGuard(0.5)
        stream.guard.seed(200, stream.bad)
        assert stream.until_it_stops(BAD) == 0


def test_good_records_pass_after_a_flood_that_was_accepted() -> None:
    stream = Stream(FloodGuard(0.5))
    stream.guard.seed(200, 200)
    stream.chunk(*[GOOD] * 60, *[BAD] * 40)
    stream.chunk(*[GOOD] * 100)
    stream.chunk(BAD)


def test_a_chunk_asked_for_twice_counts_once() -> None:
    stream = Stream(FloodGuard(0.5))
    stream.guard.seed(10, 0)
    for _ in range(5):  # a transaction that is tried again
        stream.chunk(*[BAD] * 9)
        stream.offset, stream.bad = 0, 0
    stream.offset = 9
    stream.chunk(GOOD)


def test_a_chunk_larger_than_the_window_counts_as_a_whole() -> None:
    with pytest.raises(PoisonFlood, match="300 of the latest 500"):
        Stream(FloodGuard(0.5)).chunk(*[BAD] * 300, *[GOOD] * 200)


@pytest.mark.parametrize(("share", "bad"), [(0.0, 1), (0.9, 19)])
def test_the_share_is_the_callers(share: float, bad: int) -> None:
    with pytest.raises(PoisonFlood):
        Stream(FloodGuard(share)).chunk(*[BAD] * bad, *[GOOD] * (20 - bad))


def test_a_share_of_one_lets_everything_pass() -> None:
    stream = Stream(FloodGuard(1.0))
    for _ in range(10):
        stream.chunk(*[BAD] * 100)


@pytest.mark.parametrize(("total", "bad"), [(7, 3), (200, 101), (5000, 50), (0, 0)])
def test_a_seed_keeps_its_share(total: int, bad: int) -> None:
    guard = FloodGuard(0.5)
    guard.seed(total, bad)
    size = min(total, 200)
    assert (len(guard._history), sum(guard._history)) == (size, bad * size // max(total, 1))


def test_a_partition_that_comes_later_does_not_make_the_others_past_forgotten() -> None:
    stream = Stream(FloodGuard(0.5))
    stream.guard.seed(30, 30)
    stream.guard.seed(10, 0)
    with pytest.raises(PoisonFlood, match="31 of the latest 41"):
        stream.chunk(BAD)


def test_more_bad_records_than_records_are_no_seed() -> None:
    with pytest.raises(ValueError, match="3 of 2"):
        FloodGuard(0.5).seed(2, 3)
