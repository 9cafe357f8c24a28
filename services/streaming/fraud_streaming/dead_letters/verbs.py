"""Arguments of the verbs `dead-letters` and `redrive`."""

from __future__ import annotations

import argparse
from typing import Any, Final

from config.job_results.streaming import DeadLettersResult, ExportResult, RedriveResult
from config.services import Backend
from config.settings import DatabaseSettings, KafkaSettings, PlatformSettings, contract, load, parameters
from fraud_adapters.job import arguments
from fraud_adapters.kafka import Damage
from fraud_adapters.postgres.dead_letters import Selection
from fraud_adapters.preflight import require
from fraud_core.record_model import Reason
from fraud_streaming.consume.labels import LABEL_CONFLICT
from fraud_streaming.consume.processor import StreamReason
from fraud_streaming.dead_letters.listing import export, show
from fraud_streaming.dead_letters.redrive import (
    RedriveInstallation,
    RedriveOptions,
    redrive_repaired,
    redrive_selected,
)

REASONS: Final = sorted({*map(str, Reason), *map(str, StreamReason), *map(str, Damage), LABEL_CONFLICT})
_NUMBER: Final = arguments.whole_number(1, 2**63 - 1)


def add_verbs(verbs: Any) -> None:
    """Add `dead-letters` and `redrive` to the sub-parsers."""
    listing = verbs.add_parser("dead-letters", help="records that could not be processed")
    _add_filters(listing)
    listing.add_argument(
        "--limit", type=_NUMBER, metavar="N", help="the newest N (50), or export the oldest N"
    )
    listing.add_argument(
        "--export",
        type=arguments.file_to_write,
        metavar="FILE",
        help="write them to FILE as JSON lines, for repair",
    )
    listing.add_argument("--open", action="store_true", help="only those that were not put back yet")
    listing.set_defaults(handler=_dead_letters)
    redrive = verbs.add_parser("redrive", help="put dead letters back on the topic they came from")
    _add_filters(redrive)
    redrive.add_argument("--id", type=_NUMBER, nargs="+", metavar="N", dest="ids", help="these dead letters")
    redrive.add_argument("--all", action="store_true", help="all that were not put back yet")
    redrive.add_argument(
        "--file", type=arguments.file_to_read, help='repaired records: lines {"id": 12, "record": {…}}'
    )
    redrive.add_argument("--again", action="store_true", help="include those that were put back before")
    redrive.add_argument(
        "--no-check", action="store_true", help="also send records that violate the contract"
    )
    redrive.add_argument("--dry-run", action="store_true", help="send nothing, report what would be sent")
    redrive.set_defaults(handler=_redrive, usage_error=redrive.error)


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", choices=REASONS, metavar="REASON", help=f"one of {', '.join(REASONS)}")
    parser.add_argument(
        "--since",
        type=arguments.moment_or_ago,
        metavar="TIME",
        help="since 2026-01-31T12:00:00Z, or 30m, 12h, 7d ago",
    )


def _dead_letters(options: argparse.Namespace) -> DeadLettersResult | ExportResult:
    selection = Selection(reason=options.reason, since=options.since, not_redriven=options.open)
    require(Backend.POSTGRES)
    database = load(DatabaseSettings)
    if options.export is not None:
        return export(database, selection, options.limit, options.export)
    return show(database, selection, options.limit)


def _redrive(options: argparse.Namespace) -> RedriveResult:
    filtered = options.reason is not None or options.since is not None
    selections = [options.ids is not None, options.file is not None, options.all, filtered]
    if sum(selections) != 1:
        options.usage_error("give one of --id, --file, --all, or --reason and --since")
    require(Backend.POSTGRES, Backend.KAFKA)
    platform = load(PlatformSettings)
    streaming = parameters(platform).streaming
    installation = RedriveInstallation(
        contract(platform), load(DatabaseSettings), load(KafkaSettings), streaming
    )
    redrive_options = RedriveOptions(again=options.again, check=not options.no_check, dry_run=options.dry_run)
    if options.file is not None:
        return redrive_repaired(installation, options.file, redrive_options)
    selection = Selection(
        ids=options.ids,
        reason=options.reason,
        since=options.since,
        not_redriven=options.ids is None and not options.again,
    )
    return redrive_selected(installation, selection, redrive_options)
