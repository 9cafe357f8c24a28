"""What the checks of a release find over n stages, and the verdicts that follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_core.canary.tables import Floats

Bools = NDArray[np.bool_]
Codes = NDArray[np.int8]

INSUFFICIENT, PASSED, FAILED = 0, 1, 2
INCONCLUSIVE, PROMOTE, ROLL_BACK = 0, 1, 2

# A wrong share says that the arms cannot be compared, not that the model is bad.
INVALIDATING: Final = "sample_ratio"
# Metrics that cannot be read speak against no model either; nothing is promoted without them.
REQUEST_METRICS: Final = "request_metrics"
_NOT_AGAINST: Final = frozenset({INVALIDATING, REQUEST_METRICS})
COMPARED: Final = ("alert_rate", "score_distribution", "live_recall", "live_fpr")
# Recall and FPR may be shown on either kind of labels; neither kind may speak against the model.
EITHER: Final = (("recall", "live_recall"), ("fpr", "live_fpr"))


@dataclass(frozen=True, slots=True)
class Finding:
    """A check's figure with its interval and bound, and the outcome's code, each [n]."""

    value: Floats
    low: Floats
    high: Floats
    bound: float
    outcome: Codes


def outcomes(failed: Bools, passed: Bools) -> Codes:
    """The codes of checks, which are insufficient where they neither failed nor passed."""
    return np.where(failed, FAILED, np.where(passed, PASSED, INSUFFICIENT)).astype(np.int8)


def ratio(part: Floats, whole: Floats) -> Floats:
    """A part of a whole; NaN where there is no whole."""
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def voided(findings: Mapping[str, Finding]) -> dict[str, Finding]:
    """The findings, of which those that compare the arms say nothing where these did not get their shares."""
    invalid = findings[INVALIDATING].outcome == FAILED
    return {
        name: replace(one, outcome=np.where(invalid, INSUFFICIENT, one.outcome).astype(np.int8))
        if name in COMPARED
        else one
        for name, one in findings.items()
    }


def verdicts(findings: Mapping[str, Finding]) -> Codes:
    """The verdict's code of each stage, [n].

    Any failed check rolls back, except the sample ratio's and the one that metrics can be read, which leave
    the stage inconclusive. A model is
    promoted if every check has passed; labels of the stage's own traffic are not required, and may stand for
    the paired history's.
    """
    names = [name for name in findings if name not in _NOT_AGAINST]
    failed = np.any([findings[name].outcome == FAILED for name in names], axis=0)
    alternatives = {name for pair in EITHER for name in pair}
    needed = [findings[name].outcome == PASSED for name in findings if name not in alternatives]
    for pair in EITHER:
        known = [findings[name].outcome == PASSED for name in pair if name in findings]
        needed.append(np.any(known, axis=0))
    promoted = np.where(np.all(needed, axis=0), PROMOTE, INCONCLUSIVE)
    return np.where(failed, ROLL_BACK, promoted).astype(np.int8)
