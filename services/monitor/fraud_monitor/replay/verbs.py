"""The verb `replay`: verifies a sample of stored predictions, and stores how many differ."""

from __future__ import annotations

import argparse
from contextlib import closing
from random import Random
from time import monotonic
from typing import Final

from config.job_results.monitor import ReplayCheckResult
from config.services import Backend
from fraud_adapters.job.arguments import whole_number
from fraud_adapters.job.logs import get_logger
from fraud_adapters.postgres.examples import database_clock
from fraud_adapters.postgres.performance_metrics import MetricRow, store_metrics
from fraud_adapters.postgres.prediction_queries import sample_vectors
from fraud_monitor.arguments import Verb
from fraud_monitor.replay.verifying import Verified, verify
from fraud_monitor.run_context import RunContext

DEFAULT_SAMPLE: Final = 500
MAX_SAMPLE: Final = 100_000
ALL_VERSIONS: Final = "all"  # in the place of a version in performance_metrics
MOST_NAMED: Final = 20  # mismatches that the result names


def replay(context: RunContext, options: argparse.Namespace) -> ReplayCheckResult:
    """Verify a sample drawn by the run's id, so that a repeated run looks at the same predictions.

    Raises:
        DatabaseUnavailable: Postgres does not answer.
        RegistryUnavailable: MLflow does not answer, so that nothing can be said.
    """
    started = monotonic()
    with closing(context.database()) as connection:
        now = database_clock(connection)
        with connection, connection.cursor() as cursor:
            sample = sample_vectors(cursor, options.sample, Random(context.run.run_id))  # noqa: S311 - no secret
        verified = verify(sample, len(context.contract.features), context.version)
        times = [scored.prediction_time for scored in sample] or [now]
        with connection, connection.cursor() as cursor:
            store_metrics(
                cursor,
                context.contract.schema_id,
                context.run.run_id,
                ALL_VERSIONS,
                _rows(verified),
                window=(min(times), max(times)),
                labels=0,
            )
    for mismatch in verified.mismatches[:MOST_NAMED]:
        get_logger(__name__).error(
            "replay_differs",
            transaction_id=mismatch.scored.transaction_id,
            version=mismatch.scored.model_version,
            engine=mismatch.scored.engine,
            stored=mismatch.scored.score,
            replayed=mismatch.score,
        )
    return _result(context, options.sample, verified, monotonic() - started)


def _rows(verified: Verified) -> list[MetricRow]:
    left_out = sum(group.predictions for group in verified.not_replayed)
    return [
        MetricRow("replay_mismatches", float(len(verified.mismatches)), rows=verified.compared),
        MetricRow("replay_not_possible", float(left_out), rows=verified.compared + left_out),
    ]


def _result(context: RunContext, asked: int, verified: Verified, seconds: float) -> ReplayCheckResult:
    differ, compared = len(verified.mismatches), verified.compared
    left_out = sum(group.predictions for group in verified.not_replayed)
    sentence = (
        f"{differ} of {compared} stored predictions get another score from their recorded model now."
        if differ
        else f"{compared} stored predictions got the identical score again."
    )
    if left_out:
        sentence += f" {left_out} could not be replayed: {verified.not_replayed[0].reason}"
    return {
        "status": "done",
        "dag": context.run.dag,
        "run_id": context.run.run_id,
        "sample": asked,
        "compared": compared,
        "mismatches": differ,
        "mismatched": [
            {
                "transaction_id": one.scored.transaction_id,
                "model_version": one.scored.model_version,
                "engine": one.scored.engine,
                "stored_score": one.scored.score,
                "replayed_score": one.score,
            }
            for one in verified.mismatches[:MOST_NAMED]
        ],
        "not_replayed": [
            {
                "model_version": group.model_version,
                "engine": group.engine,
                "predictions": group.predictions,
                "reason": group.reason,
            }
            for group in verified.not_replayed
        ],
        "severity": "critical" if differ else "none" if compared else "insufficient",
        "title": "Stored decisions cannot be made again" if differ else "Stored decisions can be made again",
        "text": sentence,
        "seconds": round(seconds, 3),
    }


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sample",
        type=whole_number(1, MAX_SAMPLE),
        default=DEFAULT_SAMPLE,
        metavar="N",
        help=f"how many stored predictions (default {DEFAULT_SAMPLE})",
    )


VERBS: Final[tuple[Verb, ...]] = (
    Verb(
        "replay",
        "score a sample of stored predictions again and compare every bit",
        "03_feedback_collection",
        replay,
        needs=(Backend.MLFLOW,),
        add_options=_add_options,
    ),
)
