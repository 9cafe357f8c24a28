"""The section `drift` of `config.yaml`: over which windows drift is looked for, and what follows from it."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DriftInputs(_Section):
    """Data drift; see `fraud_core.drift.features`. The PSI that alerts is `thresholds.data_drift`."""

    min_rows: int = Field(default=500, ge=30)  # of a window; with fewer it is not judged
    high: float = Field(default=0.5, gt=0)  # PSI of any feature that triggers a retraining
    drifted_psi: float = Field(default=0.1, gt=0)  # a feature counts as drifted from this PSI,
    drifted_effect: float = Field(default=0.1, gt=0, lt=1)  # this KS distance or total variation,
    drifted_missing: float = Field(default=0.05, gt=0, lt=1)  # or this change of the share of missing values
    share: float = Field(default=0.3, gt=0, le=1)  # of features, from which a retraining is triggered
    significance: float = Field(default=0.001, gt=0, lt=0.5)  # after correction for the number of tests


class DriftTarget(_Section):
    """Target drift; see `fraud_core.drift.target`."""

    min_rows: int = Field(default=500, ge=30)
    change: float = Field(default=0.5, gt=0, lt=1)  # relative to the reference, with the whole interval
    labelled_share: float = Field(default=0.9, gt=0, le=1)  # of an hour, from which its fraud rate counts


class DriftConcept(_Section):
    """Concept drift; see `fraud_core.drift.concept`."""

    min_labels: int = Field(default=100, ge=30)  # below the line of a ratio: of recall, frauds
    frauds: int = Field(default=1000, ge=100)  # the newest labelled predictions with so many are judged
    within: timedelta = timedelta(days=60)  # older predictions are not looked at


class DriftRetraining(_Section):
    """What holds back a retraining that drift asks for; see `fraud_core.drift.response`."""

    cooldown: timedelta = timedelta(hours=24)
    labels_after_rejection: int = Field(default=1000, ge=0)


class Drift(_Section):
    """Drift monitoring."""

    last: timedelta = timedelta(hours=1)  # the short window
    long: timedelta = timedelta(days=1)  # the long one, in which slow drift adds up
    confidence: float = Field(default=0.999, gt=0.5, lt=1)  # of intervals that decide
    estimate_confidence: float = Field(default=0.95, gt=0.5, lt=1)  # of the estimates without labels
    report_rows: int = Field(default=5000, ge=100)  # a sample of the window in the report for people
    inputs: DriftInputs = DriftInputs()
    target: DriftTarget = DriftTarget()
    concept: DriftConcept = DriftConcept()
    retraining: DriftRetraining = DriftRetraining()

    @model_validator(mode="after")
    def _in_order(self) -> Drift:
        if not timedelta(0) < self.last < self.long:
            raise ValueError("last must be positive and shorter than long")
        return self
