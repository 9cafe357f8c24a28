"""The section `batch` of `config.yaml`: how batch prediction works through its input."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class BatchPrediction(BaseModel):
    """A chunk is read, scored and stored as a whole; after a kill the run resumes behind the last one.

    Memory grows with `chunk_rows` × (`threads` + 2).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    chunk_rows: int = Field(default=32_768, ge=1, le=1_000_000)
    threads: int = Field(default=2, ge=1, le=256)
