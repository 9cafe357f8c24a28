"""`redrive`: puts dead letters back on the topic they came from, unchanged or repaired.

Delivery is at least once: a dead letter is marked after the broker's acknowledgement, while its row is
locked. A record that is sent twice is a replay, which the consumer ignores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

from config.job_results.streaming import RedriveResult, RefusedDeadLetter
from config.parameters import Streaming
from config.settings import DatabaseSettings, KafkaSettings
from fraud_adapters.job import PASSING, failure_of
from fraud_adapters.job.failures import RefusedFailure
from fraud_adapters.kafka import Publisher, topic_ids
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.dead_letters import Selection, lock_dead_letters, mark_redriven
from fraud_core.contract import Contract
from fraud_streaming.consume.record_check import RecordCheck
from fraud_streaming.dead_letters.candidates import Candidate, Candidates, Page, RefusedCandidate
from fraud_streaming.dead_letters.repaired import RepairedFile

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

CLIENT: Final = "fraud-streaming-redrive"
NAMED: Final = 20  # refused dead letters named in the result


@dataclass(frozen=True, slots=True)
class RedriveInstallation:
    """The contract, the connections and the limits that a redrive works with."""

    contract: Contract
    database: DatabaseSettings
    kafka: KafkaSettings
    streaming: Streaming


@dataclass(frozen=True, slots=True)
class RedriveOptions:
    """How dead letters are put back.

    Args:
        again: include dead letters that were put back before.
        check: refuse records that the consumer would reject again.
        dry_run: send nothing.
    """

    again: bool = False
    check: bool = True
    dry_run: bool = False


@dataclass(slots=True)
class RedriveCounts:
    """Counts of a redrive; in a dry run `sent` counts what would have been sent."""

    sent: int = 0
    already_redriven: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    named: list[RefusedDeadLetter] = field(default_factory=list)

    def refuse(self, refused: RefusedCandidate) -> None:
        self.refused[refused.code] += 1
        if len(self.named) < NAMED:
            self.named.append({"id": refused.id, "why": refused.explanation})

    def as_result(self, options: RedriveOptions) -> RedriveResult:
        return {
            "status": "done",
            "dry_run": options.dry_run,
            "sent": self.sent,
            "already_redriven": self.already_redriven,
            "refused": dict(self.refused),
            "refused_letters": self.named,
        }


def redrive_selected(
    installation: RedriveInstallation, selection: Selection, options: RedriveOptions
) -> RedriveResult:
    """Put back dead letters whose record is stored completely, unchanged.

    If they are named by id, all are sent or none. Otherwise those that can be sent are, and the result names
    the others.

    Raises:
        RefusedFailure: a dead letter named by id is unknown or cannot be put back.
        PassingFailure: Kafka or Postgres fails.
    """
    with _Redrive(installation, options) as redrive:
        if selection.ids is not None:
            redrive.require_all(redrive.candidates.of_ids(selection.ids))
            return redrive.send(redrive.candidates.of_ids(selection.ids))
        return redrive.send(redrive.candidates.of_selection(selection))


def redrive_repaired(installation: RedriveInstallation, path: Path, options: RedriveOptions) -> RedriveResult:
    """Put back the records of a file: all of them or none.

    Raises:
        RefusedFailure: a line cannot be read, names no dead letter, or its record violates the contract.
        PassingFailure: Kafka or Postgres fails.
    """
    with closing(RepairedFile(path)) as file, _Redrive(installation, options) as redrive:
        if not any(file.pages()):
            raise RefusedFailure(f"{path} holds no record: nothing was sent.")
        redrive.require_all(redrive.candidates.of_file(file), file)
        return redrive.send(redrive.candidates.of_file(file))


class _Redrive(AbstractContextManager["_Redrive"]):
    def __init__(self, installation: RedriveInstallation, options: RedriveOptions) -> None:
        self._installation = installation
        self._options = options
        self._counts = RedriveCounts()
        self._open = ExitStack()
        self._conn: Connection = self._open.enter_context(closing(connect(installation.database.url, CLIENT)))
        check = RecordCheck(
            installation.contract, installation.kafka, installation.streaming.max_record_bytes
        )
        self.candidates = Candidates(
            self._conn, installation.contract, installation.kafka, check, refuse_invalid=options.check
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def require_all(self, pages: Iterator[Page], file: RepairedFile | None = None) -> None:
        """Raise RefusedFailure for the first dead letter that cannot be sent."""
        for page in pages:
            for candidate in page:
                if (
                    isinstance(candidate, RefusedCandidate)
                    and file is not None
                    and candidate.line is not None
                ):
                    raise file.refusal(candidate.line, candidate.explanation)
                if isinstance(candidate, RefusedCandidate):
                    raise RefusedFailure(
                        f"Dead letter {candidate.id}: {candidate.explanation}; nothing was sent."
                    )

    def send(self, pages: Iterator[Page]) -> RedriveResult:
        put = self._count if self._options.dry_run else partial(self._put_back, self._publisher())
        try:
            for page in pages:
                candidates = [candidate for candidate in page if isinstance(candidate, Candidate)]
                for candidate in page:
                    if isinstance(candidate, RefusedCandidate):
                        self._counts.refuse(candidate)
                if candidates:
                    put(candidates)
        except PASSING as error:
            raise failure_of(error).extended(
                after=f" Put back before that: {self._counts.sent}.",
                result=self._counts.as_result(self._options),
            ) from error
        return self._counts.as_result(self._options)

    def _publisher(self) -> Publisher:
        servers = self._installation.kafka.bootstrap_servers
        # A broker may acknowledge records for a topic that does not exist; they would be lost.
        topic_ids(servers, [self._installation.kafka.topic, self._installation.kafka.labels_topic])
        return self._open.enter_context(Publisher(servers))

    def _put_back(self, publisher: Publisher, candidates: Sequence[Candidate]) -> None:
        with self._conn, self._conn.cursor() as cur:
            ids = [candidate.stored.id for candidate in candidates]
            locked = lock_dead_letters(cur, ids, again=self._options.again)
            for candidate in candidates:
                if candidate.stored.id in locked:
                    publisher.send(
                        candidate.stored.letter.topic, candidate.key, candidate.payload, candidate.headers
                    )
            publisher.flush()
            mark_redriven(cur, sorted(locked))
        self._add(len(locked), len(ids))

    def _count(self, candidates: Sequence[Candidate]) -> None:
        fresh = [
            candidate
            for candidate in candidates
            if self._options.again or candidate.stored.redriven_at is None
        ]
        self._add(len(fresh), len(candidates))

    def _add(self, sent: int, total: int) -> None:
        self._counts.sent += sent
        self._counts.already_redriven += total - sent
