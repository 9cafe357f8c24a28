"""The verb `import-chargebacks`: a file of chargebacks, all of it or nothing."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from pathlib import Path
from typing import Final

from config.job_results.feedback import ImportResult
from fraud_adapters.job.arguments import file_to_read
from fraud_adapters.job.failures import LastingFailure, RefusedFailure
from fraud_adapters.job.logs import get_logger
from fraud_adapters.postgres.examples import database_clock
from fraud_adapters.postgres.labels import store_labels
from fraud_core.feedback.chargebacks import Chargebacks, parse_chargebacks
from fraud_feedback.arguments import Verb
from fraud_feedback.run_context import RunContext

LISTED: Final = 100  # errors named in a result; the first of them is in its sentence
MOST_BYTES: Final = 16 * 2**20
STANDARD_INPUT: Final = "-"


def import_chargebacks(context: RunContext, options: argparse.Namespace) -> ImportResult:
    """Check the whole file, then store its reports in one database transaction.

    Raises:
        DatabaseUnavailable: Postgres does not answer.
        LastingFailure: the file cannot be read.
        RefusedFailure: a line is wrong; nothing is stored, and the result lists the errors.
    """
    content = _content(options.file)
    with closing(context.database()) as connection:
        read = parse_chargebacks(content, database_clock(connection))
        if read.errors:
            raise _refused(read)
        with connection, connection.cursor() as cursor:
            stored = store_labels(cursor, read.events)
            if stored.conflict_rows:
                # The id follows from the content, so that only somebody who chose it could have taken it.
                event = read.events[stored.conflict_rows[0]]
                raise RefusedFailure(
                    f"Nothing was imported: the id {event.label_id} of the report about "
                    f"{event.transaction_id} is that of another report."
                )
    return {
        "status": "done",
        "run_id": context.run_id,
        "lines": len(read.events) + read.repeated,
        "imported": len(stored.new_rows),
        "known": len(stored.replayed_rows) + read.repeated,
        "frauds": sum(read.events[row].label for row in stored.new_rows),
    }


def _refused(read: Chargebacks) -> RefusedFailure:
    lines = [str(error) for error in read.errors]
    for line in lines:
        get_logger(__name__).error("line_refused", sentence=line)
    more = f" ({len(lines)} lines are wrong)" if len(lines) > 1 else ""
    return RefusedFailure(
        f"Nothing was imported: {lines[0].rstrip('.')}{more}.",
        {"errors": lines[:LISTED], "wrong_lines": len(lines)},
    )


def _content(path: Path | None) -> bytes:
    try:
        if path is None:
            content = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with path.open("rb") as file:
                content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise LastingFailure(f"{path or 'standard input'} cannot be read: {error.strerror}.") from None
    if len(content) > MOST_BYTES:
        raise LastingFailure(
            f"The file is larger than {MOST_BYTES // 2**20} MiB: "
            "import it in parts, each with the first line."
        )
    return content


def _file(text: str) -> Path | None:
    """A file, or None for standard input."""
    return None if text == STANDARD_INPUT else file_to_read(text)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        type=_file,
        metavar="FILE",
        help="CSV with transaction_id, label (1 fraud), reported_at (RFC 3339), and perhaps reported_by; "
        f"{STANDARD_INPUT} is standard input",
    )


VERBS: Final = (
    Verb(
        "import-chargebacks",
        "import a file of chargebacks, all of it or nothing",
        import_chargebacks,
        add_options=_options,
    ),
)
