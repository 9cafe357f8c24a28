"""Files of repaired records: JSON lines with the dead letter's id and the record."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

from fraud_adapters.job.failures import RefusedFailure
from fraud_core import strict_json

PAGE: Final = 200
MAX_ID: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class RepairedRecord:
    """One line of the file."""

    line: int
    id: int
    record: dict[str, Any]

    @property
    def payload(self) -> bytes:
        return json.dumps(self.record, separators=(",", ":")).encode()


class RepairedFile:
    """A private copy of the file, which can be read several times: what was checked is what is sent.

    Raises:
        RefusedFailure: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._copy: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            with path.open("rb") as file:
                shutil.copyfileobj(file, self._copy)
        except OSError as error:
            self.close()
            raise RefusedFailure(f"{path} cannot be read ({error.strerror}): nothing was sent.") from error

    def pages(self) -> Iterator[list[RepairedRecord]]:
        """The lines, a page at a time.

        Raises:
            RefusedFailure: a line is malformed; the sentence names it.
        """
        lines = self._lines()
        while page := list(islice(lines, PAGE)):
            yield page

    def close(self) -> None:
        self._copy.close()

    def refusal(self, line: int, explanation: str) -> RefusedFailure:
        return RefusedFailure(f"{self.path}: line {line}: {explanation}; nothing was sent.")

    def _lines(self) -> Iterator[RepairedRecord]:
        self._copy.seek(0)
        seen: dict[int, int] = {}
        for number, text in enumerate(self._copy, start=1):
            if not text.strip():
                continue
            repaired = self._parse(number, text)
            if (first := seen.setdefault(repaired.id, number)) != number:
                raise self.refusal(number, f"the id {repaired.id} is given twice, first in line {first}")
            yield repaired

    def _parse(self, number: int, text: bytes) -> RepairedRecord:
        try:
            content = strict_json.loads(text.removesuffix(b"\n"))
        except strict_json.RepeatedName:
            raise self.refusal(number, "a name is given twice") from None
        except (ValueError, RecursionError):
            raise self.refusal(number, "is not JSON in UTF-8") from None
        if not isinstance(content, dict):
            raise self.refusal(number, "is not a JSON object")
        identifier, record = content.get("id"), content.get("record")
        if type(identifier) is not int or not 1 <= identifier <= MAX_ID:
            raise self.refusal(number, "id: must be the number of a dead letter")
        if not isinstance(record, dict):
            raise self.refusal(number, "record: must be the repaired record, a JSON object")
        return RepairedRecord(number, identifier, record)
