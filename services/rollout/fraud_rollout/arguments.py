"""The rollout's command line: a verb, the deployment it is about, and the options that verb takes."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from config.constants import ALIAS_CHALLENGER, DAG_CANARY
from config.services import Backend
from fraud_adapters.job.arguments import printable, span, whole_number
from fraud_core.canary.lifecycle import Mode
from fraud_rollout.run_context import RunContext

# As the API takes them.
LONGEST_RUN_ID: Final = 100
LONGEST_REASON: Final = 2000
_VERSION: Final = re.compile(r"[1-9][0-9]{0,9}|[A-Za-z][A-Za-z0-9_.-]{0,49}")
_LARGEST: Final = 2**62


def no_options(_parser: argparse.ArgumentParser) -> None:
    """For a verb that takes only its deployment."""


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb of the rollout.

    Attributes:
        run: does the work, and returns its result.
        needs: what it cannot work without, besides the API.
        opens: whether it opens a deployment, so that there is none to choose.
        add_options: adds the verb's own options to its parser.
    """

    name: str
    help: str
    run: Callable[[RunContext, argparse.Namespace], Mapping[str, Any]]
    needs: tuple[Backend, ...] = ()
    opens: bool = False
    add_options: Callable[[argparse.ArgumentParser], None] = no_options


def parser(verbs: Sequence[Verb], now: datetime) -> argparse.ArgumentParser:
    """The parser of `python -m fraud_rollout`; the default run id of `validate` is derived from `now`."""
    parser_of_verbs = argparse.ArgumentParser(
        prog="python -m fraud_rollout",
        description="Release a model version: validate it, give it a share of the traffic, judge, promote.",
    )
    choices = parser_of_verbs.add_subparsers(dest="verb", required=True, metavar="verb")
    for verb in verbs:
        verb_parser = choices.add_parser(verb.name, help=verb.help, description=verb.help)
        verb_parser.add_argument(
            "--dag", default=DAG_CANARY, help=f"the DAG that the run belongs to (default {DAG_CANARY})"
        )
        if verb.opens:
            _add_run(verb_parser, now)
        else:
            _add_deployment(verb_parser)
        verb.add_options(verb_parser)
    return parser_of_verbs


def version_option(parser_of_verb: argparse.ArgumentParser) -> None:
    """The version to release."""
    parser_of_verb.add_argument(
        "--version",
        type=version,
        default=ALIAS_CHALLENGER,
        help=f"a version's number, or an alias (default {ALIAS_CHALLENGER})",
    )


def validate_options(parser_of_verb: argparse.ArgumentParser) -> None:
    """The version to release, and who splits the traffic."""
    version_option(parser_of_verb)
    parser_of_verb.add_argument(
        "--mode",
        type=Mode,
        choices=list(Mode),
        default=Mode.CANARY,
        help="canary: the API splits cards; http: the gateway splits requests (default canary)",
    )


def patience_option(parser_of_verb: argparse.ArgumentParser) -> None:
    """How long the verb waits."""
    parser_of_verb.add_argument(
        "--patience", type=span, default=90.0, metavar="SPAN", help="how long to wait, such as 90s (default)"
    )


def percent_option(parser_of_verb: argparse.ArgumentParser) -> None:
    """The share of the traffic."""
    parser_of_verb.add_argument(
        "--percent",
        type=whole_number(1, 99),
        help="the share of the traffic (default: the next one of release in config.yaml)",
    )


def reason_options(parser_of_verb: argparse.ArgumentParser) -> None:
    """Why a deployment is rolled back."""
    _add_reason(parser_of_verb, "why (default: what the latest verdict says)")
    parser_of_verb.add_argument(
        "--withdrawn", action="store_true", help="record that there is no evidence against the version"
    )


def abort_options(parser_of_verb: argparse.ArgumentParser) -> None:
    """Why a deployment is stopped."""
    _add_reason(parser_of_verb, "why (default: that a person stopped it)")


def force_options(parser_of_verb: argparse.ArgumentParser) -> None:
    """Whether the verdict counts."""
    parser_of_verb.add_argument(
        "--force", action="store_true", help="promote whatever the verdict is; needs --reason"
    )
    _add_reason(parser_of_verb, "why it is forced")


def watch_option(parser_of_verb: argparse.ArgumentParser) -> None:
    """Whether the verb goes on until the deployment ends."""
    parser_of_verb.add_argument(
        "--watch", action="store_true", help="show it again and again until the deployment ends"
    )
    parser_of_verb.add_argument(
        "--every",
        type=span,
        default=2.0,
        metavar="SPAN",
        help="with --watch: how often, such as 2s (default)",
    )


def wait_option(parser_of_verb: argparse.ArgumentParser) -> None:
    """Whether the verb waits until the stage is over."""
    parser_of_verb.add_argument(
        "--wait", action="store_true", help="judge again and again until the stage is decided"
    )
    parser_of_verb.add_argument(
        "--every", type=span, default=5.0, metavar="SPAN", help="with --wait: how often, such as 5s (default)"
    )


def version(text: str) -> str:
    """A version's number, or an alias."""
    if not _VERSION.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"must be a version such as 7, or an alias such as {ALIAS_CHALLENGER}, not {printable(text)!r}"
        )
    return text


def _run_id(text: str) -> str:
    if len(printable(text)) > LONGEST_RUN_ID:
        raise argparse.ArgumentTypeError(f"must have at most {LONGEST_RUN_ID} characters")
    return text


def _reason(text: str) -> str:
    if not text.strip() or len(text) > LONGEST_REASON:
        raise argparse.ArgumentTypeError(f"must be a sentence of at most {LONGEST_REASON} characters")
    return " ".join(text.split())


def _add_reason(parser_of_verb: argparse.ArgumentParser, text: str) -> None:
    parser_of_verb.add_argument("--reason", type=_reason, metavar="SENTENCE", help=text)


def _add_run(parser_of_verb: argparse.ArgumentParser, now: datetime) -> None:
    parser_of_verb.add_argument(
        "--run-id",
        type=_run_id,
        default=f"manual__{now:%Y%m%dT%H%M%S.%fZ}",
        help="the run that the deployment belongs to; an earlier run finds its own (default: a new one)",
    )


def _add_deployment(parser_of_verb: argparse.ArgumentParser) -> None:
    chosen = parser_of_verb.add_mutually_exclusive_group()
    chosen.add_argument("--run-id", type=_run_id, help="the deployment of this run")
    chosen.add_argument(
        "--deployment-id",
        type=whole_number(1, _LARGEST),
        help="the deployment of this number (default: the one that is running)",
    )
