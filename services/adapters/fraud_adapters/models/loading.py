"""Checks and loads a model version: ONNX Runtime scores single transactions, XGBoost scores batches.

A model that is not made of boosted trees alone has no file for XGBoost; ONNX Runtime then scores batches too.
Both use one thread. Each engine computes the same bits for a row regardless of the other rows; between the
engines scores differ by about 1e-7, which is why every stored prediction names its engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
import xgboost
from numpy.typing import NDArray

from fraud_adapters.models.version_files import (
    ContractMismatch,
    ModelRefused,
    checked_file,
    checked_manifest,
    read_profile,
)
from fraud_core.contract import Contract
from fraud_core.explanation import (
    Contributions,
    explained_against_reference,
    explained_by_trees,
    reference_of,
    shapley_from,
    summed_by_feature,
)
from fraud_core.manifest import Manifest
from fraud_core.preparation import Preparer
from fraud_core.profile import Profile

ENGINE_BATCH: Final = f"xgboost-{xgboost.__version__}"
ENGINE_SINGLE: Final = f"onnx-{onnxruntime.__version__}"

Features = NDArray[np.float32]


class NotExplainable(LookupError):
    """A version gives no reasons for its scores; one sentence says why."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Calibrated probabilities of fraud, float64 [n], and the engine that computed them."""

    values: NDArray[np.float64]
    engine: str

    def __len__(self) -> int:
        return len(self.values)


class Model:
    """One model version in memory; safe to use from several threads at once."""

    engine_single = ENGINE_SINGLE

    def __init__(
        self,
        manifest: Manifest,
        booster: xgboost.Booster | None,
        session: onnxruntime.InferenceSession,
        profile: Profile | None = None,
    ) -> None:
        self.manifest = manifest
        self.profile = profile
        self.digest = manifest.digest()
        self._booster = booster
        self._session = session
        self._input = session.get_inputs()[0].name
        self._output = [session.get_outputs()[0].name]
        self._width = len(manifest.features)
        self._preparer: Preparer | None = None
        if manifest.preparation is not None:
            self._preparer = Preparer(manifest.preparation, manifest.features)
        self.engine_batch = ENGINE_SINGLE if booster is None else ENGINE_BATCH

    @classmethod
    def load(cls, directory: Path, expected_digest: str, contract: Contract) -> Model:
        """Read `manifest.json` and the files it names, check them, and load both engines.

        Args:
            directory: holds the manifest and the files.
            expected_digest: the digest recorded in `model_versions`, SHA-256 in hex.
            contract: the installation's; the model must have been trained for it.

        Raises:
            ModelRefused: a file is missing, altered, unreadable, or was made for another contract.
        """
        manifest = checked_manifest(directory, expected_digest)
        if problem := manifest.mismatch(contract):
            raise ContractMismatch(problem)
        contents = {
            engine: checked_file(directory / name, manifest.digests[name])
            for engine, name in manifest.engines.items()
        }
        profile = read_profile(directory, manifest)
        booster = _booster(contents["xgboost"], manifest.width) if "xgboost" in contents else None
        return cls(manifest, booster, session_of(contents["onnx"], manifest.width), profile)

    def score_single(self, features: Features) -> Scores:
        """Score one transaction by ONNX Runtime; `features` is float32 [1, k], NaN where missing.

        Raises:
            ValueError: any other shape or type.
        """
        self._check(features)
        if len(features) != 1:
            raise ValueError(f"score_single takes one row, not {len(features)}")
        return self._by_onnx(features)

    def score_few(self, features: Features) -> Scores:
        """Score transactions by ONNX Runtime, each to the same bits as alone; float32 [n, k], n at least 1.

        Raises:
            ValueError: any other shape or type.
        """
        self._check(features)
        return self._by_onnx(features)

    def score_batch(self, features: Features) -> Scores:
        """Score many transactions by XGBoost, or by ONNX Runtime where the version has no trees of XGBoost.

        `features` is float32 [n, k], NaN where missing, n may be 0.

        Raises:
            ValueError: any other shape or type.
        """
        self._check(features)
        if not len(features):
            return Scores(np.empty(0, dtype=np.float64), self.engine_batch)
        if self._booster is None:
            return self._by_onnx(features)
        inputs = self._prepared(features)
        margins = self._booster.inplace_predict(inputs, predict_type="margin", validate_features=False)
        return Scores(self.manifest.calibration.scores(margins), ENGINE_BATCH)

    def score_with(self, engine: str, features: Features) -> Scores:
        """Score float32 [n, k] again as a stored prediction's engine did, row by row where that was ONNX.

        Raises:
            ModelRefused: the engine, or its version, is not the one installed.
        """
        if engine == self.engine_batch == ENGINE_BATCH:
            return self.score_batch(features)
        if engine != ENGINE_SINGLE:
            engines = " and ".join(dict.fromkeys([ENGINE_SINGLE, self.engine_batch]))
            raise ModelRefused(f"The prediction was made by {engine}; this model is served by {engines}.")
        rows = [self.score_single(features[row : row + 1]).values for row in range(len(features))]
        return Scores(np.concatenate([np.empty(0), *rows]), ENGINE_SINGLE)

    def explain(self, features: Features) -> Contributions:
        """What each feature adds to the log-odds of one transaction's score; float32 [1, k], NaN where
        missing.

        Raises:
            ValueError: any other shape or type.
            NotExplainable: there is nothing by which this version can be explained; one sentence.
        """
        self._check(features)
        if len(features) != 1:
            raise ValueError(f"explain takes one row, not {len(features)}")
        if self._booster is not None:
            return self._by_tree_shap(self._booster, features)
        if self.profile is None:
            raise NotExplainable(
                f"This version is not of boosted trees alone ({self._kind}), and has no reference profile to"
                " compare a transaction with."
            )
        calibration = self.manifest.calibration
        base, values = shapley_from(self._onnx_margins, features[0], reference_of(self.profile))
        return Contributions(
            "reference_shapley",
            calibration.slope * base + calibration.intercept,
            calibration.slope * values,
            explained_against_reference(self.manifest),
        )

    @property
    def _kind(self) -> str:
        return self.manifest.candidate or "imported"

    def _by_tree_shap(self, booster: xgboost.Booster, features: Features) -> Contributions:
        matrix = xgboost.DMatrix(self._prepared(features), missing=np.nan, nthread=1)
        # The last column is the margin without any feature. Margins become log-odds by the calibration.
        found = booster.predict(matrix, pred_contribs=True, validate_features=False)[0].astype(np.float64)
        manifest = self.manifest
        values = found[:-1]
        if manifest.preparation is not None:
            columns = [column.feature for column in manifest.preparation.columns]
            values = summed_by_feature(columns, manifest.features, values)
        slope, intercept = manifest.calibration.slope, manifest.calibration.intercept
        return Contributions(
            "tree_shap", slope * float(found[-1]) + intercept, slope * values, explained_by_trees(manifest)
        )

    def _by_onnx(self, features: Features) -> Scores:
        return Scores(self.manifest.calibration.scores(self._onnx_margins(features)), ENGINE_SINGLE)

    def _onnx_margins(self, features: Features) -> NDArray[np.float32]:
        margins: NDArray[np.float32] = self._session.run(
            self._output, {self._input: self._prepared(features)}
        )[0]
        return margins[:, 0]

    def _prepared(self, features: Features) -> Features:
        return features if self._preparer is None else self._preparer.apply(features)

    def _check(self, features: Features) -> None:
        if features.dtype != np.float32 or features.ndim != 2 or features.shape[1] != self._width:
            raise ValueError(
                f"features are {features.dtype} {features.shape}, the model takes float32 [n, {self._width}]"
            )


def _booster(content: bytes, width: int) -> xgboost.Booster:
    booster = xgboost.Booster({"nthread": 1})
    try:
        booster.load_model(bytearray(content))
        booster.set_param({"nthread": 1})
        found = booster.num_features()
    except xgboost.core.XGBoostError:
        raise ModelRefused("The model's XGBoost file cannot be loaded by the installed XGBoost.") from None
    if found != width:
        raise ModelRefused(f"The model's XGBoost file takes {found} features, its manifest names {width}.")
    return booster


def session_of(content: bytes, width: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        raise ModelRefused(
            f"The model's ONNX file cannot be loaded by the installed runtime ({type(error).__name__})."
        ) from None
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or inputs[0].shape[1:] != [width]:
        raise ModelRefused(f"The model's ONNX file does not take one float32 input of {width} features.")
    if len(outputs) != 1 or outputs[0].type != "tensor(float)" or outputs[0].shape[1:] != [1]:
        raise ModelRefused("The model's ONNX file does not give one float32 margin a row.")
    return session
