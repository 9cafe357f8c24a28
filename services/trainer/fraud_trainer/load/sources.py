"""Where a training's examples come from, as the options of `load` say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from config.constants import BUCKET_RUNS
from config.settings import ConfigurationError
from fraud_adapters.postgres.examples import EVERYTHING, Interval
from fraud_trainer.load.topic_examples import TopicSpan

_SCHEME: Final = "s3://"
STORE: Final = f"{_SCHEME}{BUCKET_RUNS}/"  # the address of an object of the runs' bucket starts with this


@dataclass(frozen=True, slots=True)
class ExampleSource:
    """Where examples come from, as the options say.

    Attributes:
        interval: of event times, in Postgres.
        file: a path, or the address of an object in the runs' bucket; None for Postgres.
        file_start: the event time of the first row of a file that has none.
        topic: the records of the transactions topic; None for Postgres.
    """

    interval: Interval = EVERYTHING
    file: str | None = None
    file_start: datetime | None = None
    topic: TopicSpan | None = None

    def __post_init__(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            ConfigurationError: one sentence naming the options.
        """
        first, end = self.interval.start, self.interval.end
        if first is not None and end is not None and first >= end:
            raise ConfigurationError("--from: must be before --to.")
        if (self.file is not None or self.topic is not None) and (first or end):
            raise ConfigurationError("--from and --to: select rows of the database, and of nothing else.")
        if self.file is not None and self.topic is not None:
            raise ConfigurationError("--file: examples come from a file or from the topic, not from both.")
        if self.file is None and self.file_start is not None:
            raise ConfigurationError("--file-start: is for a --file only.")
        if (self.file or "").startswith(_SCHEME) and not (self.file or "").startswith(STORE):
            raise ConfigurationError(f"--file: only objects of the bucket {BUCKET_RUNS} can be read.")

    def describe(self) -> dict[str, str]:
        """What the outcome of the step shows of it."""
        moments = {"from": self.interval.start, "to": self.interval.end, "file_start": self.file_start}
        shown = {name: moment.isoformat() for name, moment in moments.items() if moment is not None}
        return {**self._kind(), **shown}

    def _kind(self) -> dict[str, str]:
        if self.file is not None:
            return {"kind": "file", "file": self.file}
        if self.topic is None:
            return {"kind": "postgres"}
        bounds = {"kafka_from": self.topic.start, "kafka_to": self.topic.end}
        return {"kind": "kafka", **{name: str(bound) for name, bound in bounds.items() if bound is not None}}
