"""Parses a file of chargebacks, and names every line that is wrong. Nothing of a wrong file is used."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fraud_core.identifiers import label_id
from fraud_core.labels import LabelEvent
from fraud_core.moments import parse_moment

SOURCE: Final = "chargeback"
REQUIRED: Final = ("transaction_id", "label", "reported_at")
OPTIONAL: Final = ("reported_by",)
_TRANSACTION: Final = re.compile(r"[!-~]{1,50}")
_REPORTER: Final = re.compile(r"[!-~]{1,64}")


@dataclass(frozen=True, slots=True)
class LineError:
    """What is wrong with a line; the header is line 1."""

    line: int
    sentence: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.sentence}"


@dataclass(frozen=True, slots=True)
class Chargebacks:
    """A parsed file: its reports, how many lines repeated an earlier one, and its errors in order of line."""

    events: list[LabelEvent]
    repeated: int
    errors: list[LineError]


def parse_chargebacks(content: bytes, now: datetime) -> Chargebacks:
    """The reports in a CSV file (UTF-8) with the columns transaction_id, label, reported_at, reported_by.

    `reported_by` may be missing or empty. The id of a report follows from its content, so that a file that is
    imported twice, or a line that occurs twice, is one report.

    Args:
        now: a report from the future is refused.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return Chargebacks([], 0, [LineError(line, "is not UTF-8.")])
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = _rows(reader)
    header = next(rows, None)
    if header is None:
        return Chargebacks([], 0, [LineError(1, f"the file is empty: begin it with {','.join(REQUIRED)}.")])
    if isinstance(header, LineError):
        return Chargebacks([], 0, [header])
    if problem := _header_problem(header[1]):
        return Chargebacks([], 0, [LineError(1, problem)])
    return _parsed(header[1], rows, now)


def _parsed(
    names: list[str], rows: Iterator[tuple[int, list[str]] | LineError], now: datetime
) -> Chargebacks:
    events: dict[str, LabelEvent] = {}
    # A bank that says two things about one transaction at one moment cannot be believed in either.
    spoken: dict[tuple[str, str | None, datetime], tuple[int, int]] = {}
    errors: list[LineError] = []
    repeated = 0
    for row in rows:
        if isinstance(row, LineError):
            errors.append(row)
            continue
        line, values = row
        if len(values) != len(names):
            errors.append(LineError(line, f"has {len(values)} fields instead of {len(names)}."))
            continue
        event = _event(dict(zip(names, values, strict=True)), now)
        if isinstance(event, str):
            errors.append(LineError(line, event))
            continue
        voice = (event.transaction_id, event.reported_by, event.reported_at)
        label, earlier = spoken.setdefault(voice, (event.label, line))
        if label != event.label:
            errors.append(LineError(line, f"contradicts line {earlier}: the same report has both labels."))
        elif event.label_id in events:
            repeated += 1
        else:
            events[event.label_id] = event
    return Chargebacks(list(events.values()), repeated, errors)


def _rows(reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]] | LineError]:
    """Each row that is not blank with the number of its line; a row that is not CSV ends the file."""
    lines = reader
    while True:
        try:
            row = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            yield LineError(lines.line_num, f"is not CSV: {error}.")  # type: ignore[attr-defined]
            return
        if row:
            yield lines.line_num, row  # type: ignore[attr-defined]


def _header_problem(names: list[str]) -> str | None:
    if missing := [name for name in REQUIRED if name not in names]:
        return f"the column {missing[0]} is missing: the first line names {', '.join(REQUIRED)}."
    if unknown := [name for name in names if name not in REQUIRED + OPTIONAL]:
        return f"there is no column {unknown[0][:40]!r}: known are {', '.join(REQUIRED + OPTIONAL)}."
    if len(set(names)) < len(names):
        return "a column occurs twice."
    return None


def _event(fields: dict[str, str], now: datetime) -> LabelEvent | str:
    """The report, or what is wrong with it."""
    transaction, label, reporter = (
        fields["transaction_id"],
        fields["label"],
        fields.get("reported_by") or None,
    )
    if not _TRANSACTION.fullmatch(transaction):
        return "transaction_id: must be 1 to 50 printable ASCII characters without spaces."
    if label not in {"0", "1"}:
        return "label: must be 1 (fraud) or 0 (legitimate)."
    if reporter is not None and not _REPORTER.fullmatch(reporter):
        return "reported_by: must be 1 to 64 printable ASCII characters without spaces."
    try:
        moment = parse_moment(fields["reported_at"])
    except ValueError as error:
        return f"reported_at: {error}."
    if moment > now:
        return "reported_at: lies in the future."
    if moment.year < 1970:
        return "reported_at: must not lie before 1970."
    identifier = label_id(
        transaction, int(label), "/".join(filter(None, (SOURCE, reporter))), moment.isoformat()
    )
    return LabelEvent(identifier, transaction, int(label), SOURCE, moment, reporter)
