"""The rules of the core, from the configuration in force."""

from __future__ import annotations

from config.parameters import Parameters
from fraud_core.contract import Contract
from fraud_core.drift.concept import ConceptRule
from fraud_core.drift.features import DataRule
from fraud_core.drift.response import ResponseRule
from fraud_core.drift.target import RateRule


def data_rule(parameters: Parameters) -> DataRule:
    inputs = parameters.drift.inputs
    return DataRule(
        min_rows=inputs.min_rows,
        medium=parameters.thresholds.data_drift,
        high=inputs.high,
        drifted_psi=inputs.drifted_psi,
        drifted_effect=inputs.drifted_effect,
        drifted_missing=inputs.drifted_missing,
        share=inputs.share,
        significance=inputs.significance,
    )


def rate_rule(parameters: Parameters) -> RateRule:
    target = parameters.drift.target
    return RateRule(target.min_rows, target.change, parameters.drift.confidence)


def concept_rule(parameters: Parameters) -> ConceptRule:
    concept = parameters.drift.concept
    return ConceptRule(concept.min_labels, parameters.thresholds.concept_drift, parameters.drift.confidence)


def response_rule(parameters: Parameters) -> ResponseRule:
    retraining = parameters.drift.retraining
    return ResponseRule(retraining.cooldown, retraining.labels_after_rejection)


def clock_features(contract: Contract) -> list[str]:
    """Features that follow the clock, such as the time of day: a window of some hours must differ in them."""
    clock = contract.with_role("clock")
    return [
        feature.name
        for feature in contract.features
        if clock is not None and feature.op == "modulo" and feature.of == clock.name
    ]
