"""What a vote loses if only the first trees of its forests vote: average precision, on the same rows.

    ./fraud bench vote_trees [--trees 50/30,50/20] [--seeds 7,8] [--samples 200] [--simulated 40000]

The members are fitted by the trainer's own code; then votes are weighed in which so many trees of the random
forest / of the isolation forest take part, first of all all of them. They are judged on simulated
transactions that come after those they learnt from, and on blocks of six hours of the public ULB rows
(`quality` has their figures). Differences are means over seeds and blocks, with 95 % intervals by resampling
transactions.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from config.parameters import Training, load_parameters
from config.settings import CONFIG_DIR
from fraud_trainer.candidates.choosing import choose_candidate
from fraud_trainer.candidates.model_types import Rows
from fraud_trainer.candidates.voting import vote_of
from fraud_trainer.train.fitting import Examples
from fraud_trainer.train.modelling import prepare_parts
from tests.benchmarks import machine
from tests.benchmarks.detection_figures import FIGURES, Scored, interval, resamplings
from tests.benchmarks.quality import ALL_STARTS
from tests.benchmarks.training import FEATURES, LABELS, simulate
from tests.benchmarks.ulb import BLOCK_HOURS, CREDITCARD, DEFAULT, Ulb

ALL: Final[dict[str, int]] = {}
SHARES: Final = {"train": 0.5, "stopping": 0.6, "calibration": 0.65}  # where each part ends; the rest judges
Trees = dict[str, int]
Series = list[NDArray[np.float64]]  # average precision of the sample itself, then of each resampling


def main() -> None:
    options = _options()
    variants = [ALL, *(_trees(text) for text in options.trees.split(","))]
    seeds = [int(seed) for seed in options.seeds.split(",")]
    rows = []
    for what, cases in (
        (f"{options.simulated:,} simulated", simulated(options.simulated, options.samples)),
        (f"ULB, {len(ALL_STARTS)} blocks of {BLOCK_HOURS:g} h", ulb(options.data, options.samples)),
    ):
        found: list[Series] = [[] for _ in variants]
        for past, later, judged, counts in cases:
            for seed in seeds:
                for series, scores in zip(found, votes(past, later, seed, variants), strict=True):
                    series.append(figures(judged(scores), counts))
        means = [np.nanmean(series, axis=0) for series in found]
        for trees, mean in zip(variants[1:], means[1:], strict=True):
            away = mean - means[0]
            low, high = interval(away[1:].tolist())
            shown = "/".join(str(count) for count in trees.values())
            rows.append([what, shown, f"{means[0][0]:.4f}", f"{away[0]:+.4f} ({low:+.4f} to {high:+.4f})"])
    print(machine.table(["rows", "trees that vote", "average precision with all", "difference"], rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trees", default="50/30", help="of the random forest / of the isolation forest")
    parser.add_argument("--seeds", default="7,8")
    parser.add_argument("--samples", type=int, default=200, help="of the bootstrap")
    parser.add_argument("--data", type=Path, default=DEFAULT)
    parser.add_argument("--simulated", type=int, default=40_000)
    options = parser.parse_args()
    if not options.data.exists():
        sys.exit(f"{options.data} does not exist: give the ULB rows with --data.")
    return options


def _trees(text: str) -> Trees:
    forest, isolation = text.split("/")
    return {"random_forest": int(forest), "isolation_forest": int(isolation)}


class _Judge:
    """Scores of some rows with their labels and weights."""

    def __init__(self, labels: NDArray[np.int8], weights: NDArray[np.float32] | None) -> None:
        self._labels = labels.astype(np.float64)
        self._weights = np.ones(len(labels)) if weights is None else weights.astype(np.float64)

    def __call__(self, scores: NDArray[np.float64]) -> Scored:
        return Scored.of(scores, self._labels, self._weights, np.ones(len(scores)))


Case = tuple[dict[str, Examples], Examples, _Judge, NDArray[np.float64]]


def simulated(rows: int, samples: int) -> Iterator[Case]:
    with tempfile.TemporaryDirectory() as folder:
        simulate(Path(folder), rows)
        features, labels = np.load(Path(folder) / FEATURES), np.load(Path(folder) / LABELS)
    ends = [int(len(labels) * share) for share in SHARES.values()]
    parts = {
        name: Examples(features[start:end], labels[start:end])
        for name, start, end in zip(SHARES, [0, *ends[:-1]], ends, strict=True)
    }
    later = Examples(features[ends[-1] :], labels[ends[-1] :])
    yield parts, later, _Judge(later.labels, None), resamplings(len(later.labels), samples, 1)


def ulb(path: Path, samples: int) -> Iterator[Case]:
    data = Ulb.read(path)
    judged = data.take(data.even)
    counts = resamplings(len(judged.labels), samples, 1)
    for start in sorted(ALL_STARTS):
        block = judged.rows(start, start + BLOCK_HOURS)
        later = judged.examples(block)
        judge = _Judge(judged.labels[block], judged.weights[block])
        yield data.parts(data.rows(0, start).stop), later, judge, counts[:, block]


def votes(
    past: dict[str, Examples], later: Examples, seed: int, variants: list[Trees]
) -> Iterator[NDArray[np.float64]]:
    """The scores of `later` by the vote of each variant; the members are fitted once."""
    training = _training(seed)
    prepared, _, rows = prepare_parts(CREDITCARD, training, past)
    fitted = choose_candidate(training, rows, lambda *_event, **_values: None).all_fitted
    members = [one for one in fitted if one.name in training.voting]
    seen: Rows = prepared.apply(later, scaled=True)
    for trees in variants:
        vote = vote_of(members, rows.stopping, trees)
        yield vote.calibrated(rows.calibration).sigmoid.scores(vote.margins(seen))


def _training(seed: int) -> Training:
    """Production's, with the members of its vote as the candidates."""
    training = load_parameters(CONFIG_DIR, "production").training
    changes = {"threads": 1, "seed": seed, "candidates": training.voting}
    return training.model_copy(update=changes)


def figures(scored: Scored, counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average precision of the rows, and of each resampling of them."""
    precision = FIGURES["average precision"]
    return np.array([precision(scored), *(precision(scored.resampled(times)) for times in counts)])


if __name__ == "__main__":
    main()
