"""Where a training's examples come from, as the options of `load` say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from config.constants import BUCKET_RUNS
from config.settings import ConfigurationError
from fraud_adapters.postgres.examples import EVERYTHING, Interval

_SCHEME: Final = "s3://"
STORE: Final = f"{_SCHEME}{BUCKET_RUNS}/"  # the address of an object of the runs' bucket starts with this


@dataclass(frozen=True, slots=True)
class ExampleSource:
    """Where examples come from, as the options say.

    Attributes:
        interval: of event times, in Postgres.
        file: a path, or the address of an object in the runs' bucket; None for Postgres.
        file_start: the event time of the first row of a file that has none.
    """

    interval: Interval = EVERYTHING
    file: str | None = None
    file_start: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            ConfigurationError: one sentence naming the options.
        """
        first, end = self.interval.start, self.interval.end
        if first is not None and end is not None and first >= end:
            raise ConfigurationError("--from: must be before --to.")
        if self.file is not None and (first or end):
            raise ConfigurationError("--from and --to: select rows of the database, not of a --file.")
        if self.file is None and self.file_start is not None:
            raise ConfigurationError("--file-start: is for a --file only.")
        if (self.file or "").startswith(_SCHEME) and not (self.file or "").startswith(STORE):
            raise ConfigurationError(f"--file: only objects of the bucket {BUCKET_RUNS} can be read.")

    def describe(self) -> dict[str, str]:
        """What the outcome of the step shows of it."""
        moments = {"from": self.interval.start, "to": self.interval.end, "file_start": self.file_start}
        shown = {name: moment.isoformat() for name, moment in moments.items() if moment is not None}
        return (
            {"kind": "postgres", **shown}
            if self.file is None
            else {"kind": "file", "file": self.file, **shown}
        )
