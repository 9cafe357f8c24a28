"""The oracle finds every difference it is meant to find."""

from __future__ import annotations

from fraud_adapters.kafka import Publisher
from tests.faults.consumers import ConsumerPool
from tests.faults.feed import MALFORMED, Feed
from tests.faults.kill import drain
from tests.faults.oracle import judge
from tests.support.killable_servers import execute
from tests.support.streaming_installation import StreamInstallation, creditcard_records

_COPIED = (
    "fraud_score, is_fraud_predicted, model_version, score, role, decision, deciding, feature_vector, engine"
)
# Each finding, and the change of the database that must increase its count; changes are not undone. Triggers
# and foreign keys are disabled, because they would forbid most changes.
TAMPERING = {
    "lost": "DELETE FROM transactions WHERE transaction_id = 'a-0'",
    "stored, but never sent": "UPDATE transactions SET transaction_id = 'x' WHERE transaction_id = 'a-1'",
    "stored twice": "ALTER TABLE transactions DROP CONSTRAINT transactions_pkey CASCADE;"
    " INSERT INTO transactions SELECT * FROM transactions WHERE transaction_id = 'a-2'",
    "without a deciding prediction": "DELETE FROM predictions WHERE transaction_id = 'a-3'",
    "with predictions that do not decide": "UPDATE predictions SET deciding = false, role = 'batch',"
    " run_id = 'x' WHERE transaction_id = 'a-4'",
    "with several deciding predictions": "DROP INDEX predictions_deciding; INSERT INTO predictions"
    f" (transaction_id, {_COPIED}) SELECT transaction_id, {_COPIED} FROM predictions"
    " WHERE transaction_id = 'a-5'",
    "predicted, but never sent": "UPDATE predictions SET transaction_id = 'x' WHERE transaction_id = 'a-6'",
    "bad records that are no dead letters": "UPDATE dead_letters SET topic = 'x'",
    "dead letters of records that are good": "INSERT INTO dead_letters"
    " (topic, topic_id, partition, record_offset, payload_bytes, reason) VALUES ('y', 'y', 0, 0, 0, 'x')",
    "dead letters stored twice": "ALTER TABLE dead_letters DROP CONSTRAINT dead_letters_once;"
    " INSERT INTO dead_letters (topic, topic_id, partition, record_offset, payload_bytes, reason)"
    " VALUES ('y', 'y', 0, 0, 0, 'x')",
    "blocked or reviewed without an alert": "UPDATE predictions SET decision = 'block'"
    " WHERE decision = 'approve'",
    "alerts of others": "UPDATE predictions SET decision = 'approve'",
    "alerts that wait on": "INSERT INTO alert_outbox VALUES ('a-8')",
    "position is not the end of the log": "UPDATE stream_offsets SET next_offset = next_offset - 1",
    "stored with other fields than sent": "UPDATE transactions SET v7 = v7 + 0.000001"
    " WHERE transaction_id = 'a-7'",
}


def test_every_difference_is_named(
    installation: StreamInstallation, feed: Feed, workers: ConsumerPool
) -> None:
    feed.put_records(creditcard_records([f"a-{number}" for number in range(20)]))
    feed.put_bad(MALFORMED[0])
    feed.flush()
    drain(installation, workers)
    counts = counted(installation, feed)
    assert counts == {}
    for name, statement in TAMPERING.items():
        execute(installation.database.url("admin"), f"SET session_replication_role = replica; {statement}")
        before, counts = counts, counted(installation, feed)
        assert counts.get(name, 0) > before.get(name, 0), name
    feed.good["never sent"] = b"{}"
    with Publisher(installation.kafka.bootstrap_servers) as publisher:
        publisher.send(
            installation.kafka.dlq_topic, b"", b"", {"origin": f"{installation.kafka.topic}/0/0".encode()}
        )
        publisher.send(installation.kafka.dlq_topic, b"", b"", {"origin": b"x/0/0"})
        publisher.flush()
    names = counted(installation, feed).keys()
    assert {"acknowledged, but not in the log", "good records that are on the dead-letter topic"} <= names


def counted(installation: StreamInstallation, feed: Feed) -> dict[str, int]:
    return {finding.name: finding.count for finding in judge(installation, feed)}
