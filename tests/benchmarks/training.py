"""How long the step `train` takes and how much memory it needs, by the number of transactions.

    ./fraud bench training [--rows 100000,300000,1000000] [--environments development,production] [--write]

Simulated transactions of the population that the platform simulates, divided as the trainer divides them.
Each training is a process of its own: preparing, fitting every candidate of the environment's configuration,
choosing, calibrating and exporting, without reading from Postgres or writing to the object store. Peak memory
is what the operating system reports of the process, its libraries included. `--write` puts the table into
docs/results/training.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np

from config.parameters import load_parameters
from config.settings import CONFIG_DIR
from fraud_core.features import feature_matrix
from fraud_producer.population import population
from fraud_producer.simulator import Simulator
from tests.benchmarks import machine
from tests.benchmarks.ulb import CREDITCARD

CHUNK: Final = 100_000
FEATURES, LABELS = "features.npy", "labels.npy"


def main() -> None:
    options = _options()
    if options.child is not None:
        print(json.dumps(train(Path(options.child), options.environments)))
        return
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for rows in map(int, options.rows.split(",")):
            simulate(Path(folder), rows)
            for environment in options.environments.split(","):
                runs.append(measured(Path(folder), environment) | {"rows": rows, "environment": environment})
                print(json.dumps(runs[-1]), file=sys.stderr)
    text = _table(runs)
    print(text)
    if options.write:
        load = f"Load average at the end: {machine.load():.1f}."
        head = f"# Training time and memory\n\n    {machine.command()}\n\n{machine.origin_of_models()} {load}"
        (machine.RESULTS / "training.md").write_text(f"{head}\n\n{text}\n", encoding="utf-8")
    print(json.dumps(runs))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default="100000,300000,1000000")
    parser.add_argument("--environments", default="development,production")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def simulate(folder: Path, rows: int) -> None:
    """Features float32 [rows, k] and labels [rows], as files."""
    settings = load_parameters(CONFIG_DIR, "development").simulator
    simulator = Simulator(
        CREDITCARD, population(settings.seed, settings.fraud_rate, settings.overlap), timedelta(days=7)
    )
    features, labels = np.empty((rows, len(CREDITCARD.features)), np.float32), np.empty(rows, np.int8)
    for day, start in enumerate(range(0, rows, CHUNK)):
        stop = min(start + CHUNK, rows)
        moment = datetime(2026, 5, 4, tzinfo=UTC) + timedelta(days=day)
        made = simulator.day(f"day-{day}", moment, stop - start)
        features[start:stop], labels[start:stop] = feature_matrix(CREDITCARD, made.batch), made.labels
    np.save(folder / FEATURES, features)
    np.save(folder / LABELS, labels)


def measured(folder: Path, environment: str) -> dict[str, Any]:
    """The figures of one training, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.training", "--child", str(folder)]
    command += ["--environments", environment]
    # As the trainer sets it; see its `__main__`.
    variables = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=variables)
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def train(folder: Path, environment: str) -> dict[str, Any]:
    """Train in this process; seconds, processor seconds, peak memory, and the seconds of each candidate."""
    # Imported here, so that the process that simulates does not load the libraries.
    from fraud_trainer.train.fitting import Examples  # noqa: PLC0415
    from fraud_trainer.train.modelling import fit_model  # noqa: PLC0415

    training = load_parameters(CONFIG_DIR, environment).training
    features, labels = np.load(folder / FEATURES), np.load(folder / LABELS)
    shares = np.array([1 - training.validation_share, 1 - training.validation_share * 2 / 3, 1])
    ends = ((shares - training.test_share) * len(labels)).astype(int).tolist()
    bounds = zip(("train", "stopping", "calibration"), [0, *ends], ends, strict=False)
    parts = {name: Examples(features[start:end], labels[start:end]) for name, start, end in bounds}
    started, processor = time.monotonic(), time.process_time()
    model = fit_model(CREDITCARD, training, parts, lambda *_event, **_values: None)
    return {
        "seconds": round(time.monotonic() - started, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "chosen": model.choice.fitted.name,
        "candidates": {name: result["seconds"] for name, result in model.choice.results.items()},
        "model_kib": {name: len(content) // 1024 for name, content in model.contents.items()},
    }


def _table(runs: list[dict[str, Any]]) -> str:
    rows = [
        [
            f"{run['rows']:,}",
            run["environment"],
            run["seconds"],
            run["processor_seconds"],
            f"{run['peak_mib']:,}",
            run["chosen"],
            ", ".join(f"{name} {seconds}" for name, seconds in run["candidates"].items()),
        ]
        for run in runs
    ]
    head = ["transactions", "environment", "s", "CPU s", "peak MiB", "chosen", "s of each candidate"]
    return machine.table(head, rows)


if __name__ == "__main__":
    main()
