"""`python -m fraud_producer`: simulates, replays and backfills transactions, and publishes due labels."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from fraud_adapters import job
from fraud_adapters.job import arguments
from fraud_producer.drift import KINDS, check
from fraud_producer.job import SERVICE, backfill, drift, first_history, generate, labels, optimum, replay

MAX_DAYS = 36_500
VERBS = {
    "generate": generate,
    "labels": labels,
    "replay": replay,
    "backfill": backfill,
    "history": first_history,
    "optimum": optimum,
    "drift": drift,
}
OFF = "off"


def main(argv: Sequence[str]) -> Mapping[str, Any]:
    parser = _parser()
    options = parser.parse_args(argv)
    if options.verb == "generate" and options.every is not None and (options.run_id or options.at):
        parser.error("--every generates its own run ids and times: leave out --run-id and --at")
    if options.verb == "drift":
        _read_switch(parser, options)
    return VERBS[options.verb](options)


def _read_switch(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """What the drift is to be, from the arguments of `drift`."""
    options.off = OFF in options.kinds
    if options.off and len(options.kinds) > 1:
        parser.error(f"drift: write {OFF} alone")
    options.kinds = [kind for kind in options.kinds if kind != OFF]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fraud_producer", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    generating = verbs.add_parser("generate", help="publish due labels, then simulated transactions")
    generating.add_argument("--count", type=arguments.whole_number(1, arguments.MAX_COUNT), default=50)
    generating.add_argument(
        "--run-id",
        type=arguments.printable,
        help="a run with the same id repeats the same transactions, at the same time",
    )
    generating.add_argument(
        "--at",
        type=arguments.moment,
        help="event time, RFC 3339 (default: now; for a retry that of the first attempt)",
    )
    generating.add_argument(
        "--every", type=arguments.span, metavar="SPAN", help="run until SIGTERM, with a run every 5s, 2m, …"
    )
    _population_options(generating)
    verbs.add_parser("labels", help="publish the labels that are due")
    _replay_options(verbs.add_parser("replay", help="send a CSV or Parquet file"))
    _history_options(verbs.add_parser("backfill", help="write whole days of history into Postgres"))
    _history_options(
        verbs.add_parser("history", help="backfill if there is nothing to train on, otherwise nothing")
    )
    _population_options(verbs.add_parser("optimum", help="the best possible model's figures"))
    switch = verbs.add_parser("drift", help="switch drift on or off for all further runs of generate")
    switch.add_argument(
        "kinds",
        nargs="*",
        type=_switch,
        metavar="KIND=STRENGTH",
        help=f"{', '.join(KINDS)}; or {OFF}; without one, show what is switched on",
    )
    switch.set_defaults(seed=None, overlap=None, fraud_rate=None)
    return parser


def _history_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--days", type=arguments.whole_number(1, MAX_DAYS), default=30)
    parser.add_argument(
        "--per-day",
        type=arguments.whole_number(1, arguments.MAX_COUNT),
        help="transactions a day (default: config.yaml)",
    )
    parser.add_argument(
        "--until", type=arguments.moment, help="the days before the day of this time (default: today)"
    )
    _population_options(parser)


def _population_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed", type=arguments.whole_number(0, 2**63 - 1), help="another seed is another population"
    )
    parser.add_argument(
        "--overlap",
        type=arguments.number(0, 0.5, below=True),
        help="share of frauds that look legitimate in every respect",
    )
    parser.add_argument("--fraud-rate", type=arguments.number(0, 1, above=True, below=True))
    parser.add_argument(
        "--drift",
        action="append",
        type=_drift,
        default=[],
        metavar="KIND=STRENGTH",
        help=f"{', '.join(KINDS)}; repeatable",
    )


def _replay_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--file",
        type=arguments.file_to_read,
        required=True,
        help="columns are named as the contract's fields, in any case",
    )
    parser.add_argument(
        "--speed", type=_speed, default=1.0, help="1 is the file's own pace, 0 as fast as possible"
    )
    parser.add_argument(
        "--start",
        type=arguments.moment,
        help="event time of the first row, with the file's pace (default: the time of sending)",
    )
    parser.add_argument("--with-class", action="store_true", help="send the class with the transaction")
    parser.add_argument("--no-labels", action="store_true", help="drop the class; no database is needed")
    parser.add_argument("--limit", type=arguments.whole_number(1, 2**63 - 1), help="send only this many rows")


def _speed(text: str) -> float:
    try:
        return arguments.number(0, 1e6)(text) and arguments.number(0.1, 1e6)(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"must be 0, or a number from 0.1 to 1000000, not {text!r}"
        ) from None


def _switch(text: str) -> str:
    return text if text == OFF else _drift(text)


def _drift(text: str) -> str:
    try:
        check(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


if __name__ == "__main__":
    job.run(SERVICE, main)
