"""The command line of batch prediction."""

from __future__ import annotations

import argparse
import getpass
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from config.constants import ALIAS_CHAMPION, DAG_BATCH
from config.settings import ConfigurationError
from fraud_adapters.job.arguments import moment, printable
from fraud_adapters.postgres.examples import Interval
from fraud_batch.addresses import TABLE, check_input, check_output
from fraud_batch.chunks import KINDS, Kind

SCORE: Final = "score"
_MODEL: Final = re.compile(r"[1-9][0-9]{0,9}|[A-Za-z][A-Za-z0-9_.-]{0,49}")


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """What is to be scored, by what, and where to.

    Attributes:
        interval: of the event times of stored transactions; unbounded if a file is scored.
        file: a path, or the address of an object; None for stored transactions.
        model: a version, or an alias.
        output: `table`, a path, or the address of an object.
    """

    interval: Interval
    file: str | None
    model: str
    output: str
    kind: Kind

    def __post_init__(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            ConfigurationError: one sentence naming the options.
        """
        start, end = self.interval.start, self.interval.end
        if self.file is not None and self.interval.bounded:
            raise ConfigurationError(
                "--input: a run scores a file, or with --from and --to stored transactions: give one of them."
            )
        if self.file is None and not self.interval.bounded:
            raise ConfigurationError(
                "--input: name a file, or with --from and --to an interval of the stored transactions."
            )
        if start is not None and end is not None and start >= end:
            raise ConfigurationError("--from: must be before --to.")
        if not _MODEL.fullmatch(self.model):
            raise ConfigurationError("--model: must be a version such as 7, or an alias such as champion.")
        if self.file is not None and self.output == TABLE:
            raise ConfigurationError(
                "--output: the table holds predictions about stored transactions: "
                "have those of a file written to a file."
            )
        check_output(self.output)
        if self.file is not None:
            check_input(self.file)

    def describe(self) -> dict[str, Any]:
        """As the report shows it, and as a resumed run compares it."""
        moments = {"from": self.interval.start, "to": self.interval.end}
        return {
            "file": self.file,
            **{name: None if at is None else at.isoformat() for name, at in moments.items()},
            "model": self.model,
            "output": self.output,
            "engine": self.kind,
        }


def parser(now: datetime) -> argparse.ArgumentParser:
    """The parser of `python -m fraud_batch`; the default run id is derived from `now`."""
    root = argparse.ArgumentParser(
        prog="python -m fraud_batch",
        description="Score stored transactions or a file with any model version; no prediction decides.",
    )
    verbs = root.add_subparsers(dest="verb", required=True, metavar="verb")
    text = "score an interval of the stored transactions, or a file; a repeated run goes on where it stopped"
    verb = verbs.add_parser(SCORE, help=text, description=text)
    verb.add_argument("--from", dest="start", type=moment, help="stored transactions from this time on")
    verb.add_argument("--to", dest="end", type=moment, help="stored transactions before this time")
    verb.add_argument(
        "--input",
        type=printable,
        metavar="FILE",
        help="a CSV or Parquet file instead: a path, or s3://fraud-runs/KEY",
    )
    verb.add_argument(
        "--model", default=ALIAS_CHAMPION, help=f"a version, or an alias (default {ALIAS_CHAMPION})"
    )
    verb.add_argument(
        "--output",
        type=printable,
        default=TABLE,
        metavar="table|FILE",
        help="the table predictions (default), or a CSV or Parquet file: a path, or s3://fraud-runs/KEY",
    )
    verb.add_argument(
        "--engine", choices=KINDS, default=KINDS[0], help=f"what computes the scores (default {KINDS[0]})"
    )
    _add_run(verb, now)
    return root


def _add_run(verb: argparse.ArgumentParser, now: datetime) -> None:
    verb.add_argument(
        "--run-id",
        type=printable,
        default=f"manual__{now:%Y%m%dT%H%M%S.%fZ}",
        help="give that of a run that was stopped to go on with it (default: a new one)",
    )
    verb.add_argument(
        "--dag", default=DAG_BATCH, help=f"the DAG that the run belongs to (default {DAG_BATCH})"
    )
    verb.add_argument(
        "--requested-by",
        type=printable,
        default=getpass.getuser(),
        help="who asked for it, for the report (default: the user of this process)",
    )


def request_of(options: argparse.Namespace) -> ScoringRequest:
    """What the options ask for.

    Raises:
        ConfigurationError: they contradict each other, or name what cannot be read or written.
    """
    interval = Interval(options.start, options.end)
    return ScoringRequest(interval, options.input, options.model, options.output, options.engine)
