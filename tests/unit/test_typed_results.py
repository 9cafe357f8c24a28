"""The check that other suites hold results against finds what differs."""

from __future__ import annotations

from typing import Any

import pytest

from config.job_results.producer import BackfillResult, LabelsResult
from config.job_results.streaming import TopicsResult
from tests.support.typed_results import mismatches

PARTITION = {"partition": 0, "earliest": 0, "end": 3}
TOPIC = {"topic": "t", "exists": True, "consumed": False}


@pytest.mark.parametrize(
    ("kind", "document", "expected"),
    [
        (LabelsResult, {"topic": "t", "labels_sent": 3}, []),
        (LabelsResult, {"topic": "t"}, ["result lacks labels_sent"]),
        (
            LabelsResult,
            {"topic": "t", "labels_sent": True},
            ["result.labels_sent is True, not <class 'int'>"],
        ),
        (
            LabelsResult,
            {"topic": "t", "labels_sent": 1, "x": 1},
            ["result has x, which LabelsResult has not"],
        ),
        (TopicsResult, {"topics": [TOPIC], "alerts_waiting": 0}, []),
        (TopicsResult, {"topics": [TOPIC | {"partitions": [PARTITION]}], "alerts_waiting": 0}, []),
        (TopicsResult, {"topics": [TOPIC | {"lag": None}], "alerts_waiting": 0}, []),
        (
            TopicsResult,
            {"topics": [TOPIC | {"partitions": [PARTITION | {"end": "3"}]}], "alerts_waiting": 0},
            ["result.topics[0].partitions[0].end is '3', not <class 'int'>"],
        ),
        (BackfillResult, None, ["result is None, not a BackfillResult"]),
    ],
)
def test_what_differs_from_its_type_is_named(kind: Any, document: Any, expected: list[str]) -> None:
    assert list(mismatches(kind, document)) == expected


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, []),
        ({"topics": [{}]}, []),
        (
            {"topics": [{"consumed": 1}]},
            ["result.topics[0].consumed is 1, not <class 'bool'>"],
        ),
        ({"lag": 1}, ["result has lag, which TopicsResult has not"]),
    ],
)
def test_a_shortened_document_may_lack_fields(document: Any, expected: list[str]) -> None:
    assert list(mismatches(TopicsResult, document, shortened=True)) == expected
