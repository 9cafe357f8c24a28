"""The step `validate`: judges the model as it will be served, on the held-out part, against the gate."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from config.constants import MODEL_CARD
from config.job_results.trainer import ValidateResult
from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.job.scratch import scratch_directory
from fraud_adapters.models.loading import Model
from fraud_adapters.objectstore.run_store import Step
from fraud_core import manifest as manifests
from fraud_core import profile as profiles
from fraud_core.gate import evaluate
from fraud_core.manifest import Calibration, Manifest
from fraud_core.moments import parse_moment
from fraud_core.profile import Profile, make_profile
from fraud_trainer.engines.feature_table import FeatureTable
from fraud_trainer.evaluate import explaining
from fraud_trainer.evaluate.champion import Comparison, compare_with_champion
from fraud_trainer.evaluate.explaining import Importance
from fraud_trainer.evaluate.figures import Figures, Scored, figures
from fraud_trainer.evaluate.judgement import Judgement
from fraud_trainer.evaluate.report import read_trees, report
from fraud_trainer.run_context import RunContext
from fraud_trainer.tracking import resume_run
from fraud_trainer.train.fitting import Examples

MAX_ENGINE_DIFFERENCE: Final = 1e-5


def judge(context: RunContext, trained: Step) -> Judgement:
    """Score the held-out part with both engines, compute the metrics and evaluate the gate; writes nothing.

    Raises:
        LastingFailure: the engines disagree by more than `MAX_ENGINE_DIFFERENCE`.
        RegistryUnavailable: MLflow does not answer, which holds the champion.
    """
    rows = {name: slice(part["from"], part["to"]) for name, part in trained["split"].items()}
    table = FeatureTable.of(context, context.run.step("features"))
    learnt, held_out = table.rows(rows["train"]), table.rows(rows["test"])
    unmeasured = _manifest(context, trained, {})
    with model_directory(context, unmeasured) as directory:
        model = Model.load(directory, unmeasured.digest(), context.contract)
        scores, difference = _scores(model, held_out.features)
        importance = _importance(context, trained, model, held_out)
    if difference > MAX_ENGINE_DIFFERENCE:
        raise LastingFailure(
            f"The ONNX model differs from XGBoost's by {difference:.2g} on the held-out part, "
            f"more than {MAX_ENGINE_DIFFERENCE:g}: it is not registered."
        )
    scored = Scored(scores, float(trained["threshold"]))
    metrics = figures(held_out, scored, context.policy, context.training)
    metrics["engines_max_difference"] = difference
    comparison = compare_with_champion(context, held_out, scored, context.policy)
    outcome = evaluate(
        context.gate,
        context.policy,
        metrics | comparison.figures(),
        frauds=int(held_out.labels.sum()),
        no_champion=comparison.reason if comparison.waived else None,
    )
    profile = make_profile(
        context.contract.schema_id,
        context.contract.feature_names,
        learnt.features,
        learnt.labels,
        held_out_labels=held_out.labels,
        held_out_scores=scores,
        threshold=scored.threshold,
        importance=importance.shares,
    )
    manifest = _manifest(context, trained, metrics, profile)
    return Judgement(
        held_out=held_out,
        moments=table.moments[rows["test"]],
        scores=scores,
        metrics=metrics,
        comparison=comparison,
        profile=profile,
        manifest=manifest,
        gate=outcome,
        importance=importance,
    )


def validate(context: RunContext) -> ValidateResult:
    """Judge the trained model, and write the manifest, the reference profile and the verdict.

    Raises:
        LastingFailure: the engines disagree, or the MLflow run belongs to another training.
    """
    trained = context.run.step("train")
    run_id = resume_run(context, trained)
    judgement = judge(context, trained)
    context.run.put(profiles.FILE_NAME, judgement.profile.to_json())
    result: ValidateResult = {
        "digest": context.run.put(manifests.FILE_NAME, judgement.manifest.to_json()),
        "metrics": judgement.metrics,
        "comparison": judgement.comparison.to_mapping(),
        "gate": judgement.gate.to_mapping(),
        "passed": judgement.gate.passed,
        "sentence": judgement.gate.sentence(),
    }
    report(context, run_id, trained, judgement)
    _track(context, run_id, result, judgement.comparison)
    context.run.finish(context.run.seal("validate", result, trained))
    return result


@contextmanager
def model_directory(context: RunContext, manifest: Manifest) -> Iterator[Path]:
    """A temporary directory with the model version's files and the manifest."""
    with scratch_directory() as directory:
        for file, digest in manifest.digests.items():
            (directory / file).write_bytes(context.run.get(file, digest))
        (directory / manifests.FILE_NAME).write_bytes(manifest.to_json())
        yield directory


def _manifest(
    context: RunContext, trained: Step, measured: Figures, profile: Profile | None = None
) -> Manifest:
    loaded = context.run.step("load")
    digests = dict(trained["digests"])
    if profile:
        digests[profiles.FILE_NAME] = hashlib.sha256(profile.to_json()).hexdigest()
    return Manifest(
        contract=context.contract.name,
        contract_version=context.contract.version,
        features=context.contract.feature_names,
        threshold=trained["threshold"],
        block_threshold=trained["block_threshold"],
        threshold_rule=trained["threshold_rule"],
        calibration=Calibration.model_validate(trained["calibration"]),
        metrics=measured,
        data_from=parse_moment(loaded["data_from"]),
        data_to=parse_moment(loaded["data_to"]),
        created_at=parse_moment(trained["created_at"]),
        code_version=trained["code_version"],
        engines=trained["engines"],
        digests=digests,
        candidate=trained["candidate"],
        members=trained["members"],
        preparation=trained["preparation"],
        profile=profiles.FILE_NAME if profile else None,
    )


def _importance(context: RunContext, trained: Step, model: Model, held_out: Examples) -> Importance:
    """By the trees where the model is made of trees on the contract's features, else by shuffling."""
    trees = read_trees(context, trained, model.manifest, held_out)
    if trees is not None:
        return explaining.gain(trees)
    return explaining.permutation(
        lambda rows: model.score_batch(rows).values,
        held_out.features,
        held_out.labels,
        context.training.seed,
    )


def _scores(model: Model, features: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
    """The scores of batches [n], and the largest absolute difference to those of single transactions."""
    scores = model.score_batch(features).values
    single = model.score_with(model.engine_single, features).values
    return scores, float(np.max(np.abs(scores - single)))


def _track(context: RunContext, run_id: str, result: ValidateResult, comparison: Comparison) -> None:
    loaded = context.run.step("load")
    optimum = loaded["optimum"] or {}
    context.tracking().log(
        run_id,
        metrics={
            **result["metrics"],
            **comparison.figures(),
            **{f"optimum_{name}": value for name, value in optimum.items()},
        },
        tags={
            "gate": context.gate,
            "gate_passed": str(result["passed"]).lower(),
            "gate_sentence": result["sentence"],
            "comparison": comparison.sentence(),
            "manifest_digest": result["digest"],
            "model_card": MODEL_CARD,
            **({"optimum_population": loaded["population"]} if optimum else {}),
        },
    )
