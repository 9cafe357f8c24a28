"""Consumer group membership against real brokers."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import confluent_kafka
import pytest

from fraud_adapters.kafka import (
    BrokerUnavailable,
    GroupMember,
    KafkaFailure,
    Publisher,
    ReadError,
    ensure_topics,
)
from tests.integration.group_members import Member, poll_until
from tests.support.kafka_server import KafkaServer

Join = Callable[..., Member]

# Shorter than the default, for how long joins take depends on it.
SESSION_S = 3
SESSION = {"session_timeout_ms": 1000 * SESSION_S, "heartbeat_interval_ms": 500}


@pytest.fixture
def kafka_bootstrap(any_kafka: KafkaServer) -> str:
    return any_kafka.bootstrap


@pytest.fixture
def topic(kafka_bootstrap: str) -> str:
    name = f"member-{uuid.uuid4().hex[:12]}"
    ensure_topics(kafka_bootstrap, [name], partitions=2)
    return name


@pytest.fixture
def join(kafka_bootstrap: str, topic: str) -> Iterator[Join]:
    with ExitStack() as members:

        def one_more(group: str = "group") -> Member:
            member = Member(kafka_bootstrap, topic, f"{topic}-{group}", **SESSION)
            members.enter_context(closing(member.member))
            return member

        yield one_more


def publish(bootstrap: str, topic: str, values: list[bytes], key: bytes = b"card") -> None:
    with Publisher(bootstrap) as publisher:
        for value in values:
            publisher.send(topic, key, value)


def numbers(*span: int) -> list[bytes]:
    return [b"%d" % number for number in range(*span)]


def committed(bootstrap: str, group: str, topic: str, partition: int) -> int:
    foreign: Any = confluent_kafka.Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    try:
        positions = foreign.committed([confluent_kafka.TopicPartition(topic, partition)], timeout=20)
    finally:
        foreign.close()
    offset: int = positions[0].offset
    return offset


def test_nothing_is_read_before_start_says_where(kafka_bootstrap: str, topic: str, join: Join) -> None:
    publish(kafka_bootstrap, topic, numbers(40))
    one = join()
    poll_until(lambda: one.owns(0, 1), one)
    for _ in range(5):
        assert one.poll() == []
    assert one.member.positions() == {}
    assert one.member.high_watermarks() == {}
    assert one.events == [("assigned", frozenset({0, 1}))]
    assert one.member.earliest_offsets([0, 1]) == {0: 0, 1: 0}

    one.member.start({0: 0, 1: 0})
    poll_until(lambda: len(one.records) >= 40, one)
    assert one.values() == numbers(40)
    used = one.records[0].partition
    assert one.member.positions() == {used: 40, 1 - used: 0} == one.member.high_watermarks()

    one.member.commit({used: 40})
    assert committed(kafka_bootstrap, f"{topic}-group", topic, used) == 40

    # What was fetched before stop is not what comes after start.
    one.member.start({used: 30})
    first = one.member.poll(3, 20)
    assert [record.offset for record in first] == [30, 31, 32]
    one.member.stop([used])
    publish(kafka_bootstrap, topic, numbers(40, 60))
    for _ in range(3):
        assert one.poll() == []
    assert one.member.positions() == {1 - used: 0}
    # Beyond the end that was seen last, and in the log all the same.
    one.records.clear()
    one.member.start({used: 55})
    poll_until(lambda: len(one.records) >= 5, one)
    assert one.values() == numbers(55, 60)

    one.member.pause()
    publish(kafka_bootstrap, topic, numbers(60, 70))
    until = time.monotonic() + 1.3 * SESSION_S
    while time.monotonic() < until:
        assert one.poll() == []
    assert len(one.events) == 1, "a paused member that polls stays in the group"
    one.member.start({used: 58})
    assert one.poll() == [], "started while paused"
    one.records.clear()
    one.member.resume()
    poll_until(lambda: len(one.records) >= 12, one)
    assert one.values() == numbers(58, 70)

    with pytest.raises(ValueError, match=r"\[7\] of .* not assigned"):
        one.member.start({7: 0})
    one.member.start({used: 1000})
    with pytest.raises(ReadError, match=f"offset 1000 of partition {used}"):
        poll_until(lambda: False, one)


def test_members_share_the_partitions_and_take_over_from_those_who_leave(
    kafka_bootstrap: str, topic: str, join: Join
) -> None:
    one, two = join(), join()
    one.at_start = two.at_start = {0: 0, 1: 0}
    poll_until(lambda: len(one.member.assigned()) == len(two.member.assigned()) == 1, one, two)
    assert one.member.assigned() | two.member.assigned() == {0, 1}
    for number in range(20):
        publish(kafka_bootstrap, topic, [b"%d" % number], key=b"%d" % number)
    poll_until(lambda: len(one.records) + len(two.records) >= 20, one, two)
    assert sorted(one.values() + two.values()) == sorted(numbers(20))
    for member in (one, two):
        assert {record.partition for record in member.records} == member.member.assigned()

    remaining = two.member.assigned()
    two.member.close()
    assert two.events[-1] == ("revoked", remaining)
    assert two.member.assigned() == frozenset()
    poll_until(lambda: one.owns(0, 1), one)
    # Whatever was assigned was revoked before anything was assigned again.
    assert [name for name, _ in one.events] == ["assigned", "revoked"] * (len(one.events) // 2) + ["assigned"]


@pytest.mark.parametrize("any_kafka", ["tansu"], indirect=True)
def test_a_join_goes_on_between_polls_and_a_callback_that_fails_is_heard(
    kafka_bootstrap: str, topic: str
) -> None:
    publish(kafka_bootstrap, topic, numbers(3))

    def fail(partitions: frozenset[int]) -> None:
        member.start(dict.fromkeys(partitions, 0))
        raise OSError("the database is away")

    member = GroupMember(
        kafka_bootstrap, topic, f"{topic}-group", "test", on_assigned=fail, on_revoked=lambda _: None
    )
    with closing(member):
        with pytest.raises(OSError, match="the database is away"):
            for _ in range(3000):
                assert member.poll(10, 0) == []
                # The join proceeds while the caller is busy with other work.
                time.sleep(0.02)
        assert member.assigned() == {0, 1}
        assert member.poll(10, 0.3) == [], "no partition may be started"


def test_nothing_listening_is_one_sentence() -> None:
    with pytest.raises(BrokerUnavailable, match=r"KAFKA_BOOTSTRAP_SERVERS\.$"):
        Member("127.0.0.1:1", "t", "g")


def test_a_broker_that_was_killed_is_joined_again(
    any_kafka: KafkaServer, kafka_bootstrap: str, topic: str, join: Join
) -> None:
    publish(kafka_bootstrap, topic, numbers(10))
    one, leaving = join(), join("another")
    poll_until(lambda: one.owns(0, 1) and leaving.owns(0, 1), one, leaving)
    # Whether the broker still knows the member does not matter.
    one.at_start = {0: 0, 1: 0}
    one.member.start(one.at_start)
    with any_kafka.stopped():
        started = time.monotonic()
        for _ in range(5):
            one.poll(0.2)
        with pytest.raises(KafkaFailure, match=f"position in {topic} was not written"):
            one.member.commit({min(one.member.assigned()): 0})
        with pytest.raises(ReadError, match=topic):
            one.member.earliest_offsets(one.member.assigned())
        leaving.member.close()
        assert time.monotonic() - started < 20, "each has a bound, of nine seconds in all"
    poll_until(lambda: one.owns(0, 1) and len(one.records) >= 10, one)
    assert one.values()[-10:] == numbers(10)
    publish(kafka_bootstrap, topic, numbers(10, 20))
    poll_until(lambda: one.values()[-1] == b"19", one)
    assert one.values()[-10:] == numbers(10, 20)
