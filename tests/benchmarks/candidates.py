"""What each kind of model costs when it serves, as a ratio to XGBoost alone: one transaction, and batches.

    ./fraud bench candidates [--rows 30000] [--repeat 20] [--write]

Trains the whole set of production on simulated transactions, loads every candidate as the API does, and lets
them take turns. Figures are those of the quickest turn. Exits with 1 if the vote of five takes more than
3 times what XGBoost alone takes, for one transaction or for a row of a batch. `--write` puts the table into
docs/results/candidates.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from config.parameters import Training, load_parameters
from config.settings import CONFIG_DIR
from fraud_adapters.models.loading import Model
from fraud_core.manifest import FILE_NAME, Manifest
from fraud_trainer.candidates.choosing import choose_candidate
from fraud_trainer.candidates.model_types import Fitted
from fraud_trainer.candidates.voting import VOTING
from fraud_trainer.train.exporting import FILES, export
from fraud_trainer.train.fitting import Examples
from fraud_trainer.train.modelling import prepare_parts
from fraud_trainer.train.preparing import FittedPreparation
from tests.benchmarks import machine
from tests.benchmarks.training import FEATURES, LABELS, simulate
from tests.benchmarks.ulb import CREDITCARD
from tests.support.small_model import model_manifest

MAX_RATIO: Final = 3.0
SINGLE, BATCH = 200, 500  # single transactions in a turn; rows of a batch
ALONE: Final = "xgboost"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--repeat", type=int, default=20, help="turns of each candidate")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    training = load_parameters(CONFIG_DIR, "production").training
    with tempfile.TemporaryDirectory() as folder:
        simulate(Path(folder), options.rows)
        features, labels = np.load(Path(folder) / FEATURES), np.load(Path(folder) / LABELS)
        models = trained(Path(folder), training, features, labels)
    runs = measured(models, features, options.repeat)
    text = _table(runs)
    print(text)
    if options.write:
        head = f"# Latency of the candidates\n\n    {machine.command()}\n\n{machine.origin_of_models()}\n\n"
        (machine.RESULTS / "candidates.md").write_text(f"{head}{text}\n", encoding="utf-8")
    print(json.dumps(runs))
    for what, ratio in (("one transaction", "single_ratio"), (f"a row of {BATCH}", "batch_ratio")):
        if runs[VOTING][ratio] > MAX_RATIO:
            sys.exit(f"The vote takes {runs[VOTING][ratio]:.2f} times what XGBoost takes for {what}.")


def trained(
    folder: Path, training: Training, features: NDArray[np.float32], labels: NDArray[np.int8]
) -> dict[str, Model]:
    """Every candidate as a service loads it, by name."""
    ends = [int(len(labels) * share) for share in (0.75, 0.85, 1)]
    bounds = zip(("train", "stopping", "calibration"), [0, *ends], ends, strict=False)
    parts = {name: Examples(features[start:end], labels[start:end]) for name, start, end in bounds}
    prepared, _, rows = prepare_parts(CREDITCARD, training, parts)
    choice = choose_candidate(training, rows, lambda *_event, **_values: None)
    return {
        fitted.name: _loaded(folder / fitted.name, fitted, prepared, rows.calibration)
        for fitted in choice.all_fitted
    }


def _loaded(directory: Path, fitted: Fitted, prepared: FittedPreparation, rows: Any) -> Model:
    exported = export(fitted, prepared)
    calibration = fitted.calibrated(rows).sigmoid
    plain = model_manifest(CREDITCARD, dict.fromkeys(FILES.values(), b""), calibration, {}, "benchmark")
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in exported.contents.items()}
    manifest = Manifest.model_validate(
        {
            **plain.model_dump(),
            "engines": {engine: name for engine, name in FILES.items() if name in exported.contents},
            "digests": digests,
            "candidate": fitted.name,
            "members": exported.members,
            "preparation": exported.preparation,
        }
    )
    directory.mkdir()
    for name, content in exported.contents.items():
        (directory / name).write_bytes(content)
    (directory / FILE_NAME).write_bytes(manifest.to_json())
    return Model.load(directory, manifest.digest(), CREDITCARD)


def measured(
    models: dict[str, Model], features: NDArray[np.float32], repeat: int
) -> dict[str, dict[str, Any]]:
    """By candidate the µs of a transaction alone and of a row in a batch, and the ratios."""
    rows = [np.ascontiguousarray(features[row : row + 1]) for row in range(SINGLE)]
    batch = np.ascontiguousarray(features[:BATCH])
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in models}
    for _ in range(repeat):
        for name, model in models.items():
            times[name][0].append(_microseconds(model.score_single, rows) / SINGLE)
            times[name][1].append(_microseconds(model.score_batch, [batch]) / BATCH)
    found = {
        name: {"single_us": float(min(single)), "batch_us": float(min(many))}
        for name, (single, many) in times.items()
    }
    alone = found[ALONE]
    return {
        name: {
            **figures,
            "single_ratio": figures["single_us"] / alone["single_us"],
            "batch_ratio": figures["batch_us"] / alone["batch_us"],
            "engine_batch": models[name].engine_batch,
        }
        for name, figures in found.items()
    }


def _microseconds(score: Callable[[Any], Any], inputs: list[NDArray[np.float32]]) -> float:
    started = time.perf_counter()
    for one in inputs:
        score(one)
    return (time.perf_counter() - started) * 1e6


def _table(runs: dict[str, dict[str, Any]]) -> str:
    rows = [
        [
            name,
            f"{run['single_us']:.0f}",
            f"{run['single_ratio']:.2f}",
            f"{run['batch_us']:.1f}",
            f"{run['batch_ratio']:.2f}",
            run["engine_batch"],
        ]
        for name, run in runs.items()
    ]
    head = [
        "candidate",
        "one transaction, µs",
        "÷ XGBoost",
        f"a row of {BATCH}, µs",
        "÷ XGBoost",
        "engine of batches",
    ]
    return machine.table(head, rows)


if __name__ == "__main__":
    main()
