"""The audit log, for administrators."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Final, Self

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fraud_adapters.postgres.audit_entries import EntryFilter, read_page
from fraud_api.access import Administrator
from fraud_api.dependencies import QueryDatabase
from fraud_api.problems import Problem
from fraud_api.routes.predictions import MAX_PAGE, Moment
from fraud_core import cursors

router = APIRouter(prefix="/audit-log", tags=["administration"])

Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
_FILTERS: Final = ("start", "end", "actor", "action", "subject")


class AuditFilters(BaseModel):
    """Which entries are meant, and which page of them."""

    model_config = ConfigDict(extra="forbid")

    start: Moment | None = Field(default=None, alias="from", description="recorded at this time or later")
    end: Moment | None = Field(default=None, alias="to", description="recorded before this time")
    actor: Text | None = Field(default=None, description="who did it, as the caller said")
    action: Text | None = Field(default=None, description="such as label.set")
    subject: Text | None = Field(default=None, description="what it was done to")
    limit: int = Field(default=50, ge=1, le=MAX_PAGE, description="entries of a page")
    cursor: Annotated[str, Field(max_length=cursors.MAX_LENGTH)] | None = Field(
        default=None, description="`next_cursor` of the page before, with the same filters"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start is not None and self.end is not None and self.start > self.end:
            raise ValueError("the beginning lies after the end")
        return self


class AuditLogEntry(BaseModel):
    """Who did what to what, and the hash that chains it to the entry before."""

    entry_id: int
    recorded_at: datetime
    actor: str = Field(description="as the caller said")
    db_role: str = Field(description="the database role that wrote it")
    action: str
    subject: str
    details: dict[str, Any]
    entry_hash: str = Field(description="SHA-256 of the content and of the hash before, in hex")


class AuditLogPage(BaseModel):
    """Entries from the newest to the oldest."""

    entries: list[AuditLogEntry]
    next_cursor: str | None = Field(description="null where this page is the last one")


@router.get("", summary="The audit log by filters, the newest entry first")
def list_audit_log(
    _: Administrator, database: QueryDatabase, filters: Annotated[AuditFilters, Query()]
) -> AuditLogPage:
    """One page. Entries are numbered without gaps as they are committed, so pages skip and repeat nothing."""
    which = EntryFilter(**{name: getattr(filters, name) for name in _FILTERS})
    query = f"audit-log {which}"
    before = None
    if filters.cursor is not None:
        try:
            (before,) = cursors.decode(filters.cursor, query, width=1)
        except cursors.InvalidCursor as error:
            raise Problem(422, str(error)) from None
    rows = database.run(lambda cursor: read_page(cursor, which, before, filters.limit + 1))
    page = rows[: filters.limit]
    further = len(rows) > filters.limit
    return AuditLogPage(
        entries=[AuditLogEntry(**asdict(entry)) for entry in page],
        next_cursor=cursors.encode((page[-1].entry_id,), query) if further else None,
    )
