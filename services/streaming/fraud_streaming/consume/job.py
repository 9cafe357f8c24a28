"""`run`: the bounded run over the transactions topic, then the labels topic."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from config.job_results import RunResult
from fraud_adapters.api_client import ApiClient
from fraud_adapters.job import EXPECTED, NothingToDo, failure_of
from fraud_adapters.job.logs import get_logger
from fraud_adapters.kafka import KafkaFailure, PartitionReader, topic_ids
from fraud_adapters.kafka.groups import commit_group_offsets
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.labels import refresh_classes
from fraud_adapters.postgres.stalled_holders import StalledHolder
from fraud_streaming.consume.backlog import lag, unread_offsets
from fraud_streaming.consume.challenge import challenge, stall_sentence
from fraud_streaming.consume.claim import Claim, claim, start_reading
from fraud_streaming.consume.commit import Committer
from fraud_streaming.consume.flood import seeded
from fraud_streaming.consume.pump import Limits, Pump
from fraud_streaming.consume.report import Report, result_of
from fraud_streaming.dead_letters.topic import DeadLetterTopic
from fraud_streaming.follow.alerts import AlertRelay
from fraud_streaming.follow.companion import REFRESH_ROWS
from fraud_streaming.installation import SERVICE, Feed, Installation, feeds

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


def run(installation: Installation, limits: Limits) -> RunResult:
    """Drain both topics; gives the result of the run.

    Raises:
        JobFailed: a part is missing or refuses; nothing is lost, the next run goes on from there.
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


def _run(installation: Installation, limits: Limits, reports: dict[str, Report], ended: list[str]) -> int:
    """Gives how many transactions were judged because time has passed."""
    with ExitStack() as open_until_the_end:
        # It holds the locks, too: if it is frozen, whoever finds it so ends it, and says so. The server would
        # only end it, as it does with other sessions that idle in a transaction.
        conn = open_until_the_end.enter_context(closing(connect(installation.database.url, SERVICE)))
        api = open_until_the_end.enter_context(ApiClient(installation.api))
        api.check()
        dead_letters = open_until_the_end.enter_context(
            DeadLetterTopic(installation.kafka.bootstrap_servers, installation.kafka.dlq_topic)
        )
        ids = topic_ids(
            installation.kafka.bootstrap_servers, [installation.kafka.topic, installation.kafka.labels_topic]
        )
        drain = _Drain(installation, conn, api, dead_letters, limits, reports, ended)
        for feed in feeds(installation):
            drain(feed, ids[feed.topic])
        # Another round follows with the next run: others wait for the locks this one takes.
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
    dead_letters: DeadLetterTopic
    limits: Limits
    reports: dict[str, Report]
    ended: list[str]  # partitions whose holder stood still and lost its locks

    def __call__(self, feed: Feed, topic_id: str) -> None:
        servers = self.installation.kafka.bootstrap_servers
        with PartitionReader(servers, feed.topic, SERVICE, self.installation.keep_bytes) as reader:
            claimed, holders = self._claim(feed, topic_id, reader)
            if claimed is None and not self.reports:
                stalls = [stall_sentence(feed.topic, holder) for holder in holders]
                raise NothingToDo(
                    " ".join([f"Another consumer is at work on the topic {feed.topic}.", *stalls])
                )
            if claimed is None:
                get_logger(__name__).info("another_consumer_at_work", topic=feed.topic)
                self.reports[feed.name] = Report(lag=lag(self.conn, reader, feed.topic))
                return
            start_reading(reader, feed.topic, claimed)
            pump = self._pump(feed, claimed, reader)
            self.reports[feed.name] = pump.report
            pump.run()
        if pump.committed:
            _show_position(servers, feed, pump.committed)

    def _claim(
        self, feed: Feed, topic_id: str, reader: PartitionReader
    ) -> tuple[Claim | None, list[StalledHolder]]:
        """What is free, or becomes free as its holder stands still; and the other holders that do."""
        partitions = reader.partitions()
        claimed = claim(self.conn, feed.topic, topic_id, partitions)
        held = set(partitions) - set(claimed.positions if claimed else ())
        if not held:
            return claimed, []
        offsets = unread_offsets(self.conn, reader, feed.topic)
        patience = self.installation.streaming.stalled_after_seconds
        holders = challenge(self.conn, reader, feed.topic, {p: offsets[p] for p in held}, patience)
        ended = [holder for holder in holders if holder.ended]
        if not ended:
            return claimed, holders
        self.ended.extend(f"{feed.topic}/{holder.partition}" for holder in ended)
        return claim(self.conn, feed.topic, topic_id, partitions), holders

    def _pump(self, feed: Feed, claimed: Claim, reader: PartitionReader) -> Pump[Any]:
        work = feed.work(self.api)
        share = self.installation.streaming.max_bad_share
        guard = seeded(self.conn, feed.topic, claimed.topic_id, claimed.positions, share)
        committer = Committer(
            conn=self.conn,
            topic=feed.topic,
            topic_id=claimed.topic_id,
            work=work,
            dead_letters=self.dead_letters,
            guard=guard,
        )
        return Pump(
            reader=reader, stored=claimed.positions, work=work, committer=committer, limits=self.limits
        )


def _show_position(servers: list[str], feed: Feed, offsets: dict[int, int]) -> None:
    try:
        commit_group_offsets(servers, feed.group, feed.topic, offsets)
    except KafkaFailure as error:
        # Only for Kafka's own tools to look at: our position is in the database.
        get_logger(__name__).warning("group_offsets_not_committed", topic=feed.topic, error=str(error))
