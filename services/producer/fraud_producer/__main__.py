"""`python -m fraud_producer`: simulates, replays, backfills, and reports the truth when it is due."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from fraud_adapters import job
from fraud_core.record_model import parse_event_time
from fraud_producer.drift import KINDS
from fraud_producer.job import SERVICE, backfill, first_history, generate, labels, optimum, replay

VERBS = {
    "generate": generate,
    "labels": labels,
    "replay": replay,
    "backfill": backfill,
    "history": first_history,
    "optimum": optimum,
}


def main(arguments: Sequence[str]) -> Mapping[str, Any]:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.verb == "generate" and options.every is not None and (options.run_id or options.at):
        parser.error("--every makes runs of its own: leave out --run-id and --at")
    return VERBS[options.verb](options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fraud_producer", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    made = verbs.add_parser("generate", help="publish due labels, then simulated transactions")
    made.add_argument("--count", type=_positive, default=50)
    made.add_argument("--run-id", help="a run of the same id makes the same transactions, at its first time")
    made.add_argument(
        "--at", type=_moment, help="event time, RFC 3339 (default: now, or as it was at a retry)"
    )
    made.add_argument(
        "--every", type=_span, metavar="SPAN", help="go on until SIGTERM: a run every 5s, 2m, …"
    )
    _population_options(made)
    verbs.add_parser("labels", help="publish the labels that are due")
    _replay_options(verbs.add_parser("replay", help="send a CSV or Parquet file"))
    _history_options(verbs.add_parser("backfill", help="write whole days of history into Postgres"))
    _history_options(
        verbs.add_parser("history", help="backfill where there is nothing to learn from, else nothing")
    )
    _population_options(verbs.add_parser("optimum", help="the best possible model's figures"))
    return parser


def _history_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--days", type=_positive, default=30)
    parser.add_argument("--per-day", type=_positive, help="transactions a day (default: config.yaml)")
    parser.add_argument("--until", type=_moment, help="the days before the day of this time (default: today)")
    _population_options(parser)


def _population_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=_natural, help="another seed is another population")
    parser.add_argument("--overlap", type=float, help="share of frauds that look legitimate in every respect")
    parser.add_argument("--fraud-rate", type=float)
    parser.add_argument(
        "--drift",
        action="append",
        default=[],
        metavar="KIND=STRENGTH",
        help=f"{', '.join(KINDS)}; repeatable",
    )


def _replay_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--file", required=True, help="columns are named as the contract's fields, in any case"
    )
    parser.add_argument(
        "--speed", type=_speed, default=1.0, help="1 is the file's own pace, 0 as fast as possible"
    )
    parser.add_argument(
        "--start",
        type=_moment,
        help="place the file in event time from here on, at its own pace; without, it happens as it is sent",
    )
    parser.add_argument("--with-class", action="store_true", help="send the class with the transaction")
    parser.add_argument("--no-labels", action="store_true", help="forget the class; no database is needed")
    parser.add_argument("--limit", type=_positive, help="send only so many rows")


def _positive(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 100_000_000:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _natural(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value


def _speed(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value


def _span(text: str) -> float:
    """Seconds."""
    try:
        seconds = float(text[:-1]) * {"s": 1, "m": 60}[text[-1:]]
    except (ValueError, LookupError):
        raise argparse.ArgumentTypeError("must be a number of seconds or minutes, as in 5s or 2m") from None
    if not 0.1 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError("must lie between 0.1s and a day")
    return seconds


def _moment(text: str) -> datetime:
    try:
        return parse_event_time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    job.run(SERVICE, main)
