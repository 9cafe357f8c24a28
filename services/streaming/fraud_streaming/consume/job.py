"""`run`: the bounded run over the transactions topic, then the labels topic."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from config.job_results.streaming import RunResult
from fraud_adapters.api_client import ApiClient
from fraud_adapters.job import EXPECTED, NothingToDo, failure_of
from fraud_adapters.job.logs import get_logger
from fraud_adapters.kafka import KafkaFailure, PartitionReader, topic_ids
from fraud_adapters.kafka.groups import commit_group_offsets
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.labels import refresh_classes
from fraud_adapters.postgres.stalled_holders import StalledHolder
from fraud_streaming.consume.backlog import lag, unread_offsets
from fraud_streaming.consume.claim import Claim, claim, start_reading
from fraud_streaming.consume.commit import Committer
from fraud_streaming.consume.flood import guard_from_history
from fraud_streaming.consume.pump import Pump, RunLimits
from fraud_streaming.consume.report import Report, result_of
from fraud_streaming.consume.stalled_holders import check_holders, describe_stall
from fraud_streaming.dead_letters.topic import DeadLetterTopic
from fraud_streaming.follow.alerts import AlertRelay
from fraud_streaming.follow.companion import REFRESH_ROWS
from fraud_streaming.installation import SERVICE, ConsumedTopic, Installation, consumed_topics

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


def run(installation: Installation, limits: RunLimits) -> RunResult:
    """Drain both topics and return the result of the run.

    Raises:
        JobFailed: a server is missing or refuses; nothing is lost, the next run resumes at the same position.
        NothingToDo: another consumer holds every partition.
    """
    reports: dict[str, Report] = {}
    ended: list[str] = []
    try:
        judged = _run(installation, limits, reports, ended)
        alerts = _publish_alerts(installation)
    except EXPECTED as error:
        done = {**result_of(reports), "stalled_holders_ended": ended}
        raise failure_of(error).extended(result=done) from error
    return {
        **result_of(reports),
        "classes_refreshed": judged,
        "alerts_published": alerts,
        "stalled_holders_ended": ended,
    }


def _run(installation: Installation, limits: RunLimits, reports: dict[str, Report], ended: list[str]) -> int:
    """Drain the topics; returns how many transactions got their class because time has passed."""
    with ExitStack() as open_until_the_end:
        # This session also holds the locks, so it has no idle timeout: if this process freezes, another
        # consumer ends the session and records that. The server would end it without a record.
        conn = open_until_the_end.enter_context(closing(connect(installation.database.url, SERVICE)))
        api = open_until_the_end.enter_context(ApiClient(installation.api))
        api.check()
        dead_letter_topic = open_until_the_end.enter_context(
            DeadLetterTopic(installation.kafka.bootstrap_servers, installation.kafka.dlq_topic)
        )
        ids = topic_ids(
            installation.kafka.bootstrap_servers, [installation.kafka.topic, installation.kafka.labels_topic]
        )
        drain = _Drain(installation, conn, api, dead_letter_topic, limits, reports, ended)
        for consumed in consumed_topics(installation):
            drain(consumed, ids[consumed.topic])
        # One batch only, because other sessions wait for its locks; the next run handles the rest.
        return refresh_classes(conn, REFRESH_ROWS)


def _publish_alerts(installation: Installation) -> int:
    kafka = installation.kafka
    with AlertRelay(
        installation.connect, kafka.bootstrap_servers, kafka.alerts_topic, installation.contract
    ) as relay:
        return relay.publish()


@dataclass(frozen=True, slots=True)
class _Drain:
    installation: Installation
    conn: Connection
    api: ApiClient
    dead_letter_topic: DeadLetterTopic
    limits: RunLimits
    reports: dict[str, Report]
    ended: list[str]  # partitions whose stalled holder lost its locks

    def __call__(self, consumed: ConsumedTopic, topic_id: str) -> None:
        servers = self.installation.kafka.bootstrap_servers
        with PartitionReader(servers, consumed.topic, SERVICE, self.installation.keep_bytes) as reader:
            claimed, holders = self._claim(consumed, topic_id, reader)
            if claimed is None and not self.reports:
                stalls = [describe_stall(consumed.topic, holder) for holder in holders]
                raise NothingToDo(
                    " ".join([f"Another consumer is at work on the topic {consumed.topic}.", *stalls])
                )
            if claimed is None:
                get_logger(__name__).info("another_consumer_at_work", topic=consumed.topic)
                self.reports[consumed.name] = Report(lag=lag(self.conn, reader, consumed.topic))
                return
            start_reading(reader, consumed.topic, claimed)
            pump = self._pump(consumed, claimed, reader)
            self.reports[consumed.name] = pump.report
            pump.run()
        if pump.committed:
            _show_position(servers, consumed, pump.committed)

    def _claim(
        self, consumed: ConsumedTopic, topic_id: str, reader: PartitionReader
    ) -> tuple[Claim | None, list[StalledHolder]]:
        """The free partitions, including those whose stalled holder was ended, and all stalled holders."""
        partitions = reader.partitions()
        claimed = claim(self.conn, consumed.topic, topic_id, partitions)
        held = set(partitions) - set(claimed.positions if claimed else ())
        if not held:
            return claimed, []
        offsets = unread_offsets(self.conn, reader, consumed.topic)
        patience = self.installation.streaming.stalled_after_seconds
        holders = check_holders(self.conn, reader, consumed.topic, {p: offsets[p] for p in held}, patience)
        ended = [holder for holder in holders if holder.ended]
        if not ended:
            return claimed, holders
        self.ended.extend(f"{consumed.topic}/{holder.partition}" for holder in ended)
        return claim(self.conn, consumed.topic, topic_id, partitions), holders

    def _pump(self, consumed: ConsumedTopic, claimed: Claim, reader: PartitionReader) -> Pump[Any]:
        processor = consumed.make_processor(self.api)
        share = self.installation.streaming.max_bad_share
        guard = guard_from_history(self.conn, consumed.topic, claimed.topic_id, claimed.positions, share)
        committer = Committer(
            conn=self.conn,
            topic=consumed.topic,
            topic_id=claimed.topic_id,
            processor=processor,
            dead_letter_topic=self.dead_letter_topic,
            guard=guard,
        )
        return Pump(
            reader=reader,
            stored=claimed.positions,
            processor=processor,
            committer=committer,
            limits=self.limits,
        )


def _show_position(servers: list[str], consumed: ConsumedTopic, offsets: dict[int, int]) -> None:
    try:
        commit_group_offsets(servers, consumed.group, consumed.topic, offsets)
    except KafkaFailure as error:
        # Only Kafka's own tools read the group's offsets; the authoritative position is in the database.
        get_logger(__name__).warning("group_offsets_not_committed", topic=consumed.topic, error=str(error))
