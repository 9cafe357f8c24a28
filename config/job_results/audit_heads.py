"""The results of `./fraud audit-log`."""

from __future__ import annotations

from typing import Literal, TypedDict


class VerifyAuditLogResult(TypedDict):
    """`verify`: the log is whole, and fits every head that was published."""

    status: Literal["done"]
    entries: int
    heads: int
    last_head_at: str | None
    last_head_entry: int | None


class PublishHeadResult(TypedDict):
    """`publish`: the head that was published; not if the log had not grown, or another process was at it."""

    status: Literal["done"]
    published: bool
    number: int | None
    entry_id: int | None
