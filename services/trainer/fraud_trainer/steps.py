"""The steps up to a calibrated model: load, features, train."""

from __future__ import annotations

import hashlib
from contextlib import closing
from datetime import datetime
from typing import Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from psycopg2.extensions import connection as Connection  # noqa: N812

from config.job_results import FeaturesResult, LoadResult, SplitPart, TrainResult
from config.settings import ConfigurationError
from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.job.logs import get_logger
from fraud_adapters.objectstore.run_store import Step
from fraud_adapters.postgres import examples, simulations
from fraud_core.features import feature_matrix
from fraud_core.labels import cut_off
from fraud_trainer.fitting import Examples
from fraud_trainer.modelling import candidate_metrics, fit_model
from fraud_trainer.run_context import RunContext
from fraud_trainer.splitting import Split, split_in_time
from fraud_trainer.thresholds import choose_thresholds
from fraud_trainer.tracking import TAG_TRAINED, open_run

EXAMPLES: Final = "examples.parquet"
FEATURES: Final = "features.parquet"
SIMULATOR: Final = "simulator"  # the source of simulated labels and of backfilled history

_TIME: Final = "_time"
_LABEL: Final = "_label"


def load(context: RunContext) -> LoadResult:
    """Transactions with a mature label, from Postgres to the run's folder."""
    with closing(context.database()) as connection:
        as_of = _cut_off(context, examples.database_clock(connection))
        table = examples.read_examples(connection, context.contract, as_of)
        left_out = examples.left_out(connection, context.contract, as_of)
        label_sources = _counts(table.column(examples.LABEL_SOURCE))
        # A transaction from the stream does not tell whether it is simulated, but its label does.
        optimum = _optimum(connection) if SIMULATOR in label_sources else None
    if not table.num_rows:
        raise LastingFailure(
            f"There is no transaction of {context.contract.schema_id} with a mature label as of "
            f"{as_of.isoformat(timespec='seconds')}."
        )
    times = table.column(examples.TIME)
    outcome: LoadResult = {
        "digest": context.run.put_table(EXAMPLES, table),
        "rows": table.num_rows,
        "frauds": int(pc.sum(table.column(examples.LABEL)).as_py()),
        "as_of": as_of.isoformat(),
        "data_from": times[0].as_py().isoformat(),
        "data_to": times[-1].as_py().isoformat(),
        "sources": _counts(table.column(examples.SOURCE)),
        "label_sources": label_sources,
        "optimum": dict(optimum.figures) if optimum else None,
        "population": optimum.population if optimum else None,
        **left_out,
    }
    context.run.finish(context.run.seal("load", outcome))
    return outcome


def _cut_off(context: RunContext, now: datetime) -> datetime:
    try:
        return cut_off(context.as_of, now)
    except ValueError as error:
        raise ConfigurationError(f"--as-of: {error}; give a moment that has passed.") from None


def _optimum(connection: Connection) -> simulations.StoredOptimum | None:
    with connection, connection.cursor() as cursor:
        return simulations.first_optimum(cursor)


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()}


def features(context: RunContext) -> FeaturesResult:
    """Compute the features of the transactions, in the same order."""
    loaded = context.run.step("load")
    table = context.run.get_table(EXAMPLES, loaded["digest"])
    matrix = feature_matrix(context.contract, examples.to_batch(context.contract, table))
    columns = {name: matrix[:, position] for position, name in enumerate(context.contract.feature_names)}
    matrix_table = pa.table(
        {_TIME: table.column(examples.TIME).cast(pa.int64()), _LABEL: table.column(examples.LABEL), **columns}
    )
    outcome: FeaturesResult = {
        "digest": context.run.put_table(FEATURES, matrix_table),
        "rows": matrix_table.num_rows,
        "features": list(context.contract.feature_names),
        "missing": int(np.isnan(matrix).sum()),
    }
    context.run.finish(context.run.seal("features", outcome, loaded))
    return outcome


def read_features(context: RunContext, step: Step) -> tuple[NDArray[np.int64], Examples]:
    """Event times in microseconds [n], ascending, and the examples in the same order.

    Raises:
        LastingFailure: the features are another contract's.
    """
    if step["features"] != list(context.contract.feature_names):
        raise LastingFailure(f"The run's features are not those of {context.contract.schema_id}: load again.")
    table = context.run.get_table(FEATURES, step["digest"])
    matrix = np.empty((table.num_rows, len(context.contract.feature_names)), dtype=np.float32)
    for position, name in enumerate(context.contract.feature_names):
        matrix[:, position] = table.column(name).to_numpy()
    return table.column(_TIME).to_numpy(), Examples(matrix, table.column(_LABEL).to_numpy())


def train(context: RunContext) -> TrainResult:
    """Split by time, prepare, fit the candidates, choose one, calibrate it, choose the thresholds.

    The test part is not used.

    Raises:
        LastingFailure: the data cannot be split, no candidate can be used, or one is served differently.
    """
    step = context.run.step("features")
    moments, data = read_features(context, step)
    run_id = _open(context, step)
    split = split_in_time(
        moments,
        data.labels,
        validation_share=context.training.validation_share,
        test_share=context.training.test_share,
    )
    parts = {name: Examples(data.features[part], data.labels[part]) for name, part in split.parts()}
    trained = fit_model(context.contract, context.training, parts, get_logger(__name__).info)
    chosen = choose_thresholds(
        parts["calibration"].labels, trained.scores, context.policy, context.training.block_precision
    )
    outcome: TrainResult = {
        "digests": {name: context.run.put(name, content) for name, content in trained.contents.items()},
        "split": _describe(split, data.labels),
        **trained.outcome(),
        "threshold": chosen.threshold,
        "block_threshold": chosen.block_threshold,
        "threshold_rule": chosen.rule,
        # Stored here, so that a repeated `validate` writes the same manifest.
        "created_at": context.now.isoformat(),
        "code_version": context.code_version,
        "mlflow_run_id": run_id,
    }
    sealed = context.run.seal("train", outcome, step)
    _track(context, run_id, sealed)
    context.run.finish(sealed)
    return outcome


def _describe(split: Split, labels: NDArray[np.int8]) -> dict[str, SplitPart]:
    return {
        name: {"from": part.start, "to": part.stop, "frauds": int(labels[part].sum())}
        for name, part in split.parts()
    }


def _open(context: RunContext, features_step: Step) -> str:
    """Open the MLflow run; returns its id."""
    loaded = context.run.step("load")
    inputs = {
        "contract": context.contract.schema_id,
        "code": context.code_version,
        "features": features_step["digest"],
        "training": context.training.model_dump(mode="json"),
        "gate": [context.gate, context.policy.model_dump(mode="json")],
        "data": [loaded[name] for name in ("digest", "data_from", "data_to")],
    }
    digest = hashlib.sha256(orjson.dumps(inputs, option=orjson.OPT_SORT_KEYS)).hexdigest()
    tags = {
        "contract": context.contract.schema_id,
        "code_version": context.code_version,
        "data_source": ",".join(loaded["sources"]),
    }
    return open_run(context, digest, tags)


def _track(context: RunContext, run_id: str, trained: Step) -> None:
    loaded = context.run.step("load")
    context.tracking().log(
        run_id,
        parameters={
            **{f"xgboost.{name}": value for name, value in context.training.xgboost.items()},
            **context.training.model_dump(exclude={"xgboost"}),
            "gate": context.gate,
            "data_from": loaded["data_from"],
            "data_to": loaded["data_to"],
            "examples_digest": loaded["digest"],
            **{f"rows.{name}": part["to"] - part["from"] for name, part in trained["split"].items()},
            **{f"frauds.{name}": part["frauds"] for name, part in trained["split"].items()},
            "threshold_rule": trained["threshold_rule"],
            "candidate": trained["candidate"],
        },
        metrics={
            **candidate_metrics(trained["candidates"]),
            "threshold": trained["threshold"],
            "block_threshold": trained["block_threshold"],
        },
        tags={TAG_TRAINED: trained.digest, "candidate_choice": trained["choice"]},
    )
