"""Reads a job's result from its container, once that has ended."""

from __future__ import annotations

import io
import tarfile
from typing import Any, Final

from docker import APIClient
from docker.errors import APIError, NotFound

from fraud_airflow.jobs import RESULT_LIMIT_BYTES
from fraud_airflow.runners.docker_api import DockerClient, explanation
from fraud_airflow.runners.result import MISSING, TOO_LARGE, parse, unreadable

PATH: Final = "/result/result.json"
# The tar archive adds headers.
_LIMIT_BYTES: Final = RESULT_LIMIT_BYTES + 16 * 1024


def read(docker: DockerClient, container: str) -> tuple[dict[str, Any] | None, str]:
    """The result document, or the reason why there is none."""

    def archive(client: APIClient) -> bytes:
        content, read = client.get_archive(container, PATH)[0], b""
        for piece in content:
            read += piece
            if len(read) >= _LIMIT_BYTES:
                break
        return read

    try:
        return from_archive(docker.call(archive))
    except NotFound:
        return None, MISSING
    except APIError as error:
        return unreadable(explanation(error))


def from_archive(content: bytes) -> tuple[dict[str, Any] | None, str]:
    """The document in a tar archive, which may be truncated."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            member = archive.next()
            if member is None:
                return None, MISSING
            if member.isdir():
                return unreadable("Is a directory")
            file = archive.extractfile(member) if member.isreg() else None
            if file is None:
                return unreadable("Is not a regular file")
            return (None, TOO_LARGE) if member.size > RESULT_LIMIT_BYTES else parse(file.read())
    except tarfile.TarError as error:
        return unreadable(str(error))
