"""The champion, scored on the rows that judge a new model."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from config.constants import ALIAS_CHAMPION
from fraud_adapters.job.scratch import scratch_directory
from fraud_adapters.models.loading import Model
from fraud_adapters.models.registry import ArtefactRefused
from fraud_adapters.models.version_files import ModelRefused
from fraud_adapters.postgres import interruptible, model_versions
from fraud_core import manifest as manifests
from fraud_core.gate import GatePolicy
from fraud_core.manifest import Manifest
from fraud_trainer.evaluate.figures import Difference, Figures, Scored, comparison_mapping, differences
from fraud_trainer.run_context import RunContext
from fraud_trainer.train.fitting import Examples

NO_CHAMPION: Final = "there is no champion to compare with"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A new model against the champion on the same rows, or the reason why they were not compared.

    Attributes:
        version: the champion's; None if there is none.
        reason: why there is no comparison; None if there is one.
        waived: whether the lack of a comparison is not held against the new model, because there is no
            champion, or it is of another contract and cannot serve either.
        differences: by figure, the new model's minus the champion's; empty without a comparison.
    """

    version: str | None
    reason: str | None
    waived: bool
    rows: int
    frauds: int
    differences: dict[str, Difference]

    def figures(self) -> Figures:
        """What a gate may bound, and MLflow shows: the difference and its interval, by figure."""
        result: Figures = {}
        for name, one in self.differences.items():
            result[f"{name}_over_champion"] = one.difference
            result[f"{name}_over_champion_low"], result[f"{name}_over_champion_high"] = one.low, one.high
        return result

    def to_mapping(self) -> dict[str, Any]:
        return {
            "champion": self.version,
            "reason": self.reason,
            "rows": self.rows,
            "frauds": self.frauds,
            "differences": comparison_mapping(self.differences),
        }

    def sentence(self) -> str:
        if self.reason is not None:
            return f"Not compared: {self.reason}."
        one = self.differences["average_precision"]
        return (
            f"Against version {self.version} on the same {self.rows} transactions: average precision "
            f"{one.model:.4f} instead of {one.champion:.4f}, {one.difference:+.4f} "
            f"({one.low:+.4f} to {one.high:+.4f})."
        )


def compare_with_champion(
    context: RunContext, held_out: Examples, model: Scored, policy: GatePolicy
) -> Comparison:
    """Download the champion, score the held-out part with it, and compare.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    name = context.contract.registered_model
    version = context.registry.version_of_alias(name, ALIAS_CHAMPION)
    if version is None:
        return _not_compared(held_out, None, NO_CHAMPION, waived=True)
    try:
        champion = _champion(context, name, version)
    except (ModelRefused, ArtefactRefused) as refused:
        reason = f"the champion, version {version}, cannot be loaded: {str(refused).rstrip('.')}"
        return _not_compared(held_out, version, reason, waived=False)
    if isinstance(champion, str):
        reason = f"the champion, version {version}, cannot serve this installation: {champion.rstrip('.')}"
        return _not_compared(held_out, version, reason, waived=True)
    other = Scored(_scores(champion, held_out), champion.manifest.threshold)
    compared = differences(held_out, model, other, policy, context.training)
    return Comparison(version, None, False, len(held_out.labels), int(held_out.labels.sum()), compared)


def _champion(context: RunContext, name: str, version: str) -> Model | str:
    """The champion, or why it is of another contract.

    Raises:
        ModelRefused: it is not recorded, or its files are not those that were recorded.
    """
    with closing(context.database()) as connection, connection, connection.cursor() as cursor:
        record = interruptible(connection, lambda: model_versions.read_version(cursor, name, version))
    if record is None:
        raise ModelRefused("It is not recorded in model_versions.")
    digest = record.digest.strip()
    with scratch_directory() as directory:
        fetched = context.registry.download(name, version, directory)
        manifest = Manifest.from_json((fetched / manifests.FILE_NAME).read_bytes())
        if manifest.digest() == digest and (mismatch := manifest.mismatch(context.contract)):
            return mismatch
        return Model.load(fetched, digest, context.contract)


def _scores(champion: Model, held_out: Examples) -> NDArray[np.float64]:
    return champion.score_batch(held_out.features).values


def _not_compared(held_out: Examples, version: str | None, reason: str, *, waived: bool) -> Comparison:
    return Comparison(version, reason, waived, len(held_out.labels), int(held_out.labels.sum()), {})
