"""The overview's verdict: the most serious of what is known, and never safe without knowing."""

from typing import Any

import pytest

from fraud_embedded.overview.verdict import BACKLOG, STALE_SECONDS, verdict

UP = dict.fromkeys(("postgres", "broker", "api", "mlflow", "object store", "airflow"), True)
CRITICAL = {"severity": "critical", "title": "The model is not fit for service"}
MEDIUM = {"severity": "medium", "title": "Drift of amount"}
FAILED = {"check": "freshness", "status": "failed"}


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({}, "safe", "Every transaction is decided; 3 wait."),
        ({"parts": UP | {"api": False}}, "danger", "api does not answer"),
        ({"parts": {}}, "danger", "postgres, broker, api"),
        ({"seconds_since_decision": None}, "unknown", "no transaction was decided yet"),
        ({"lag": None}, "unknown", "the lag is unknown"),
        ({"seconds_since_decision": STALE_SECONDS + 1}, "danger", "3 transactions wait"),
        ({"seconds_since_decision": STALE_SECONDS + 1, "lag": 0}, "safe", "0 wait"),
        ({"lag": BACKLOG + 1}, "attention", "1,001 transactions wait"),
        ({"alerts": [MEDIUM, CRITICAL]}, "danger", CRITICAL["title"]),
        ({"alerts": [MEDIUM]}, "attention", MEDIUM["title"]),
        ({"quality": [FAILED]}, "attention", "freshness"),
        ({"quality": [FAILED | {"status": "warned"}]}, "safe", "decided"),
        ({"parts": UP | {"mlflow": False}}, "attention", "mlflow does not answer"),
    ],
)
def test_the_most_serious_fact_decides(changes: dict[str, Any], level: str, words: str) -> None:
    calm: dict[str, Any] = {"parts": UP, "seconds_since_decision": 2.0, "lag": 3, "alerts": [], "quality": []}
    outcome = verdict(**(calm | changes))
    assert (outcome.level, words in outcome.sentence) == (level, True), outcome.sentence
