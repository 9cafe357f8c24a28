"""`redrive`: puts dead letters back on the topic they came from, as they were or repaired.

At least once: a letter is marked after the broker's acknowledgement, while its row is locked. Sent twice,
it is a replay like any other.
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

from config.job_results import RedriveResult, RefusedLetter
from config.parameters import Streaming
from config.settings import DatabaseSettings, KafkaSettings
from fraud_adapters.job import PASSING, failure_of
from fraud_adapters.job.failures import RefusedFailure
from fraud_adapters.kafka import Publisher, topic_ids
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.dead_letters import Selection, lock_letters, mark_redriven
from fraud_core.contract import Contract
from fraud_streaming.consume.record_check import RecordCheck
from fraud_streaming.dead_letters.candidates import Candidate, Candidates, Page, Refused
from fraud_streaming.dead_letters.repaired import RepairedFile

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

CLIENT: Final = "fraud-streaming-redrive"
NAMED: Final = 20  # refused letters named in the result


@dataclass(frozen=True, slots=True)
class RedriveInstallation:
    """Where everything is."""

    contract: Contract
    database: DatabaseSettings
    kafka: KafkaSettings
    streaming: Streaming


@dataclass(frozen=True, slots=True)
class Terms:
    """How to put back.

    Args:
        again: also what was put back before.
        check: refuse what the consumer would only refuse again.
        dry_run: send nothing.
    """

    again: bool = False
    check: bool = True
    dry_run: bool = False


@dataclass(slots=True)
class Tally:
    """What was done; `sent` of a dry run is what would have been."""

    sent: int = 0
    already_redriven: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    named: list[RefusedLetter] = field(default_factory=list)

    def refuse(self, refused: Refused) -> None:
        self.refused[refused.code] += 1
        if len(self.named) < NAMED:
            self.named.append({"id": refused.id, "why": refused.why})

    def as_result(self, terms: Terms) -> RedriveResult:
        return {
            "status": "done",
            "dry_run": terms.dry_run,
            "sent": self.sent,
            "already_redriven": self.already_redriven,
            "refused": dict(self.refused),
            "refused_letters": self.named,
        }


def redrive_selected(installation: RedriveInstallation, selection: Selection, terms: Terms) -> RedriveResult:
    """Put back what is stored whole, unchanged. Of letters named by id all are sent or none; of others those
    that can be, and the result names the rest.

    Raises:
        RefusedFailure: a letter named by id is unknown or cannot be put back.
        PassingFailure: Kafka or Postgres fails.
    """
    with _Redrive(installation, terms) as redrive:
        if selection.ids is not None:
            redrive.require_all(redrive.candidates.of_ids(selection.ids))
            return redrive.send(redrive.candidates.of_ids(selection.ids))
        return redrive.send(redrive.candidates.of_selection(selection))


def redrive_repaired(installation: RedriveInstallation, path: Path, terms: Terms) -> RedriveResult:
    """Put back the records of a file, all or none.

    Raises:
        RefusedFailure: a line cannot be read, names no dead letter, or its record is refused by the contract.
        PassingFailure: Kafka or Postgres fails.
    """
    with closing(RepairedFile(path)) as file, _Redrive(installation, terms) as redrive:
        if not any(file.pages()):
            raise RefusedFailure(f"{path} holds no record: nothing was sent.")
        redrive.require_all(redrive.candidates.of_file(file), file)
        return redrive.send(redrive.candidates.of_file(file))


class _Redrive(AbstractContextManager["_Redrive"]):
    def __init__(self, installation: RedriveInstallation, terms: Terms) -> None:
        self._installation = installation
        self._terms = terms
        self._tally = Tally()
        self._open = ExitStack()
        self._conn: Connection = self._open.enter_context(closing(connect(installation.database.url, CLIENT)))
        check = RecordCheck(
            installation.contract, installation.kafka, installation.streaming.max_record_bytes
        )
        self.candidates = Candidates(
            self._conn, installation.contract, installation.kafka, check, checked=terms.check
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def require_all(self, found: Iterator[Page], file: RepairedFile | None = None) -> None:
        """Raises RefusedFailure at the first that cannot be sent."""
        for page in found:
            for one in page:
                if isinstance(one, Refused) and file is not None and one.line is not None:
                    raise file.refused(one.line, one.why)
                if isinstance(one, Refused):
                    raise RefusedFailure(f"Dead letter {one.id}: {one.why}; nothing was sent.")

    def send(self, found: Iterator[Page]) -> RedriveResult:
        put = self._count if self._terms.dry_run else partial(self._put_back, self._publisher())
        try:
            for page in found:
                candidates = [one for one in page if isinstance(one, Candidate)]
                for one in page:
                    if isinstance(one, Refused):
                        self._tally.refuse(one)
                if candidates:
                    put(candidates)
        except PASSING as error:
            raise failure_of(error).extended(
                after=f" Put back before that: {self._tally.sent}.",
                result=self._tally.as_result(self._terms),
            ) from error
        return self._tally.as_result(self._terms)

    def _publisher(self) -> Publisher:
        servers = self._installation.kafka.bootstrap_servers
        # A broker may take records for a topic that is not there, and nobody would ever see them.
        topic_ids(servers, [self._installation.kafka.topic, self._installation.kafka.labels_topic])
        return self._open.enter_context(Publisher(servers))

    def _put_back(self, publisher: Publisher, candidates: Sequence[Candidate]) -> None:
        with self._conn, self._conn.cursor() as cur:
            ids = [one.stored.id for one in candidates]
            locked = lock_letters(cur, ids, again=self._terms.again)
            for one in candidates:
                if one.stored.id in locked:
                    publisher.send(one.stored.letter.topic, one.key, one.payload, one.headers)
            publisher.flush()
            mark_redriven(cur, sorted(locked))
        self._add(len(locked), len(ids))

    def _count(self, candidates: Sequence[Candidate]) -> None:
        fresh = [one for one in candidates if self._terms.again or one.stored.redriven_at is None]
        self._add(len(fresh), len(candidates))

    def _add(self, sent: int, of: int) -> None:
        self._tally.sent += sent
        self._tally.already_redriven += of - sent
