"""The JSON that the guides show has the members and types of what the programs answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import pytest

from config.job_results.api import RotateKeysResult, SeedClientsResult
from config.job_results.audit import UserResult
from config.job_results.audit_heads import VerifyAuditLogResult
from config.job_results.feedback import CollectResult, MetricsResult, PendingResult
from config.job_results.monitor import ReplayCheckResult
from config.job_results.producer import ReplayResult
from config.job_results.streaming import DeadLettersResult, RedriveResult, RunResult
from config.job_results.trainer import CleanResult, DecisionResult, TrainingResult
from tests.support.api_application import Application
from tests.support.typed_results import mismatches

DOCS: Final = Path(__file__).parents[2] / "docs"
_FENCED: Final = re.compile(r"^```json\n(.*?)^```$", re.DOTALL | re.MULTILINE)

# Guide and position of the example in it → the type of a job's result.
RESULTS: Final[Mapping[tuple[str, int], Any]] = {
    ("TOKEN_MANAGEMENT.md", 0): SeedClientsResult,
    ("TOKEN_MANAGEMENT.md", 4): RotateKeysResult,
    ("alerts.md", 1): RunResult,
    ("database.md", 0): VerifyAuditLogResult,
    ("audit-app.md", 0): UserResult,
    ("dead-letters.md", 0): DeadLettersResult,
    ("dead-letters.md", 1): RedriveResult,
    ("feedback.md", 0): PendingResult,
    ("feedback.md", 1): CollectResult,
    ("feedback.md", 2): MetricsResult,
    ("hindsight.md", 0): ReplayCheckResult,
    ("labels.md", 0): RunResult,
    ("models.md", 0): TrainingResult,
    ("models.md", 1): CleanResult,
    ("streaming.md", 0): RunResult,
    ("streaming.md", 1): ReplayResult,
    ("training.md", 0): DecisionResult,
}
# Likewise → path, method and status of an answer of the API.
ANSWERS: Final[Mapping[tuple[str, int], tuple[str, str, str]]] = {
    ("TOKEN_MANAGEMENT.md", 1): ("/auth/token", "post", "200"),
    ("TOKEN_MANAGEMENT.md", 3): ("/.well-known/jwks.json", "get", "200"),
    ("api_spec.md", 0): ("/predict", "post", "200"),
    ("api_spec.md", 1): ("/predict", "post", "409"),
    ("api_spec.md", 2): ("/predictions", "get", "200"),
    ("api_spec.md", 3): ("/predictions/stats", "get", "200"),
    ("api_spec.md", 4): ("/predictions/{transaction_id}/label", "put", "200"),
    ("api_spec.md", 5): ("/predictions/{transaction_id}/explanation", "get", "200"),
    ("api_spec.md", 6): ("/predictions/{transaction_id}/replay", "post", "200"),
    ("api_spec.md", 7): ("/audit-log", "get", "200"),
    ("api_spec.md", 8): ("/models", "get", "200"),
    ("api_spec.md", 9): ("/deployments", "post", "201"),
    ("api_spec.md", 10): ("/deployments/{deployment_id}/traffic", "post", "200"),
    ("api_spec.md", 11): ("/deployments/{deployment_id}/evaluate", "post", "200"),
    ("api_spec.md", 12): ("/deployments/{deployment_id}/evaluate", "post", "200"),
    ("api_spec.md", 13): ("/deployments/{deployment_id}/promote", "post", "200"),
    ("api_spec.md", 15): ("/health/ready", "get", "200"),
    ("api_spec.md", 16): ("/predict", "post", "422"),
    ("training.md", 1): ("/train", "post", "202"),
}
# Neither: a token's parts, a record of a topic, lines of a log, a follower's health, a release with its lists
# left out.
OTHERS: Final = {
    ("api_spec.md", 14),
    ("TOKEN_MANAGEMENT.md", 2),
    ("alerts.md", 0),
    ("batch.md", 0),
    ("candidates.md", 0),
    ("follower.md", 0),
}


def examples() -> dict[tuple[str, int], str]:
    return {
        (guide.name, position): text
        for guide in sorted(DOCS.glob("*.md"))
        for position, text in enumerate(_FENCED.findall(guide.read_text(encoding="utf-8")))
    }


def shown(text: str) -> Any:
    """A document as a guide shows it, where … stands for members that were left out."""
    whole = re.sub(r"(,|(?<=\{))\s*…(?=\s*\})", "", text)
    # A guide may break a line within a long text.
    return json.loads(whole, strict=False)


def shortened(schema: Any) -> Any:
    """A schema that asks for no member and allows no other ones."""
    if isinstance(schema, list):
        return [shortened(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    rest = {name: shortened(one) for name, one in schema.items() if name != "required"}
    if isinstance(schema.get("properties"), dict):
        rest.setdefault("additionalProperties", False)
    return rest


@pytest.fixture(scope="module")
def openapi(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return Application.create(tmp_path_factory.mktemp("models")).app.openapi()


def test_every_example_has_a_type() -> None:
    assert examples().keys() == RESULTS.keys() | ANSWERS.keys() | OTHERS


@pytest.mark.parametrize("example", RESULTS, ids=str)
def test_a_result_is_shown_as_its_type_has_it(example: tuple[str, int]) -> None:
    document = shown(examples()[example])
    assert list(mismatches(RESULTS[example], document, shortened=True)) == []


@pytest.mark.parametrize("example", ANSWERS, ids=str)
def test_an_answer_is_shown_as_the_api_describes_it(
    example: tuple[str, int], openapi: dict[str, Any]
) -> None:
    path, method, status = ANSWERS[example]
    [content] = openapi["paths"][path][method]["responses"][status]["content"].values()
    schema = {**content["schema"], "components": openapi["components"]}
    jsonschema_rs.validate(shortened(schema), shown(examples()[example]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"models": [{"name": 1}]},
        {"models": [], "candidates": []},
        {"versions": [{"version": "1", "gate": {"passed": "yes"}}]},
        {"versions": [{"pages": {"card": "/"}}]},
    ],
)
def test_an_example_that_differs_is_refused(wrong: dict[str, Any], openapi: dict[str, Any]) -> None:
    content = openapi["paths"]["/models"]["get"]["responses"]["200"]["content"]["application/json"]
    schema = shortened({**content["schema"], "components": openapi["components"]})
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(schema, wrong)
