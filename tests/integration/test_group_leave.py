"""Members that leave their group while it is forming: whoever comes next gets the partitions."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from fraud_adapters.kafka import ensure_topics
from fraud_adapters.kafka.member import SESSION_TIMEOUT_MS
from tests.integration.group_members import Member, poll_until
from tests.support.kafka_server import KafkaServer

# Two sessions that expire one after the other, and a join; without the remedy it takes for ever.
HEALS_S = 2 * SESSION_TIMEOUT_MS / 1000 + 13

Join = Callable[[], Member]


def poll_for(seconds: float, *members: Member) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for member in members:
            member.poll()


def one_stops_while_it_joins(join: Join, after_s: float) -> Member:
    stopped = join()
    poll_for(after_s, stopped)
    stopped.member.close()
    return join()


def two_stop_one_after_the_other_while_they_join(join: Join) -> Member:
    for _ in range(2):
        stopped = join()
        poll_for(1.0, stopped)
        stopped.member.close()
    return join()


def of_two_that_join_at_once_one_stops(join: Join, first_leaves: bool) -> Member:
    members = [join(), join()]
    poll_for(1.5, *members)
    members.pop(0 if first_leaves else 1).member.close()
    return members[0]


def the_leader_stops_while_another_joins(join: Join) -> Member:
    leader = join()
    poll_until(lambda: leader.owns(0, 1), leader)
    joining = join()
    joining.poll(0.5)
    leader.member.close()
    return joining


# Each returns the member that is to get all partitions.
DEPARTURES: Final[tuple[Callable[[Join], Member], ...]] = (
    *(partial(one_stops_while_it_joins, after_s=after_s) for after_s in (0.1, 0.5, 2.0, 3.0)),
    two_stop_one_after_the_other_while_they_join,
    *(partial(of_two_that_join_at_once_one_stops, first_leaves=first) for first in (True, False)),
    the_leader_stops_while_another_joins,
)


def test_whoever_comes_next_gets_the_partitions(any_kafka: KafkaServer) -> None:
    """All at the same time, each in a group of its own: they wait for sessions to expire."""

    def heals(departure: Callable[[Join], Member]) -> str | None:
        topic = f"leave-{uuid.uuid4().hex[:12]}"
        ensure_topics(any_kafka.bootstrap, [topic], partitions=2)
        following = departure(lambda: Member(any_kafka.bootstrap, topic, f"{topic}-group"))
        try:
            poll_until(lambda: following.owns(0, 1), following, seconds=HEALS_S)
        except AssertionError as error:
            return f"{departure}: {error}"
        finally:
            following.member.close()
        return None

    with ThreadPoolExecutor(len(DEPARTURES)) as pool:
        assert [problem for problem in pool.map(heals, DEPARTURES) if problem] == []
