"""How long a version takes beside the champion, in the same process and in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from config.job_results.rollout import FindingResult
from config.rollout import LatencyRules
from fraud_adapters.models.loading import Model
from fraud_rollout.validation.findings import bounded, failed, passed
from fraud_rollout.validation.versions import Features

_WARM_UP: Final = 10


@dataclass(frozen=True, slots=True)
class CallTimes:
    """Milliseconds of calls: the median, and the 99th percentile."""

    p50: float
    p99: float

    @classmethod
    def of(cls, milliseconds: NDArray[np.float64]) -> CallTimes:
        p50, p99 = np.percentile(milliseconds, [50, 99])
        return cls(float(p50), float(p99))

    def __str__(self) -> str:
        return f"median {self.p50:.2f} ms, p99 {self.p99:.2f} ms"


def check_latency(
    model: Model, champion: Model | None, rows: Features, rules: LatencyRules, bound_ms: float
) -> Iterator[FindingResult]:
    """Time single rows and batches; `rows` are float32 [n, k], repeated where a batch needs more."""
    batch = np.ascontiguousarray(np.resize(rows, (rules.batch_rows, rows.shape[1])))
    single = np.ascontiguousarray(rows[:1])
    kinds = (
        ("latency_single", "One transaction", rules.singles, lambda one: one.score_single(single)),
        (
            "latency_batch",
            f"A batch of {rules.batch_rows}",
            rules.batches,
            lambda one: one.score_batch(batch),
        ),
    )
    for name, what, calls, score in kinds:
        own, other = _in_turns(model, champion, score, calls)
        beside = f", the champion {other}" if other else ""
        sentence = f"{what} takes {own}{beside}."
        finding = bounded(name, sentence, own.p99, bound_ms)
        if finding["outcome"] == "failed":
            finding["sentence"] += f" The p99 may be {bound_ms:g} ms."
        yield finding
        if other:
            yield _ratio(f"{name}_ratio", what, own, other, rules)


def _ratio(name: str, what: str, own: CallTimes, other: CallTimes, rules: LatencyRules) -> FindingResult:
    ratio = own.p50 / max(other.p50, 1e-6)
    sentence = f"{what} takes {ratio:.1f} times as long as with the champion ({rules.ratio:g} is allowed)."
    outcome = failed if ratio > rules.ratio and own.p50 >= rules.ratio_from_ms else passed
    return outcome(name, sentence, value=ratio, bound=rules.ratio)


def _in_turns(
    model: Model, champion: Model | None, score: Callable[[Model], object], calls: int
) -> tuple[CallTimes, CallTimes | None]:
    """Both take turns, so that whatever else the machine does slows both alike."""
    own, other = np.empty(calls), np.empty(calls)
    for call in range(-_WARM_UP, calls):
        for one, times in ((model, own), (champion, other)):
            if one is None:
                continue
            started = perf_counter()
            score(one)
            # The calls before the first one are overwritten by the last ones.
            times[call] = (perf_counter() - started) * 1000
    return CallTimes.of(own), CallTimes.of(other) if champion is not None else None
