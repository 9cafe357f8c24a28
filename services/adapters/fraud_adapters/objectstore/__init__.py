"""Objects in an S3-compatible store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from config.settings import ObjectStoreSettings
from fraud_adapters.job.failures import LastingFailure, PassingFailure

_ABSENT: Final = frozenset({"404", "NoSuchKey", "NoSuchBucket", "NotFound"})
_REFUSED: Final = frozenset({"401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"})
_MAX_DELETE_KEYS: Final = 1000  # in one request
_BUCKET_EXISTS: Final = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists"})


class ObjectStoreUnavailable(PassingFailure):
    """The store does not answer, or refuses; the sentence names its address."""


class AccessRefused(ObjectStoreUnavailable):
    """The store answers, and does not accept the key, or does not allow it this."""


class ObjectMissing(LastingFailure):
    """The object does not exist; the sentence names bucket and key."""


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    """An object's key, when it was written (aware), and its size in bytes."""

    key: str
    written_at: datetime
    size: int


class ObjectStore:
    """One bucket of the store. Keys are paths without a leading slash."""

    def __init__(self, settings: ObjectStoreSettings, bucket: str) -> None:
        self._endpoint = settings.endpoint_url
        self.bucket = bucket
        self._s3: Any = boto3.client(
            "s3",
            endpoint_url=settings.endpoint_url,
            aws_access_key_id=settings.aws_access_key_id,
            aws_secret_access_key=settings.aws_secret_access_key.get_secret_value(),
            region_name=settings.aws_region,
            config=Config(
                connect_timeout=3,
                read_timeout=30,
                retries={"max_attempts": 3, "mode": "standard"},
                s3={"addressing_style": "path"},
                # Not every S3-compatible store knows the checksums newer clients add by themselves.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def ensure_bucket(self) -> bool:
        """Create the bucket if it does not exist; True if it was created.

        Raises:
            ObjectStoreUnavailable: the store does not answer, or does not allow it.
        """
        try:
            with self._translated_errors("(bucket)"):
                self._s3.head_bucket(Bucket=self.bucket)
        except ObjectMissing:
            with self._translated_errors("(bucket)"):
                self._s3.create_bucket(Bucket=self.bucket)
            return True
        return False

    def put_bytes(self, key: str, content: bytes) -> None:
        """Store an object; overwrites an existing one.

        Raises:
            ObjectMissing: the bucket does not exist.
            ObjectStoreUnavailable: the store does not answer, or refuses.
        """
        with self._translated_errors(key):
            self._s3.put_object(Bucket=self.bucket, Key=key, Body=content)

    def get_bytes(self, key: str) -> bytes:
        """Read a whole object.

        Raises:
            ObjectMissing: the object does not exist.
            ObjectStoreUnavailable: the store does not answer, or refuses.
        """
        with self._translated_errors(key):
            content: bytes = self._s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            return content

    def put_file(self, key: str, path: Path) -> None:
        """Store a file, in parts if it is large. Raises as `put_bytes`."""
        with self._translated_errors(key):
            self._s3.upload_file(str(path), self.bucket, key)

    def get_file(self, key: str, path: Path) -> None:
        """Read an object into a file. Raises as `get_bytes`."""
        with self._translated_errors(key):
            self._s3.download_file(self.bucket, key, str(path))

    def exists(self, key: str) -> bool:
        """Whether the object exists.

        Raises:
            ObjectStoreUnavailable: the store does not answer, or refuses.
        """
        try:
            with self._translated_errors(key):
                self._s3.head_object(Bucket=self.bucket, Key=key)
        except ObjectMissing:
            return False
        return True

    def list(self, prefix: str = "") -> list[str]:
        """All keys under a prefix, in the store's order (by bytes). Raises as `put_bytes`."""
        return [entry.key for entry in self.entries(prefix)]

    def entries(self, prefix: str = "") -> Iterator[ObjectEntry]:
        """All objects under a prefix, in the store's order (by bytes of the key). Raises as `put_bytes`."""
        with self._translated_errors(prefix):
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
                yield from (
                    ObjectEntry(found["Key"], found["LastModified"], found["Size"])
                    for found in page.get("Contents", ())
                )

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects in the given order; missing ones are ignored. Raises as `put_bytes`."""
        for start in range(0, len(keys), _MAX_DELETE_KEYS):
            batch = [{"Key": key} for key in keys[start : start + _MAX_DELETE_KEYS]]
            with self._translated_errors(keys[start]):
                response = self._s3.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": batch, "Quiet": True}
                )
            if refused := response.get("Errors"):
                raise ObjectStoreUnavailable(
                    f"The object store at {self._endpoint} did not delete {self.bucket}/{refused[0]['Key']} "
                    f"({refused[0]['Code']})."
                )

    @contextmanager
    def _translated_errors(self, key: str) -> Iterator[None]:
        """Translate the client's exceptions."""
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _ABSENT:
                raise ObjectMissing(f"There is no object {self.bucket}/{key}.") from None
            if code not in _BUCKET_EXISTS:
                kind = AccessRefused if code in _REFUSED else ObjectStoreUnavailable
                raise kind(
                    f"The object store at {self._endpoint} refused {self.bucket}/{key} ({code})."
                ) from None
        except (BotoCoreError, boto3.exceptions.Boto3Error) as error:
            raise ObjectStoreUnavailable(
                f"The object store at {self._endpoint} does not answer ({type(error).__name__})."
            ) from None
