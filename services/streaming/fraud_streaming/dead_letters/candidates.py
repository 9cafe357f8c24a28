"""The record that would be sent for each dead letter, or the reason why it cannot be sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from config.constants import HEADER_ORIGIN_TIMESTAMP, HEADER_REDRIVEN, HEADER_SCHEMA
from config.settings import KafkaSettings
from fraud_adapters.postgres.dead_letters import Selection, StoredDeadLetter
from fraud_core.contract import Contract
from fraud_streaming.consume.record_check import RecordCheck
from fraud_streaming.dead_letters.listing import pages
from fraud_streaming.dead_letters.repaired import RepairedFile, RepairedRecord

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

INCOMPLETE: Final = "incomplete"
OTHER_TOPIC: Final = "other_topic"
UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True)
class Candidate:
    """The record that would be sent for a dead letter."""

    stored: StoredDeadLetter
    key: bytes
    payload: bytes
    headers: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class RefusedCandidate:
    """A dead letter that cannot be sent: a code for the counts, and an explanation that ends a sentence."""

    id: int
    code: str
    explanation: str
    line: int | None = None


Page = Sequence[Candidate | RefusedCandidate]


class Candidates:
    """Looks dead letters up, a page at a time.

    Args:
        check: gives the reason why the consumer would reject a record.
        refuse_invalid: whether records that the consumer would reject are refused here.
    """

    def __init__(
        self,
        conn: Connection,
        contract: Contract,
        kafka: KafkaSettings,
        check: RecordCheck,
        *,
        refuse_invalid: bool,
    ) -> None:
        self._conn = conn
        self._check = check
        self._refuse_invalid = refuse_invalid
        self._transactions = kafka.topic
        self._schema = contract.schema_id.encode()

    def of_ids(self, ids: Sequence[int]) -> Iterator[Page]:
        known: set[int] = set()
        for page in pages(self._conn, Selection(ids=ids)):
            known |= {stored.id for stored in page}
            yield [self._unchanged(stored) for stored in page]
        yield [_unknown(identifier) for identifier in sorted(set(ids) - known)]

    def of_selection(self, selection: Selection) -> Iterator[Page]:
        for page in pages(self._conn, selection):
            yield [self._unchanged(stored) for stored in page]

    def of_file(self, file: RepairedFile) -> Iterator[Page]:
        for lines in file.pages():
            ids = [repaired.id for repaired in lines]
            stored_by_id = {
                stored.id: stored for page in pages(self._conn, Selection(ids=ids)) for stored in page
            }
            yield [
                self._repaired(stored_by_id[repaired.id], repaired)
                if repaired.id in stored_by_id
                else _unknown(repaired.id, repaired.line)
                for repaired in lines
            ]

    def _unchanged(self, stored: StoredDeadLetter) -> Candidate | RefusedCandidate:
        letter = stored.letter
        if not letter.complete:
            kept = len(letter.payload or b"")
            explanation = (
                f"only {kept} of its {letter.payload_bytes} bytes are kept: put it back repaired, with --file"
            )
            return RefusedCandidate(stored.id, INCOMPLETE, explanation)
        return self._candidate(stored, letter.key or b"", letter.payload or b"", None)

    def _repaired(self, stored: StoredDeadLetter, repaired: RepairedRecord) -> Candidate | RefusedCandidate:
        key = self._check.key(stored.letter.topic, repaired.record) or stored.letter.key or b""
        return self._candidate(stored, key, repaired.payload, repaired.line)

    def _candidate(
        self, stored: StoredDeadLetter, key: bytes, payload: bytes, line: int | None
    ) -> Candidate | RefusedCandidate:
        letter = stored.letter
        if not self._check.knows(letter.topic):
            explanation = f"it came from the topic {letter.topic}, which KAFKA_TOPIC does not name"
            return RefusedCandidate(stored.id, OTHER_TOPIC, explanation, line)
        if self._refuse_invalid and (bad := self._check(letter, payload)):
            reason, detail = bad
            return RefusedCandidate(stored.id, reason, f"{reason}, {detail.rstrip('.')}", line)
        return Candidate(stored, key, payload, self._headers(stored))

    def _headers(self, stored: StoredDeadLetter) -> dict[str, bytes]:
        headers = {HEADER_REDRIVEN: stored.origin.encode()}
        if stored.letter.timestamp_ms is not None:
            headers[HEADER_ORIGIN_TIMESTAMP] = str(stored.letter.timestamp_ms).encode()
        if stored.letter.topic == self._transactions:
            headers[HEADER_SCHEMA] = self._schema
        return headers


def _unknown(identifier: int, line: int | None = None) -> RefusedCandidate:
    return RefusedCandidate(identifier, UNKNOWN, f"there is no dead letter {identifier}", line)
