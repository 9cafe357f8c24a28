"""`python -m fraud_embedded.trim`: keeps the embedded broker's log short.

Tansu removes nothing by itself, and lists all produce requests of a partition to answer a fetch.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any, Final

from config import constants
from config.settings import DatabaseSettings, KafkaSettings, ObjectStoreSettings, load
from fraud_adapters import job
from fraud_adapters.job import arguments, stopping
from fraud_adapters.job.logs import get_logger
from fraud_adapters.kafka import topic_ids
from fraud_adapters.objectstore import ObjectStore
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.offsets import read_offsets
from fraud_embedded.servers.broker_log import Log, older_than, read_by_all

SERVICE: Final = "broker-trim"
PAUSE_SECONDS: Final = 30.0
# After removing this many, more have probably arrived meanwhile, so the next round starts at once.
MANY: Final = 1000


@dataclass(frozen=True, slots=True)
class Keep:
    """What is kept in the log although no consumer of the platform needs it."""

    requests: int = 500  # of what was read, for a look: the latest so many of each partition
    age: timedelta = timedelta(hours=6)  # of topics that only others read


@dataclass(frozen=True, slots=True)
class TrimSettings:
    """The settings of the log's object store, of the topics and of the consumers' positions."""

    database: DatabaseSettings
    kafka: KafkaSettings
    store: ObjectStoreSettings


def trim(settings: TrimSettings, keep: Keep, now: datetime) -> dict[str, int]:
    """Remove what every consumer has read, and what is old on topics that are not ours to read.

    Positions are read before the log: they only move on, so what is removed was read.

    Returns:
        per topic how many produce requests were removed.

    Raises:
        PassingFailure: a server does not answer: try again later.
    """
    log = Log(ObjectStore(settings.store, constants.BUCKET_BROKER))
    consumed = _positions(settings)
    removed: dict[str, int] = {}
    for topic in (*consumed, settings.kafka.alerts_topic, settings.kafka.dlq_topic):
        removed[topic] = 0
        for partition, batches in log.batches(topic).items():
            if topic in consumed:
                old = read_by_all(batches, consumed[topic].get(partition, 0), keep.requests)
            else:
                old = older_than(batches, now - keep.age)
            log.remove(old)
            removed[topic] += len(old)
    return removed


def _positions(settings: TrimSettings) -> Mapping[str, Mapping[int, int]]:
    """Per consumed topic and partition where its consumer stands; none for a topic that was made again."""
    topics = (settings.kafka.topic, settings.kafka.labels_topic)
    ids = topic_ids(settings.kafka.bootstrap_servers, topics)
    with closing(connect(settings.database.url, SERVICE)) as conn, conn.cursor() as cur:
        return {
            topic: {
                partition: stored.next_offset
                for partition, stored in read_offsets(cur, topic).items()
                if stored.topic_id == ids[topic]
            }
            for topic in topics
        }


def keep_trimming(settings: TrimSettings, keep: Keep, stop: Event, done: Path | None) -> dict[str, int]:
    """Trim until `stop` is set, whatever is down meanwhile; `done` is touched after each time that worked."""
    log = get_logger(SERVICE)
    total: dict[str, int] = {}
    while not stop.is_set():
        removed: dict[str, int] = {}
        try:
            removed = trim(settings, keep, datetime.now(UTC))
        except job.EXPECTED as error:
            log.warning("tries_again", error=str(job.failure_of(error)))
        else:
            if done is not None:
                done.touch()
        if any(removed.values()):
            log.info("trimmed", **removed)
        total = {topic: total.get(topic, 0) + count for topic, count in removed.items()} or total
        stop.wait(1.0 if sum(removed.values()) >= MANY else PAUSE_SECONDS)
    return total


def main(argv: Sequence[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m fraud_embedded.trim", description=__doc__)
    parser.add_argument("--once", action="store_true", help="do not go on every 30 seconds until SIGTERM")
    parser.add_argument(
        "--requests",
        type=arguments.whole_number(0, 1_000_000),
        default=Keep().requests,
        metavar="N",
        help="of what is read keep the latest N",
    )
    parser.add_argument(
        "--done", type=arguments.file_to_write, metavar="FILE", help="touched after each time that worked"
    )
    options = parser.parse_args(argv)
    settings = TrimSettings(load(DatabaseSettings), load(KafkaSettings), load(ObjectStoreSettings))
    keep = Keep(requests=options.requests)
    if options.once:
        return {"removed": trim(settings, keep, datetime.now(UTC))}
    return {"removed": keep_trimming(settings, keep, stopping.stop_event(), options.done)}


if __name__ == "__main__":
    job.run(SERVICE, main)
