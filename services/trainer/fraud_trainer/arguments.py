"""The trainer's command line: a verb, and the options that verb takes."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import Final

from config.constants import DAG_TRAINING
from config.settings import ConfigurationError
from fraud_adapters.job.arguments import (
    MAX_COUNT,
    file_to_read,
    moment,
    number,
    printable,
    whole_number,
)
from fraud_adapters.postgres.examples import Interval
from fraud_trainer.load.sources import ExampleSource
from fraud_trainer.load.topic_examples import TopicSpan
from fraud_trainer.run_context import STEPS

DECIDE: Final = "decide"
RUN: Final = "run"
FIRST_MODEL: Final = "first-model"
BUCKETS: Final = "buckets"
CLEAN: Final = "clean"
IMPORT: Final = "import"
ROLLBACK: Final = "rollback"
DEFAULT_DAG: Final = DAG_TRAINING
_HELP: Final = {
    DECIDE: "decide whether a new model is needed, and store the decision",
    "load": "read labelled transactions, from Postgres or from a file",
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
    for name in (DECIDE, *STEPS, RUN, FIRST_MODEL):
        _add_run(verb_parsers[name], now, begins=name in {DECIDE, STEPS[0], RUN, FIRST_MODEL})
    for name in (STEPS[0], RUN, FIRST_MODEL):
        _add_source(verb_parsers[name])
    verb_parsers[DECIDE].add_argument("--force", action="store_true", help="train whatever speaks against it")
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
        dest="file",
        required=True,
        metavar="FILE",
        help="labelled transactions the model was not trained on, .parquet or .csv with event_time",
    )
    verb.set_defaults(**dict.fromkeys(("as_of", "start", "end", "file_start", "kafka_from", "kafka_to")))
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


def _add_source(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--as-of",
        type=moment,
        help="cut-off for labels, a past RFC 3339 time with zone (default: the database's current time)",
    )
    verb.add_argument("--from", dest="start", type=moment, help="leave out transactions before this time")
    verb.add_argument("--to", dest="end", type=moment, help="leave out transactions from this time on")
    verb.add_argument(
        "--file",
        type=printable,
        help="read a CSV or Parquet file with labels instead of the database: a path, or s3://fraud-runs/KEY",
    )
    verb.add_argument(
        "--file-start",
        type=moment,
        help="when the first transaction of a --file without a column event_time happened",
    )
    for name, words in (("--kafka-from", "from this one on"), ("--kafka-to", "before this one")):
        verb.add_argument(
            name,
            type=_offset_or_moment,
            metavar="TIME|OFFSET",
            help=f"read the transactions topic instead of the database, records {words}",
        )


def _offset_or_moment(text: str) -> int | datetime:
    """An offset, or a time with a zone."""
    return whole_number(0, MAX_COUNT)(text) if text.isascii() and text.isdecimal() else moment(text)


def example_source(options: argparse.Namespace) -> ExampleSource:
    """Where examples come from; the default for verbs that do not load.

    Raises:
        ConfigurationError: the options contradict each other.
    """
    if "file" not in options:
        return ExampleSource()
    if options.file is not None and options.as_of is not None:
        raise ConfigurationError("--as-of: the labels of a --file are those it holds.")
    bounded = options.kafka_from is not None or options.kafka_to is not None
    topic = TopicSpan(options.kafka_from, options.kafka_to) if bounded else None
    return ExampleSource(Interval(options.start, options.end), options.file, options.file_start, topic)
