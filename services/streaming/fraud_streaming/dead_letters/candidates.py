"""What would be sent for dead letters, or why nothing would."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from config.constants import HEADER_ORIGIN_TIMESTAMP, HEADER_REDRIVEN, HEADER_SCHEMA
from config.settings import KafkaSettings
from fraud_adapters.postgres.dead_letters import Selection, StoredLetter
from fraud_core.contract import Contract
from fraud_streaming.consume.record_check import RecordCheck
from fraud_streaming.dead_letters.listing import pages
from fraud_streaming.dead_letters.repaired import Repaired, RepairedFile

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

INCOMPLETE: Final = "incomplete"
OTHER_TOPIC: Final = "other_topic"
UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True)
class Candidate:
    """What would be sent for a dead letter."""

    stored: StoredLetter
    key: bytes
    payload: bytes
    headers: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Refused:
    """Why one is not sent: a code to count, and the sentence's end."""

    id: int
    code: str
    why: str
    line: int | None = None


Page = Sequence[Candidate | Refused]


class Candidates:
    """Looks dead letters up, a page at a time.

    Args:
        check: says of a record why the consumer would refuse it.
        checked: whether that is a reason not to send it.
    """

    def __init__(
        self, conn: Connection, contract: Contract, kafka: KafkaSettings, check: RecordCheck, *, checked: bool
    ) -> None:
        self._conn = conn
        self._check = check
        self._checked = checked
        self._transactions = kafka.topic
        self._schema = contract.schema_id.encode()

    def of_ids(self, ids: Sequence[int]) -> Iterator[Page]:
        found: set[int] = set()
        for page in pages(self._conn, Selection(ids=ids)):
            found |= {stored.id for stored in page}
            yield [self._as_it_was(stored) for stored in page]
        yield [_unknown(identifier) for identifier in sorted(set(ids) - found)]

    def of_selection(self, selection: Selection) -> Iterator[Page]:
        for page in pages(self._conn, selection):
            yield [self._as_it_was(stored) for stored in page]

    def of_file(self, file: RepairedFile) -> Iterator[Page]:
        for lines in file.pages():
            ids = [said.id for said in lines]
            found = {stored.id: stored for page in pages(self._conn, Selection(ids=ids)) for stored in page}
            yield [
                self._repaired(found[said.id], said) if said.id in found else _unknown(said.id, said.line)
                for said in lines
            ]

    def _as_it_was(self, stored: StoredLetter) -> Candidate | Refused:
        letter = stored.letter
        if not letter.complete:
            kept = len(letter.payload or b"")
            why = (
                f"only {kept} of its {letter.payload_bytes} bytes are kept: put it back repaired, with --file"
            )
            return Refused(stored.id, INCOMPLETE, why)
        return self._candidate(stored, letter.key or b"", letter.payload or b"", None)

    def _repaired(self, stored: StoredLetter, said: Repaired) -> Candidate | Refused:
        key = self._check.key(stored.letter.topic, said.record) or stored.letter.key or b""
        return self._candidate(stored, key, said.payload, said.line)

    def _candidate(
        self, stored: StoredLetter, key: bytes, payload: bytes, line: int | None
    ) -> Candidate | Refused:
        letter = stored.letter
        if not self._check.knows(letter.topic):
            why = f"it came from the topic {letter.topic}, which KAFKA_TOPIC does not name"
            return Refused(stored.id, OTHER_TOPIC, why, line)
        if self._checked and (bad := self._check(letter, payload)):
            reason, detail = bad
            return Refused(stored.id, reason, f"{reason}, {detail.rstrip('.')}", line)
        return Candidate(stored, key, payload, self._headers(stored))

    def _headers(self, stored: StoredLetter) -> dict[str, bytes]:
        headers = {HEADER_REDRIVEN: stored.origin.encode()}
        if stored.letter.timestamp_ms is not None:
            headers[HEADER_ORIGIN_TIMESTAMP] = str(stored.letter.timestamp_ms).encode()
        if stored.letter.topic == self._transactions:
            headers[HEADER_SCHEMA] = self._schema
        return headers


def _unknown(identifier: int, line: int | None = None) -> Refused:
    return Refused(identifier, UNKNOWN, f"there is no dead letter {identifier}", line)
