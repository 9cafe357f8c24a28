"""Checks of Kafka and of the object store with its permissions."""

from __future__ import annotations

import http.client
import uuid
from typing import Final

from config import constants
from config.settings import ObjectStoreSettings
from fraud_adapters.kafka import TopicMissing, topic_ids
from fraud_adapters.kafka.handshake import require_answer
from fraud_adapters.objectstore import AccessRefused, ObjectStore, ObjectStoreUnavailable
from fraud_embedded.doctor.target import Target
from fraud_embedded.processes.probes import HOST
from fraud_launcher.findings import Problem

# By bucket: the variable with the secret of the key that may use it; the key has the bucket's name.
SECRETS: Final = {
    constants.BUCKET_RUNS: "RUNS_AWS_SECRET_ACCESS_KEY",
    constants.BUCKET_MLFLOW: "MLFLOW_AWS_SECRET_ACCESS_KEY",
}
_FOLDER: Final = "doctor/"
_SECONDS: Final = 5


def check_broker(target: Target) -> str:
    """Whether a broker answers. Raises BrokerUnavailable."""
    return f"The broker {require_answer(target.kafka.bootstrap_servers)} answers."


def check_topics(target: Target) -> str:
    """Whether the four topics exist.

    Raises:
        KafkaFailure: the broker does not answer.
        Problem: a topic is missing.
    """
    kafka = target.kafka
    names = [kafka.topic, kafka.labels_topic, kafka.alerts_topic, kafka.dlq_topic]
    try:
        topic_ids(kafka.bootstrap_servers, names)
    except TopicMissing as error:
        raise Problem(
            str(error).partition(":")[0] + ".",
            "Create them: ./fraud exec --role streaming -- python -m fraud_streaming topics --create"
            " (KAFKA_TOPIC has their prefix).",
        ) from None
    return f"The topics {', '.join(names)} exist."


def check_buckets(target: Target) -> str:
    """Write, read, list and remove an object in each bucket, with the bucket's own key.

    Raises:
        ObjectStoreUnavailable: the store does not answer.
        Problem: a key is refused, or may not do what it must.
    """
    for bucket, variable in SECRETS.items():
        store = ObjectStore(_settings(target, bucket, variable), bucket)
        key, content = f"{_FOLDER}{uuid.uuid4().hex}", b"written by ./fraud doctor"
        try:
            store.put_bytes(key, content)
            complete = store.get_bytes(key) == content and key in store.list(_FOLDER)
            store.delete([key])
        except AccessRefused as error:
            raise Problem(
                f"{error} The key {bucket} cannot use its bucket.",
                f"Restore {variable} in .env, or run {target.start}, which gives the key the secret of .env.",
            ) from None
        if not complete or store.exists(key):
            raise Problem(
                f"The bucket {bucket} does not give back, list or remove what was written.",
                "Look into the object store's log: ./fraud demo-logs objectstore.",
            )
    return f"The keys of {', '.join(SECRETS)} can write, read, list and remove there."


def check_permissions(target: Target) -> str:
    """Whether a key gets at another bucket, makes buckets, or an unknown client gets at any.

    Raises:
        Problem: somebody may do more than they must.
    """
    for bucket, variable in SECRETS.items():
        settings = _settings(target, bucket, variable)
        for other in (other for other in buckets(target) if other != bucket):
            if _may_write(ObjectStore(settings, other)):
                raise Problem(f"The key {bucket} may write to the bucket {other}.", _identities_fix(target))
        if _may_create(settings):
            raise Problem(f"The key {bucket} may create buckets.", _identities_fix(target))
        if _open_to_anybody(target, bucket):
            raise Problem(f"The bucket {bucket} can be read without a key.", _identities_fix(target))
    return "No key gets at another bucket or makes one, and nobody gets at any without a key."


def buckets(target: Target) -> tuple[str, ...]:
    """The buckets of the platform; only the embedded broker keeps its log in one."""
    broker = (constants.BUCKET_BROKER,) if target.kind == "demo" else ()
    return (*SECRETS, *broker)


def key_of(bucket: str) -> str:
    """The access key that may use a bucket: it has the bucket's name."""
    return bucket


def _settings(target: Target, bucket: str, variable: str) -> ObjectStoreSettings:
    return ObjectStoreSettings.model_validate(
        {
            "s3_endpoint_url": target.url("object store"),
            "aws_access_key_id": key_of(bucket),
            "aws_secret_access_key": target.secret(variable),
        }
    )


def _may_write(store: ObjectStore) -> bool:
    key = f"{_FOLDER}{uuid.uuid4().hex}"
    try:
        store.put_bytes(key, b"")
    except AccessRefused:
        return False
    store.delete([key])
    return True


def _may_create(settings: ObjectStoreSettings) -> bool:
    try:
        ObjectStore(settings, f"doctor-{uuid.uuid4().hex[:12]}").ensure_bucket()
    except ObjectStoreUnavailable as error:
        if isinstance(error, AccessRefused):
            return False
        raise
    return True


def _open_to_anybody(target: Target, bucket: str) -> bool:
    connection = http.client.HTTPConnection(HOST, target.ports["object store"], timeout=_SECONDS)
    try:
        connection.request("GET", f"/{bucket}?list-type=2")
        return connection.getresponse().status < 400
    finally:
        connection.close()


def _identities_fix(target: Target) -> str:
    return f"Run {target.start}, which writes the store's identities anew, and restart the store."
