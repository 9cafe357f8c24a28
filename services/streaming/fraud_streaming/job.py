"""`run`: the bounded run over the transactions topic, then the labels topic."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import psycopg2

from config.parameters import Streaming
from config.settings import ApiClientSettings, DatabaseSettings, KafkaSettings
from fraud_adapters.api_client import ApiClient, ApiRefused, ApiUnavailable
from fraud_adapters.job import JobFailed, NothingToDo
from fraud_adapters.kafka import KafkaFailure, PartitionReader, topic_ids
from fraud_adapters.kafka_groups import commit_group_offsets
from fraud_adapters.logs import get_logger
from fraud_adapters.offsets import OffsetMoved
from fraud_adapters.postgres import DatabaseUnavailable, connect
from fraud_core.contract import Contract
from fraud_core.records import RecordParser
from fraud_streaming.claim import TopicChanged, claim, start_reading
from fraud_streaming.dlq import DeadLetterTopic
from fraud_streaming.flood import PoisonFlood, seeded
from fraud_streaming.labels import LabelWork
from fraud_streaming.pump import Limits, Pump
from fraud_streaming.report import Report
from fraud_streaming.transactions import TransactionWork
from fraud_streaming.work import Work

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

SERVICE: Final = "fraud-streaming"
GROUP: Final = "fraud-streaming"  # what Kafka's lag tools list


@dataclass(frozen=True, slots=True)
class Site:
    """Where everything is and what the run may do."""

    contract: Contract
    database: DatabaseSettings
    kafka: KafkaSettings
    api: ApiClientSettings
    streaming: Streaming


def run(site: Site, limits: Limits) -> dict[str, Any]:
    """Drain both topics; gives the result of the run.

    Raises:
        JobFailed: a part is missing or refuses; nothing is lost, the next run goes on from there.
        NothingToDo: another consumer holds every partition.
    """
    reports: dict[str, Report] = {}
    try:
        _run(site, limits, reports)
    except _FAILURES as error:
        raise JobFailed(str(error), _result(reports)) from error
    except psycopg2.OperationalError as error:
        raise JobFailed(f"Postgres went away: {_one_line(error)}.", _result(reports)) from error
    except psycopg2.InterfaceError as error:
        raise JobFailed(f"The connection to Postgres broke: {_one_line(error)}.", _result(reports)) from error
    return _result(reports)


_FAILURES: Final = (
    *(DatabaseUnavailable, KafkaFailure, ApiUnavailable, ApiRefused),
    *(OffsetMoved, TopicChanged, PoisonFlood),
)


def _run(site: Site, limits: Limits, reports: dict[str, Report]) -> None:
    clock = partial(datetime.now, UTC)
    settings = site.streaming
    with ExitStack() as open_until_the_end:
        conn = open_until_the_end.enter_context(closing(connect(site.database.url, SERVICE)))
        api = open_until_the_end.enter_context(ApiClient(site.api))
        api.check()
        dead_letters = open_until_the_end.enter_context(
            DeadLetterTopic(site.kafka.bootstrap_servers, site.kafka.dlq_topic)
        )
        transactions = TransactionWork(
            site.contract,
            RecordParser(site.contract, max_bytes=settings.max_record_bytes),
            api,
            payload_bytes=settings.dead_letter_payload_bytes,
            clock=clock,
        )
        labels = LabelWork(
            max_bytes=settings.max_record_bytes,
            payload_bytes=settings.dead_letter_payload_bytes,
            clock=clock,
        )
        ids = topic_ids(site.kafka.bootstrap_servers, [site.kafka.topic, site.kafka.labels_topic])
        for name, topic, work in (
            ("transactions", site.kafka.topic, transactions),
            ("labels", site.kafka.labels_topic, labels),
        ):
            drain = _Drain(site, conn, dead_letters, limits, reports)
            drain(name, topic, ids[topic], work)


@dataclass(frozen=True, slots=True)
class _Drain:
    site: Site
    conn: Connection
    dead_letters: DeadLetterTopic
    limits: Limits
    reports: dict[str, Report]

    def __call__(self, name: str, topic: str, topic_id: str, work: Work[Any]) -> None:
        servers = self.site.kafka.bootstrap_servers
        with PartitionReader(servers, topic, client_id=SERVICE) as reader:
            claimed = claim(self.conn, topic, topic_id, reader.partitions())
            if claimed is None and not self.reports:
                raise NothingToDo(f"Another consumer is at work on the topic {topic}.")
            if claimed is None:
                get_logger(__name__).info("another_consumer_at_work", topic=topic)
                return
            start_reading(reader, claimed)
            pump = Pump(
                conn=self.conn,
                reader=reader,
                claimed=claimed,
                work=work,
                dead_letters=self.dead_letters,
                guard=seeded(self.conn, claimed.topic, claimed.positions, self.site.streaming.max_bad_share),
                limits=self.limits,
            )
            self.reports[name] = pump.report
            pump.run()
        if pump.committed:
            _show_position(servers, topic, pump.committed)


def _show_position(servers: list[str], topic: str, offsets: dict[int, int]) -> None:
    try:
        commit_group_offsets(servers, GROUP, topic, offsets)
    except KafkaFailure as error:
        # Only for Kafka's own tools to look at: our position is in the database.
        get_logger(__name__).warning("group_offsets_not_committed", topic=topic, error=str(error))


def _result(reports: dict[str, Report]) -> dict[str, Any]:
    transactions = reports.get("transactions", Report()).as_result()
    return {"status": "done", **transactions, "labels": reports.get("labels", Report()).as_result()}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
