"""The command line of the feedback collection: a verb, the run it belongs to, and the verb's options."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from config.constants import DAG_FEEDBACK
from fraud_adapters.job import Result
from fraud_adapters.job.arguments import printable
from fraud_feedback.run_context import RunContext


def no_options(_parser: argparse.ArgumentParser) -> None:
    """For a verb that takes only its run."""


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb of the feedback collection.

    Attributes:
        run: does the work, and returns its result.
        continues: the verb that began the run, if it works on an earlier one, which must then be named.
        add_options: adds the verb's own options to its parser.
    """

    name: str
    help: str
    run: Callable[[RunContext, argparse.Namespace], Result]
    continues: str | None = None
    add_options: Callable[[argparse.ArgumentParser], None] = no_options


def parser(verbs: Sequence[Verb], now: datetime) -> argparse.ArgumentParser:
    """The parser of `python -m fraud_feedback`; the default run id is derived from `now`."""
    parser_of_verbs = argparse.ArgumentParser(
        prog="python -m fraud_feedback",
        description="Collect what people and banks report about decisions, and measure what it is worth.",
    )
    choices = parser_of_verbs.add_subparsers(dest="verb", required=True, metavar="verb")
    for verb in verbs:
        verb_parser = choices.add_parser(verb.name, help=verb.help, description=verb.help)
        verb_parser.add_argument(
            "--dag", default=DAG_FEEDBACK, help=f"the DAG that the run belongs to (default {DAG_FEEDBACK})"
        )
        _add_run(verb_parser, verb, now)
        verb.add_options(verb_parser)
    return parser_of_verbs


def _add_run(parser_of_verb: argparse.ArgumentParser, verb: Verb, now: datetime) -> None:
    if verb.continues:
        parser_of_verb.add_argument(
            "--run-id", type=printable, required=True, help=f"the run in which {verb.continues} was done"
        )
        return
    parser_of_verb.add_argument(
        "--run-id",
        type=printable,
        default=f"manual__{now:%Y%m%dT%H%M%S.%fZ}",
        help="the run that the steps belong to; repeated, it says the same again (default: a new one)",
    )
