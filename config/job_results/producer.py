"""The results of the verbs of `fraud_producer`."""

from __future__ import annotations

from typing import Literal, TypedDict


class OptimumResult(TypedDict):
    """`optimum`: the best figures any model can reach on a population, at its fraud rate."""

    population: str  # its digest
    fraud_rate: float
    overlap: float
    recall: float
    fpr: float
    precision: float
    f1: float
    roc_auc: float
    average_precision: float
    threshold: float  # on the likelihood ratio
    bounds: dict[str, float]  # the gate's, which the operating point keeps where it can
    reachable: bool  # whether it can
    sample: int  # points the figures were computed from


class GenerateResult(TypedDict):
    """`generate`: one run of simulated transactions, and the labels that were due."""

    run_id: str
    topic: str
    event_time: str  # of the first transaction
    transactions: int
    frauds: int
    labels_sent: int
    drift: list[str]  # in which ways the population drifted
    optimum: OptimumResult


class DriftSwitchResult(TypedDict):
    """`drift`: what is switched on now; empty if nothing is."""

    status: Literal["done"]
    drift: list[str]


class SteadyResult(TypedDict):
    """`generate --every`: the totals of all runs until it was stopped."""

    runs: int
    failures: int
    transactions: int
    labels_sent: int


class LabelsResult(TypedDict):
    """`labels`: the labels that were due."""

    topic: str
    labels_sent: int


class ReplayResult(TypedDict):
    """`replay`: the transactions of a file."""

    topic: str
    transactions: int
    file_sha256: str
    columns_ignored: list[str]
    truth: Literal["in the record", "when due", "left out"]  # where the file's labels went


class _Backfilled(TypedDict):
    transactions: int  # new ones only; this applies to frauds and labels too
    frauds: int
    labels: int
    days_already_there: int
    days: int
    seconds: float
    optimum: OptimumResult


_From = TypedDict("_From", {"from": str})  # `from` is a Python keyword


class BackfillResult(_Backfilled, _From):
    """`backfill`: whole days of history, the first of which is `from`."""


class HistoryResult(BackfillResult):
    """`history`, if it was written: the result of `backfill`."""

    status: Literal["done"]
    written: Literal[True]


class HistoryNeedlessResult(TypedDict):
    """`history`, if none was needed."""

    status: Literal["done"]
    written: Literal[False]
    reason: str
