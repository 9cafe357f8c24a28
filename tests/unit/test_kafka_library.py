"""The parts of kafka-python that are used beyond its interface, each by its name."""

from __future__ import annotations

import inspect
import os
import socket
import warnings

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.consumer.fetcher import Fetcher
from kafka.consumer.subscription_state import SubscriptionState, TopicPartitionState
from kafka.coordinator.base import BaseCoordinator
from kafka.net import KafkaNetSocket
from kafka.protocol.consumer import FetchResponse
from kafka.record import MemoryRecords

import fraud_adapters.kafka.library  # noqa: F401 - it replaces parts of the library


@pytest.mark.parametrize(
    ("owner", "text"),
    [
        (KafkaConsumer.__init__, "self._fetcher = "),
        (KafkaConsumer.__init__, "self._subscription = "),
        (KafkaConsumer.__init__, "self._coordinator = "),
        (KafkaConsumer.__init__, "self._net = "),
        (KafkaProducer.__init__, "self._sender = "),
        (Fetcher.__init__, "self._paused_partition_records = "),
        (Fetcher.__init__, "self._paused_completed_fetches = "),
        # Found on the instance first, so that both can be replaced for one consumer.
        (Fetcher.fetched_records, "self._parse_fetched_data(completion)"),
        (Fetcher._parse_fetched_data, "self.PartitionRecords("),
        (Fetcher._parse_fetched_data, ".highwater = highwater"),
        (Fetcher.PartitionRecords.__init__, "self._unpack_records(tp, records, key_deserializer"),
        (Fetcher.PartitionRecords.__init__, "self.aborted_producer_ids = set()"),
        (Fetcher.PartitionRecords.__init__, "self.aborted_transactions = collections.deque("),
        (Fetcher.PartitionRecords.__init__, "self.next_fetch_offset = fetch_offset"),
        (Fetcher.PartitionRecords.__init__, "self.bytes_read = 0"),
        (Fetcher.PartitionRecords.__init__, "self.leader_epoch = "),
        (Fetcher.PartitionRecords.drain, "self.record_iterator = None"),
        (MemoryRecords.__init__, "self._buffer = bytes_data"),
        (SubscriptionState.__init__, "self.assignment = "),
        (TopicPartitionState.__init__, "self._position = "),
        (TopicPartitionState.__init__, "self.highwater = "),
        (KafkaNetSocket.connect, "sock = self.socket(family, sock_type, proto)"),
        (BaseCoordinator, "def ensure_active_group("),
        (BaseCoordinator, "def ensure_active_group_async("),
    ],
)
def test_an_inner_part_is_as_it_is_used(owner: object, text: str) -> None:
    assert text in inspect.getsource(owner)  # type: ignore[arg-type]


def test_a_fetch_says_up_to_where_it_could_read() -> None:
    partition = FetchResponse.FetchableTopicResponse.PartitionData
    names = {"last_stable_offset", "high_watermark", "aborted_transactions", "records"}
    assert names <= set(dir(partition))


def test_a_socket_that_is_left_to_the_collector_is_closed_without_a_warning() -> None:
    sock = KafkaNetSocket().socket(socket.AF_INET)
    descriptor = sock.fileno()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del sock
    assert not caught
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
