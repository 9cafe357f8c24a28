"""The public ULB rows as the trainer sees them: features of the contract, weights, blocks of time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from config.parameters import read_yaml
from config.settings import CONFIG_DIR
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.features import feature_matrix
from fraud_trainer.train.fitting import Examples

CREDITCARD: Final = Contract.from_mapping(read_yaml(CONFIG_DIR / "contracts" / "creditcard.yaml"))
DEFAULT: Final = Path(__file__).parents[3] / "shared" / "data" / "ulb.parquet"
BLOCK_HOURS: Final = 6
# Of the rows before a block; the proportions of the trainer's own split, without its test part.
STOPPING_SHARE, CALIBRATION_SHARE = 0.06 / 0.78, 0.12 / 0.78


@dataclass(frozen=True, slots=True)
class Ulb:
    """Rows in order of time: features float32 [n, 30], labels, weights to the true prior, and raw columns."""

    features: NDArray[np.float32]
    labels: NDArray[np.int8]
    weights: NDArray[np.float32]
    seconds: NDArray[np.float64]
    amounts: NDArray[np.float64]
    even: NDArray[np.bool_]  # the frauds, and the legitimate rows that were drawn evenly over time

    @classmethod
    def read(cls, path: Path) -> Ulb:
        table = pq.read_table(path)
        columns = {name.lower(): table.column(name).to_numpy() for name in table.column_names}
        even = columns["uniform_time_sample"].astype(bool) | (columns["class"] == 1)
        rows = Batch([""] * len(even), [], columns)
        return cls(
            feature_matrix(CREDITCARD, rows),
            columns["class"].astype(np.int8),
            columns["weight"].astype(np.float32),
            columns["time"],
            columns["amount"],
            even,
        )

    def rows(self, start: float, stop: float) -> slice:
        """The rows from hour `start` to before hour `stop`."""
        bounds = np.searchsorted(self.seconds, [start * 3600, stop * 3600])
        return slice(int(bounds[0]), int(bounds[1]))

    def examples(self, part: slice) -> Examples:
        return Examples(self.features[part], self.labels[part], weights=self.weights[part])

    def take(self, rows: NDArray[np.bool_]) -> Ulb:
        return Ulb(
            self.features[rows],
            self.labels[rows],
            self.weights[rows],
            self.seconds[rows],
            self.amounts[rows],
            self.even[rows],
        )

    def parts(self, before: int) -> dict[str, Examples]:
        """The first `before` rows as the trainer would divide them."""
        stopping = int(before * (1 - STOPPING_SHARE - CALIBRATION_SHARE))
        calibration = int(before * (1 - CALIBRATION_SHARE))
        bounds = {
            "train": (0, stopping),
            "stopping": (stopping, calibration),
            "calibration": (calibration, before),
        }
        return {name: self.examples(slice(*bound)) for name, bound in bounds.items()}
