"""Members that leave their group while it is forming: whoever comes next gets the partitions."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

import pytest

from fraud_adapters.kafka import ensure_topics
from fraud_adapters.kafka.member import SESSION_TIMEOUT_MS
from tests.integration.group_members import Member, poll_until
from tests.support.kafka_server import KafkaServer

# Two sessions that expire one after the other, and a join; without the remedy it takes for ever.
HEALS_S = 2 * SESSION_TIMEOUT_MS / 1000 + 13

Join = Callable[[], Member]


@pytest.fixture
def join(any_kafka: KafkaServer) -> Join:
    topic = f"leave-{uuid.uuid4().hex[:12]}"
    ensure_topics(any_kafka.bootstrap, [topic], partitions=2)
    return lambda: Member(any_kafka.bootstrap, topic, f"{topic}-group")


def poll_for(seconds: float, *members: Member) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for member in members:
            member.poll()


@pytest.mark.parametrize("after_s", [0.1, 0.5, 2.0, 3.0])
def test_one_that_stops_while_it_joins_leaves_nothing_behind(join: Join, after_s: float) -> None:
    stopped = join()
    poll_for(after_s, stopped)
    stopped.member.close()
    following = join()
    poll_until(lambda: following.owns(0, 1), following, seconds=HEALS_S)
    following.member.close()


def test_two_that_stop_one_after_the_other_while_they_join(join: Join) -> None:
    for _ in range(2):
        stopped = join()
        poll_for(1.0, stopped)
        stopped.member.close()
    following = join()
    poll_until(lambda: following.owns(0, 1), following, seconds=HEALS_S)
    following.member.close()


@pytest.mark.parametrize("first_leaves", [True, False])
def test_of_two_that_join_at_once_one_stops(join: Join, first_leaves: bool) -> None:
    members = [join(), join()]
    poll_for(1.5, *members)
    members.pop(0 if first_leaves else 1).member.close()
    poll_until(lambda: members[0].owns(0, 1), members[0], seconds=HEALS_S)
    members[0].member.close()


def test_the_leader_stops_while_another_joins(join: Join) -> None:
    leader = join()
    poll_until(lambda: leader.owns(0, 1), leader)
    joining = join()
    joining.poll(0.5)
    leader.member.close()
    poll_until(lambda: joining.owns(0, 1), joining, seconds=HEALS_S)
    joining.member.close()
