"""Batches as nobody should send them: each record is read or named, and memory is bounded."""

from __future__ import annotations

import struct
from collections import namedtuple
from collections.abc import Sequence

import pytest
from crc32c import crc32c
from kafka import TopicPartition
from kafka.record import MemoryRecords

from fraud_adapters.kafka import Damage, PositionUnreadable, Record
from fraud_adapters.kafka.codecs import BATCH_BYTES, SNAPPY_BLOCK_BYTES
from fraud_adapters.kafka.library import FetchedRecords
from tests.support.kafka_wire import NOW_MS, WireBatch, WireRecord, compressed, legacy, varint

KEEP = 1000
Aborted = namedtuple("Aborted", ["producer_id", "first_offset"])
CODECS = ["none", "gzip", "snappy", "xerial", "lz4", "zstd", "zstd-sized"]


class Fetch:
    """One fetch, taken record by record or in one piece."""

    def __init__(self, data: bytes, start: int = 0, aborted: Sequence[Aborted] = ()) -> None:
        self.part = FetchedRecords(
            KEEP, start, TopicPartition("t", 0), MemoryRecords(data), aborted_transactions=aborted
        )

    def all(self, step: int = 1000) -> list[Record]:
        records: list[Record] = []
        while self.part:
            records += self.part.take(step)
        return records

    @property
    def position(self) -> int:
        offset: int = self.part.next_fetch_offset
        return offset


def values(records: Sequence[Record]) -> list[object]:
    """What was read, and of what was not the reason with the offsets."""
    return [
        record.value if record.damage is None else (str(record.damage), record.offset, record.next_offset)
        for record in records
    ]


def good(*names: bytes, base: int = 0, codec: str = "none") -> bytes:
    return WireBatch([WireRecord(name) for name in names], codec).packed(base)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_every_codec_is_read_from_any_offset(codec: str, step: int) -> None:
    data = good(b"a", b"b", b"c", codec=codec) + good(b"d", base=3, codec=codec)
    for start in range(5):
        fetch = Fetch(data, start)
        assert values(fetch.all(step)) == [b"a", b"b", b"c", b"d"][start:]
        assert fetch.position == 4


def test_all_of_a_record_is_read() -> None:
    record = WireRecord(b"v", b"\xff", [(b"h", b"1"), (b"null", None), (b"h", b"2"), (b"raw", b"\xff")], -5)
    (read,) = Fetch(WireBatch([record]).packed(7), 7).all()
    assert read == Record("t", 0, 7, NOW_MS - 5, b"\xff", b"v", {"h": b"2", "null": b"", "raw": b"\xff"})


def test_nulls_are_read() -> None:
    (read,) = Fetch(WireBatch([WireRecord(None, None)]).packed()).all()
    assert (read.key, read.value, read.value_bytes, read.damage) == (None, b"", 0, None)


@pytest.mark.parametrize("codec", CODECS)
def test_a_header_whose_name_is_no_text_spoils_its_record_alone(codec: str) -> None:
    undecodable = WireRecord(b"2", headers=[(b"schema", b"s"), (b"\xff\xfea", b"x")])
    before, bad, after = Fetch(
        WireBatch([WireRecord(b"1"), undecodable, WireRecord(b"3")], codec).packed()
    ).all()
    assert (before.value, after.value) == (b"1", b"3")
    assert (bad.value, bad.key, bad.headers["schema"]) == (b"2", b"k", b"s")
    assert (bad.damage, bad.detail) == (Damage.BAD_HEADER, r"The name of a header is not UTF-8: \xff\xfea.")


BROKEN = {
    "a value longer than the record": b"\0\0" + varint(1) + varint(1) + b"k" + varint(500) + b"x",
    "a number that does not end": b"\0\0" + varint(1) + b"\xff" * 3,
    "an endless number": b"\0\0" + varint(1) + b"\xff" * 12,
    "headers without end": b"\0\0" + varint(1) + varint(-1) + varint(-1) + varint(2**40),
    "a negative number of headers": b"\0\0" + varint(1) + varint(-1) + varint(-1) + varint(-3),
    "a header without a name": b"\0\0" + varint(1) + varint(-1) + varint(-1) + varint(1) + varint(-1),
    "bytes left over": b"\0\0" + varint(1) + varint(-1) + varint(-1) + varint(0) + b"rest",
}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("codec", ["none", "lz4"])
def test_a_broken_record_spoils_itself_alone(raw: bytes, codec: str) -> None:
    batch = WireBatch([WireRecord(b"1"), WireRecord(None, raw=raw), WireRecord(b"3")], codec)
    fetch = Fetch(batch.packed() + good(b"4", base=3))
    assert values(fetch.all()) == [b"1", ("unreadable", 1, 2), b"3", b"4"]


def test_several_bad_records_each_have_their_own() -> None:
    undecodable = WireRecord(b"2", headers=[(b"\xff", None)])
    batch = WireBatch(
        [undecodable, WireRecord(b"ok"), WireRecord(None, raw=b"\0\0" + varint(2) + b"\1"), undecodable]
    )
    assert values(Fetch(batch.packed()).all()) == [
        ("bad_header", 0, 1),
        b"ok",
        ("unreadable", 2, 3),
        ("bad_header", 3, 4),
    ]


THREE = [WireRecord(b"1"), WireRecord(b"2"), WireRecord(b"3")]
UNDECODABLE = {
    "no offset of its own": (WireBatch([WireRecord(b"1"), WireRecord(b"", raw=b"\0"), *THREE[2:]]), 1),
    "a length that is none": (WireBatch([WireRecord(b"1"), WireRecord(b"", raw=b"")], last_delta=2), 1),
    "an offset beyond the batch": (
        WireBatch([WireRecord(b"1"), WireRecord(b"", raw=b"\0\0" + varint(2**31) + b"\1\1\0"), *THREE[2:]]),
        1,
    ),
    "an offset twice": (WireBatch([WireRecord(b"1"), WireRecord(b"", raw=b"\0\0\0\1\1\0"), *THREE[2:]]), 1),
    "fewer records than it says": (WireBatch(THREE[:2], last_delta=2, count=3), 2),
    "more records than it says": (WireBatch(THREE, count=1), 1),
    "a negative count": (WireBatch(THREE, count=-1), 0),
    "a wrong checksum": (WireBatch(THREE, crc=1), 0),
    "an unknown codec": (WireBatch(THREE, attributes=7), 0),
    **{
        f"what is no {codec}": (WireBatch(THREE, codec, content=b"\x82SNAPPY\0 no such thing"), 0)
        for codec in CODECS[1:]
    },
    **{
        f"{codec} that is cut off": (
            WireBatch(THREE, codec, content=compressed(codec, bytes(range(256)) * 20)[:40]),
            0,
        )
        for codec in CODECS[1:]
    },
    "snappy that says it is huge": (
        WireBatch(THREE, "snappy", content=b"\xff\xff\xff\xff\x0f" + b"x" * 50),
        0,
    ),
}


@pytest.mark.parametrize(("batch", "first"), UNDECODABLE.values(), ids=UNDECODABLE)
def test_what_cannot_be_decoded_is_one_record_and_reading_goes_on(batch: WireBatch, first: int) -> None:
    data = good(b"before", base=10) + batch.packed(11) + good(b"after", base=14)
    expected = [*[b"before", b"1", b"2"][: 1 + first], ("unreadable", 11 + first, 14), b"after"]
    for step in (1, 1000):
        fetch = Fetch(data, 10)
        assert values(fetch.all(step)) == expected
        assert fetch.position == 15
    bad = next(record for record in Fetch(data, 10).all() if record.damage)
    assert bad.value_bytes == len(batch.packed())
    assert "13 cannot be read: " in bad.detail
    # Once its first offset is passed, what is left of it is named alone.
    assert values(Fetch(data, 13).all())[0] in {("unreadable", 13, 14), b"3"}


def test_a_position_taken_right_behind_it_is_past_the_whole_batch() -> None:
    fetch = Fetch(WireBatch(THREE, crc=1).packed() + good(b"after", base=3))
    assert values(fetch.part.take(1)) == [("unreadable", 0, 3)]
    assert fetch.position == 3


def test_gaps_of_compaction_are_passed() -> None:
    batch = WireBatch([WireRecord(b"1"), WireRecord(b"", raw=b"\0\0" + varint(7) + b"\1\2v\0")], last_delta=9)
    fetch = Fetch(batch.packed() + WireBatch([], last_delta=4).packed(10))
    assert values(fetch.all()) == [b"1", b"v"]
    assert fetch.position == 15


@pytest.mark.parametrize("timestamp", [2**63 - 1, -(2**63), -1, 0])
def test_a_timestamp_stays_one_that_can_be_stored(timestamp: int) -> None:
    batch = WireBatch(
        [WireRecord(b"1", time_delta=1), WireRecord(b"2", time_delta=-1)], timestamp_ms=timestamp
    )
    assert all(-(2**63) <= record.timestamp_ms < 2**63 for record in Fetch(batch.packed()).all())


def test_the_brokers_time_counts_where_it_sets_it() -> None:
    batch = WireBatch([WireRecord(b"1", time_delta=-500)], attributes=0x08)
    assert Fetch(batch.packed()).all()[0].timestamp_ms == NOW_MS


@pytest.mark.parametrize("codec", CODECS)
def test_a_record_that_is_too_large_is_kept_by_its_beginning(codec: str) -> None:
    size = 5_000_000
    large = WireRecord(b"v" * size, b"k" * 70_000, [(b"schema", b"s")])
    batch = WireBatch([WireRecord(b"1"), large, WireRecord(b"3")], codec)
    before, bad, after = Fetch(batch.packed()).all()
    assert (before.value, after.value) == (b"1", b"3")
    assert (bad.value, bad.value_bytes, bad.headers) == (b"v" * KEEP, size, {"schema": b"s"})
    assert bad.damage is None


def test_headers_that_are_too_large_spoil_their_record_alone() -> None:
    many = WireRecord(b"2", headers=[(b"h%d" % n, b"x" * 1000) for n in range(200)])
    batch = WireBatch([WireRecord(b"1"), many, WireRecord(b"3")], "gzip")
    assert values(Fetch(batch.packed()).all()) == [b"1", ("unreadable", 1, 2), b"3"]


@pytest.mark.parametrize("codec", ["snappy", "xerial"])
def test_a_block_of_snappy_is_unpacked_up_to_a_limit(codec: str) -> None:
    batch = WireBatch([WireRecord(b" " * (SNAPPY_BLOCK_BYTES + 1)), WireRecord(b"2")], codec)
    fetch = Fetch(batch.packed() + good(b"after", base=2))
    expected = [("unreadable", 0, 2)] if codec == "snappy" else [b" " * KEEP, b"2"]
    assert values(fetch.all()) == [*expected, b"after"]


def test_past_the_limit_of_a_batch_its_rest_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert BATCH_BYTES == 1 << 30
    monkeypatch.setattr("fraud_adapters.kafka.codecs.BATCH_BYTES", 5 << 20)
    batch = WireBatch([WireRecord(b"1"), WireRecord(b" " * (6 << 20)), WireRecord(b"3")], "zstd")
    assert values(Fetch(batch.packed() + good(b"4", base=3)).all()) == [b"1", ("unreadable", 1, 3), b"4"]


def test_what_is_packed_in_what_is_packed_is_a_value() -> None:
    inner = compressed("gzip", compressed("gzip", b" " * 1_000_000))
    assert values(Fetch(good(inner, codec="zstd")).all()) == [inner[:KEEP]]


def test_records_of_aborted_transactions_are_passed() -> None:
    def sent(producer: int, base: int, value: bytes, control: bool = False) -> bytes:
        data = bytearray(
            WireBatch([WireRecord(value, b"\0\0\0\0")], attributes=0x30 if control else 0x10).packed(base)
        )
        struct.pack_into(">q", data, 43, producer)
        return _with_crc(data)

    data = b"".join(
        [
            sent(1, 0, b"aborted"),
            sent(2, 1, b"kept"),
            sent(1, 2, b"", control=True),
            sent(1, 3, b"next of the same producer"),
            sent(1, 4, b"", control=True),
            sent(2, 5, b"", control=True),
        ]
    )
    fetch = Fetch(data, aborted=[Aborted(1, 0)])
    assert values(fetch.all()) == [b"kept", b"next of the same producer"]
    assert fetch.position == 6


def _with_crc(data: bytearray) -> bytes:
    struct.pack_into(">I", data, 17, crc32c(bytes(data[21:])))
    return bytes(data)


UNDECIDED = {
    "a wrong checksum and another end": WireBatch(THREE, crc=1, last_delta=500).packed(5),
    "a format to come": WireBatch(THREE, magic=3).packed(5),
    "a length that is none": struct.pack(">qi", 5, 0) + bytes(40),
    "a negative length": struct.pack(">qi", 5, -5) + bytes(40),
}


@pytest.mark.parametrize("bad", UNDECIDED.values(), ids=UNDECIDED)
def test_where_skipping_would_be_a_guess_one_sentence_says_so(bad: bytes) -> None:
    fetch = Fetch(good(b"before", base=4) + bad, 4)
    assert values(fetch.part.take(10)) == [b"before"]
    with pytest.raises(PositionUnreadable, match=r"topic t .* offset 5 of partition 0: .*next_offset"):
        Fetch(bad, 5).part.take(10)


def test_a_wrong_checksum_is_skipped_where_the_next_batch_says_how_far() -> None:
    data = WireBatch(THREE, crc=1, last_delta=500).packed(5) + good(b"after", base=8)
    assert values(Fetch(data, 5).all()) == [("unreadable", 5, 8), b"after"]


def test_a_batch_that_is_cut_off_is_left_for_the_next_fetch() -> None:
    fetch = Fetch(good(b"1") + good(b"2", base=1)[:-1])
    assert values(fetch.all()) == [b"1"]
    assert fetch.position == 1


def packed_legacy(codec: str, magic: int, offset: int, *names: bytes) -> bytes:
    inner = b"".join(
        legacy(name, magic, number if magic else offset - len(names) + 1 + number)
        for number, name in enumerate(names)
    )
    return legacy(compressed(codec, inner), magic, offset, {"gzip": 1, "xerial": 2, "lz4": 3}[codec])


@pytest.mark.parametrize("magic", [0, 1])
def test_old_messages_are_read(magic: int) -> None:
    data = legacy(b"a", magic, 5) + legacy(None, magic, 6, key=None) + legacy(b"b", magic, 9)
    fetch = Fetch(data, 5)
    records = fetch.all()
    assert values(records) == [b"a", b"", b"b"]
    assert [record.timestamp_ms for record in records] == [NOW_MS if magic else -1] * 3
    assert fetch.position == 10


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", ["gzip", "xerial", "lz4"])
def test_old_messages_that_are_packed_are_read(codec: str, magic: int) -> None:
    data = packed_legacy(codec, magic, 7, b"a", b"b", b"c") + legacy(b"d", magic, 8)
    for start in (5, 6, 8):
        assert values(Fetch(data, start).all()) == [b"a", b"b", b"c", b"d"][start - 5 :]


OLD_BROKEN = {
    "checksum": legacy(b"x", 1, 7)[:-1] + b"y",
    "codec": legacy(b"x", 1, 7, 1),
    "twice": legacy(compressed("gzip", packed_legacy("gzip", 1, 1, b"x")), 1, 7, 1),
    "bomb": legacy(compressed("gzip", legacy(b" " * (20 << 20), 1, 0)), 1, 7, 1),
    "empty": legacy(compressed("gzip", b""), 1, 7, 1),
}


@pytest.mark.parametrize("bad", OLD_BROKEN.values(), ids=OLD_BROKEN)
def test_old_messages_that_cannot_be_read_are_named(bad: bytes) -> None:
    fetch = Fetch(legacy(b"before", 1, 4) + bad + legacy(b"after", 1, 8), 4)
    assert values(fetch.all()) == [b"before", ("unreadable", 5, 8), b"after"]
