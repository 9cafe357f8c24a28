"""The object store's adapter against a real store."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

from config import constants
from config.job_results.trainer import BucketsResult
from config.settings import ObjectStoreSettings
from fraud_adapters.job.failures import JobFailed
from fraud_adapters.objectstore import ObjectMissing, ObjectStore, ObjectStoreUnavailable
from fraud_embedded.servers.objectstore import REGION, ObjectStoreServer
from fraud_trainer import first_start
from fraud_trainer.job import main
from tests.support.server_fixtures import running_store
from tests.support.typed_results import mismatches


@pytest.fixture
def store(object_store: ObjectStoreSettings) -> ObjectStore:
    bucket = ObjectStore(object_store, constants.BUCKET_RUNS)
    bucket.ensure_bucket()
    return bucket


def test_bytes_come_back_and_the_last_write_counts(store: ObjectStore) -> None:
    key = f"runs/test/{uuid.uuid4()}/a b+:é.json"
    assert not store.exists(key)
    store.put_bytes(key, b"first")
    store.put_bytes(key, b"second\x00")
    assert store.exists(key)
    assert store.get_bytes(key) == b"second\x00"


def test_files_come_back(store: ObjectStore, tmp_path: Path) -> None:
    content = bytes(range(256)) * 40_000  # more than one part of an upload
    (tmp_path / "there").write_bytes(content)
    key = f"runs/test/{uuid.uuid4()}/file"
    store.put_file(key, tmp_path / "there")
    store.get_file(key, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content


def test_keys_are_listed_under_their_prefix(store: ObjectStore) -> None:
    prefix = f"runs/test/{uuid.uuid4()}"
    for name in ("b", "a", "c/d"):
        store.put_bytes(f"{prefix}/{name}", b"")
    assert store.list(f"{prefix}/") == [f"{prefix}/{name}" for name in ("a", "b", "c/d")]
    assert store.list(f"{prefix}/none") == []


def test_what_is_not_there_is_missing(
    store: ObjectStore, object_store_admin: ObjectStoreSettings, tmp_path: Path
) -> None:
    with pytest.raises(ObjectMissing, match="There is no object fraud-runs/nothing"):
        store.get_bytes("nothing")
    with pytest.raises(ObjectMissing):
        store.get_file("nothing", tmp_path / "x")
    with pytest.raises(ObjectMissing):
        ObjectStore(object_store_admin, "no-such-bucket").get_bytes("nothing")


def test_a_bucket_is_made_once(object_store_admin: ObjectStoreSettings) -> None:
    bucket = ObjectStore(object_store_admin, f"made-{uuid.uuid4().hex[:12]}")
    bucket.ensure_bucket()
    bucket.put_bytes("key", b"x")
    bucket.ensure_bucket()
    assert bucket.get_bytes("key") == b"x"


def test_the_platforms_buckets_are_made_with_the_administrators_key(
    own_object_store: ObjectStoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = own_object_store
    bucket_key = server.bucket_environment(constants.BUCKET_RUNS)
    administrator = {
        **bucket_key, "AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key
    }  # fmt: skip

    def created_buckets(environment: Mapping[str, str]) -> Any:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        result = main(["buckets"])
        assert list(mismatches(BucketsResult, result)) == []
        return result["created"]

    with running_store(server):
        remove_buckets(server)
        with pytest.raises(JobFailed, match="refused"):
            created_buckets(bucket_key)
        assert created_buckets(administrator) == list(first_start.BUCKETS)
        assert created_buckets(administrator) == []


def remove_buckets(server: ObjectStoreServer) -> None:
    """As a store is when nobody has made the platform's buckets yet."""
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=REGION,
    )
    client.delete_object(Bucket=constants.BUCKET_RUNS, Key="ready")
    for bucket in first_start.BUCKETS:
        client.delete_bucket(Bucket=bucket)


def test_wrong_keys_are_refused_and_silence_is_told(object_store_admin: ObjectStoreSettings) -> None:
    values = object_store_admin.model_dump()
    stranger = ObjectStoreSettings.model_validate({**values, "aws_secret_access_key": "wrong"})
    with pytest.raises(ObjectStoreUnavailable, match="refused"):
        ObjectStore(stranger, constants.BUCKET_RUNS).get_bytes("x")
    nobody = ObjectStoreSettings.model_validate({**values, "s3_endpoint_url": "http://127.0.0.1:9"})
    with pytest.raises(ObjectStoreUnavailable, match="does not answer"):
        ObjectStore(nobody, constants.BUCKET_RUNS).get_bytes("x")
