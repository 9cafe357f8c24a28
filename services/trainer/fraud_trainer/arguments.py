"""The trainer's command line: a verb, and the options that verb takes."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import Final

from fraud_adapters.job.arguments import moment
from fraud_trainer.run_context import STEPS

RUN: Final = "run"
FIRST_MODEL: Final = "first-model"
BUCKETS: Final = "buckets"
CLEAN: Final = "clean"
DEFAULT_DAG: Final = "01_training_pipeline"
_HELP: Final = {
    "load": "transactions with a mature label, from Postgres",
    "features": "what the model sees",
    "train": "trees, calibration, thresholds",
    "validate": "figures on the held-out part, and the gate",
    "register": "a model version, its record and its alias",
    RUN: "all of these, one after the other",
    FIRST_MODEL: "all of these where there is no champion, else nothing",
    BUCKETS: "make the buckets of the object store",
    CLEAN: "remove the files of ended runs that no model version needs",
}


def parser(now: datetime) -> argparse.ArgumentParser:
    """For `python -m fraud_trainer`; a run that is not named is called after `now`."""
    made = argparse.ArgumentParser(
        prog="python -m fraud_trainer",
        description="Train a model on transactions with mature labels, gate it, and register it in MLflow.",
    )
    verbs = made.add_subparsers(dest="verb", required=True, metavar="verb")
    each = {name: verbs.add_parser(name, help=text, description=text) for name, text in _HELP.items()}
    for name in (*STEPS, RUN, FIRST_MODEL):
        _add_run(each[name], now, begins=name in {STEPS[0], RUN, FIRST_MODEL})
    for name in (STEPS[-1], RUN, FIRST_MODEL):
        each[name].add_argument(
            "--promote", action="store_true", help="make the model champion even where there is one already"
        )
    each[CLEAN].add_argument(
        "--dry-run", action="store_true", help="say what would be removed, remove nothing"
    )
    return made


def _add_run(verb: argparse.ArgumentParser, now: datetime, *, begins: bool) -> None:
    verb.add_argument("--dag", default=DEFAULT_DAG, help=f"whose run it is (default {DEFAULT_DAG})")
    if not begins:
        verb.add_argument("--run-id", required=True, help="the run whose steps belong together")
        return
    verb.add_argument(
        "--run-id",
        default=f"manual__{now:%Y%m%dT%H%M%S.%fZ}",
        help="the run whose steps belong together (default: a new one)",
    )
    verb.add_argument(
        "--as-of",
        type=moment,
        help="labels as known then, RFC 3339 with zone, in the past (default: now, by the database's clock)",
    )
