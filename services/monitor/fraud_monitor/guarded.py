"""Keeps a source that cannot be read from ending the job."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import psycopg2

from fraud_adapters.job import failure_of
from fraud_adapters.job.failures import JobFailed
from fraud_adapters.job.logs import get_logger

T = TypeVar("T")


def guarded(source: str, read: Callable[[], T]) -> T | str:
    """What `read` gives, or why the source cannot be read, as a sentence."""
    try:
        return read()
    except (JobFailed, psycopg2.Error) as error:
        reason = str(failure_of(error))
        get_logger(__name__).warning("source_unreadable", source=source, reason=reason)
        return reason
