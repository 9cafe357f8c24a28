"""The manifest of a model version: contract, preparation, thresholds, calibration, metrics, digests."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Final, Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fraud_core.contract import Contract
from fraud_core.preparation import Preparation

FILE_NAME = "manifest.json"
# Fields that came later: they are left out of the JSON where they are empty, so that manifests that were
# written before keep their digest.
_OPTIONAL: Final = ("candidate", "members", "preparation", "profile")


class Calibration(BaseModel):
    """Platt's sigmoid over the model's margin (Platt 1999): 1 / (1 + exp(-(slope * margin + intercept)))."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["sigmoid"] = "sigmoid"
    slope: float = Field(gt=0)
    intercept: float

    def scores(self, margins: NDArray[np.float32]) -> NDArray[np.float64]:
        """Calibrated probabilities of fraud, shape [n] → [n], computed in float64."""
        logits = self.slope * margins.astype(np.float64) + self.intercept
        with np.errstate(over="ignore"):
            return np.asarray(1.0 / (1.0 + np.exp(-logits)), dtype=np.float64)


class Member(BaseModel):
    """A model within a vote: its margin enters as weight × (slope × margin + intercept)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    weight: float = Field(ge=0)
    slope: float = Field(gt=0)
    intercept: float


class Manifest(BaseModel):
    """The content of `manifest.json`, written beside the model's files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    contract: str
    contract_version: int
    features: tuple[str, ...]
    threshold: float = Field(ge=0, le=1)
    block_threshold: float = Field(ge=0)
    threshold_rule: str
    calibration: Calibration
    metrics: dict[str, float | None]
    data_from: datetime
    data_to: datetime
    created_at: datetime
    code_version: str
    engines: dict[Literal["xgboost", "onnx"], str]
    digests: dict[str, str]
    profile: str | None = None  # the file of the reference profile; see `fraud_core.profile`
    candidate: str | None = None  # the kind of model that was chosen
    members: tuple[Member, ...] = ()
    preparation: Preparation | None = None  # None: the engines take the features as they are

    @model_validator(mode="after")
    def _coherent(self) -> Manifest:
        if self.block_threshold < self.threshold:
            raise ValueError("block_threshold lies below threshold")
        # Only boosted trees have a file for XGBoost; ONNX Runtime serves every kind of model.
        files = {*self.engines.values(), *([self.profile] if self.profile else [])}
        if "onnx" not in self.engines or files != set(self.digests):
            raise ValueError("ONNX scores every model, every engine needs a file and every file a digest")
        if any("/" in name or name.startswith(".") for name in self.digests):
            raise ValueError("the files of a model must be in the same folder as its manifest")
        return self

    @property
    def schema_id(self) -> str:
        return f"{self.contract}/{self.contract_version}"

    def to_json(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces; the same manifest gives the same bytes."""
        values = self.model_dump(mode="json", exclude={"preparation"})
        if self.preparation is not None:
            values["preparation"] = self.preparation.model_dump(mode="json", exclude_none=True)
        content = {name: value for name, value in values.items() if name not in _OPTIONAL or value}
        return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def from_json(cls, content: bytes) -> Manifest:
        """Read a manifest.

        Raises:
            ValueError: it is not JSON, or not a valid manifest.
        """
        return cls.model_validate_json(content, strict=False)

    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hex; covers the files, because the JSON holds their digests."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def mismatch(self, contract: Contract) -> str | None:
        """Why the model does not match the contract, in one sentence, or None if it does."""
        if self.schema_id != contract.schema_id:
            return (
                f"The model was trained for {self.schema_id}, "
                f"the installation's contract is {contract.schema_id}."
            )
        if self.features != contract.feature_names:
            return "The model was trained on other features than the contract has."
        if self.preparation is not None and (name := self.preparation.unknown_feature(self.features)):
            return f"The model's preparation needs {name}, which is not among its features."
        return None

    @property
    def width(self) -> int:
        """How many columns the engines take."""
        return len(self.features if self.preparation is None else self.preparation.columns)
