"""The checks on what clients see of a release over HTTP, from the metrics of its replica."""

from __future__ import annotations

from typing import Final

import numpy as np

from fraud_core.canary.evidence import RequestCounts, Requests
from fraud_core.canary.findings import REQUEST_METRICS, Finding, outcomes
from fraud_core.canary.rules import JudgementRules
from fraud_core.canary.tables import Floats
from fraud_core.canary.traffic_checks import share_of_calls

ERRORS: Final = "request_errors"
LATENCY: Final = "request_latency"


def request_findings(requests: Requests, rules: JudgementRules) -> dict[str, Finding]:
    """The checks of one stage, as arrays of length 1.

    Missing metrics are a failed check: nothing is promoted without them, but they are not held against the
    model.
    """
    canary = requests.canary or RequestCounts()
    known = requests.canary is not None and requests.control is not None
    calls = _column(canary.requests)
    return {
        REQUEST_METRICS: Finding(
            calls,
            calls,
            calls,
            rules.min_calls,
            outcomes(np.array([not known]), np.array([known and canary.requests >= rules.min_calls])),
        ),
        ERRORS: share_of_calls(_column(canary.failed), calls, rules.max_error_rate, rules),
        LATENCY: share_of_calls(_column(canary.slow), calls, rules.max_slow_share, rules),
    }


def _column(value: int) -> Floats:
    return np.array([value], dtype=np.float64)
