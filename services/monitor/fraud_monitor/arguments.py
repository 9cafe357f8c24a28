"""The monitor's command line: a verb, the run it belongs to, and the options that verb takes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from config.services import Backend
from fraud_adapters.job import Result
from fraud_monitor.run_context import RunContext


def no_options(_parser: argparse.ArgumentParser) -> None:
    """For a verb that takes only its run."""


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb of the monitor.

    Attributes:
        dag: the DAG that its runs belong to by default.
        run: does the work, and returns its result.
        needs: what it cannot work without, besides Postgres.
        continues: the verb that began the run, if it works on an earlier one, which must then be named.
        add_options: adds the verb's own options to its parser.
    """

    name: str
    help: str
    dag: str
    run: Callable[[RunContext, argparse.Namespace], Result]
    needs: tuple[Backend, ...] = ()
    continues: str | None = None
    add_options: Callable[[argparse.ArgumentParser], None] = no_options


def parser(verbs: Sequence[Verb], now: datetime) -> argparse.ArgumentParser:
    """The parser of `python -m fraud_monitor`; the default run id is derived from `now`."""
    parser_of_verbs = argparse.ArgumentParser(
        prog="python -m fraud_monitor",
        description="Watch the inputs, the scores and the performance of the champion.",
    )
    choices = parser_of_verbs.add_subparsers(dest="verb", required=True, metavar="verb")
    for verb in verbs:
        verb_parser = choices.add_parser(verb.name, help=verb.help, description=verb.help)
        _add_run(verb_parser, verb, now)
        verb.add_options(verb_parser)
    return parser_of_verbs


def _add_run(parser_of_verb: argparse.ArgumentParser, verb: Verb, now: datetime) -> None:
    parser_of_verb.add_argument(
        "--dag", default=verb.dag, help=f"the DAG that the run belongs to (default {verb.dag})"
    )
    if verb.continues:
        parser_of_verb.add_argument("--run-id", required=True, help="the run whose steps belong together")
        return
    parser_of_verb.add_argument(
        "--run-id",
        default=f"manual__{now:%Y%m%dT%H%M%S.%fZ}",
        help="the run whose steps belong together (default: a new one)",
    )
