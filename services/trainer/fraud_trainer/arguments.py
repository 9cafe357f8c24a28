"""The trainer's command line: a verb, and the options that verb takes."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import Final

from fraud_adapters.job.arguments import file_to_read, moment, number
from fraud_trainer.run_context import STEPS

RUN: Final = "run"
FIRST_MODEL: Final = "first-model"
BUCKETS: Final = "buckets"
CLEAN: Final = "clean"
IMPORT: Final = "import"
ROLLBACK: Final = "rollback"
DEFAULT_DAG: Final = "01_training_pipeline"
_HELP: Final = {
    "load": "read transactions with a mature label from Postgres",
    "features": "compute the features",
    "train": "fit the trees, the calibration and the thresholds",
    "validate": "measure the model on the held-out part, and evaluate the gate",
    "register": "register a model version, its record and its alias",
    RUN: "all of these steps in order",
    FIRST_MODEL: "all of these steps if there is no champion, otherwise nothing",
    BUCKETS: "create the buckets of the object store",
    CLEAN: "remove the files of ended runs that no model version needs",
    IMPORT: "register a model that was trained elsewhere, through the same calibration, validation and gate",
    ROLLBACK: "make the previous version champion again",
}


def parser(now: datetime) -> argparse.ArgumentParser:
    """The parser of `python -m fraud_trainer`; the default run id is derived from `now`."""
    parser_of_verbs = argparse.ArgumentParser(
        prog="python -m fraud_trainer",
        description="Train a model on transactions with mature labels, gate it, and register it in MLflow.",
    )
    verbs = parser_of_verbs.add_subparsers(dest="verb", required=True, metavar="verb")
    verb_parsers = {name: verbs.add_parser(name, help=text, description=text) for name, text in _HELP.items()}
    for name in (*STEPS, RUN, FIRST_MODEL):
        _add_run(verb_parsers[name], now, begins=name in {STEPS[0], RUN, FIRST_MODEL})
    _add_import(verb_parsers[IMPORT], now)
    for name in (STEPS[-1], RUN, FIRST_MODEL, IMPORT):
        verb_parsers[name].add_argument(
            "--promote",
            action="store_true",
            help="make the model champion even if there is a champion already",
        )
    verb_parsers[CLEAN].add_argument(
        "--dry-run", action="store_true", help="report what would be removed, remove nothing"
    )
    return parser_of_verbs


def _add_import(verb: argparse.ArgumentParser, now: datetime) -> None:
    verb.add_argument(
        "--model",
        type=file_to_read,
        required=True,
        metavar="FILE",
        help="the model: .ubj or .json of XGBoost, or .onnx",
    )
    verb.add_argument(
        "--data",
        type=file_to_read,
        required=True,
        metavar="FILE",
        help="labelled transactions the model was not trained on, .parquet or .csv with event_time",
    )
    verb.add_argument(
        "--feature-order",
        type=feature_order,
        metavar="A,B,…",
        help="the features in the order of the model's inputs (default: its own names, else the contract's)",
    )
    verb.add_argument(
        "--output",
        choices=("margin", "probability"),
        help="what an ONNX model gives (default: a probability if all values are between 0 and 1)",
    )
    verb.add_argument(
        "--threshold",
        type=number(0, 1),
        help="scores from here on predict fraud, after calibration (default: chosen as for a trained model)",
    )
    verb.add_argument("--dag", default=IMPORT, help=f"the DAG that the run belongs to (default {IMPORT})")
    _add_new_run_id(verb, now)


def feature_order(text: str) -> tuple[str, ...]:
    """The names of a comma-separated list, in lower case."""
    return tuple(name.strip().lower() for name in text.split(",") if name.strip())


def _add_new_run_id(verb: argparse.ArgumentParser, now: datetime) -> None:
    verb.add_argument(
        "--run-id",
        default=f"manual__{now:%Y%m%dT%H%M%S.%fZ}",
        help="the run whose steps belong together (default: a new one)",
    )


def _add_run(verb: argparse.ArgumentParser, now: datetime, *, begins: bool) -> None:
    verb.add_argument(
        "--dag", default=DEFAULT_DAG, help=f"the DAG that the run belongs to (default {DEFAULT_DAG})"
    )
    if not begins:
        verb.add_argument("--run-id", required=True, help="the run whose steps belong together")
        return
    _add_new_run_id(verb, now)
    verb.add_argument(
        "--as-of",
        type=moment,
        help="cut-off for labels, a past RFC 3339 time with zone (default: the database's current time)",
    )
