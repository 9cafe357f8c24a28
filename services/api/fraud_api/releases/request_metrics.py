"""Reads what each arm of a release over HTTP answered: from Prometheus, or from the replicas' own metrics."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Final, Protocol

import orjson
import urllib3
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from fraud_adapters.job.logs import get_logger
from fraud_api.metrics import BUCKETS, SCORING_ROUTES
from fraud_core.canary.evidence import RequestCounts, Requests

CONTROL_JOB: Final = "api"  # the jobs of Prometheus' configuration
CANARY_JOB: Final = "api-canary"
REQUESTS: Final = "fraud_api_requests"
SECONDS: Final = "fraud_api_request_seconds"
TIMEOUT: Final = urllib3.Timeout(connect=1.0, read=2.0)
_FAILED_FROM: Final = 500
NOTHING_KNOWN: Final = Requests()


class RequestMetrics(Protocol):
    """What both arms answered so far; blocks for seconds at most, and never raises."""

    def totals(self) -> Requests:
        """Counts to subtract from later ones, kept with the beginning of a stage."""
        ...

    def since(self, before: Requests, seconds: float) -> Requests:
        """What was answered since the stage began, `seconds` ago."""
        ...


class NoMetrics:
    """Where neither is configured."""

    def totals(self) -> Requests:
        return NOTHING_KNOWN

    def since(self, before: Requests, seconds: float) -> Requests:
        return NOTHING_KNOWN


class ReplicaMetrics:
    """From this replica's own registry, and the other one's port. For one main replica: it knows no others.

    Args:
        bound: the histogram's bucket; a request that takes longer is slow.
    """

    def __init__(self, own: CollectorRegistry, canary_url: str, bound: float) -> None:
        self._own = own
        self._url = f"{canary_url.rstrip('/')}/metrics"
        self._bound = bound
        self._pool = urllib3.PoolManager(retries=False, timeout=TIMEOUT)

    def totals(self) -> Requests:
        return Requests(control=count(self._own.collect(), self._bound), canary=self._other())

    def since(self, before: Requests, seconds: float) -> Requests:
        return self.totals().since(before)

    def _other(self) -> RequestCounts | None:
        try:
            answer = self._pool.request("GET", self._url)
            if answer.status != 200:
                raise ValueError(f"status {answer.status}")
            return count(text_string_to_metric_families(answer.data.decode()), self._bound)
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            _warn(self._url, error)
            return None


class PrometheusMetrics:
    """From Prometheus, which knows every replica."""

    def __init__(self, url: str, bound: float) -> None:
        self._url = f"{url.rstrip('/')}/api/v1/query"
        self._bound = bound
        self._pool = urllib3.PoolManager(retries=False, timeout=TIMEOUT)

    def totals(self) -> Requests:
        """Nothing needs to be subtracted: what is asked for later has its beginning."""
        return NOTHING_KNOWN

    def since(self, before: Requests, seconds: float) -> Requests:
        window = max(1, round(seconds))
        return Requests(*(self._counts(job, window) for job in (CONTROL_JOB, CANARY_JOB)))

    def _counts(self, job: str, window: int) -> RequestCounts | None:
        labels = f'job="{job}",route=~"{"|".join(SCORING_ROUTES)}"'
        try:
            answered = self._value(f"{REQUESTS}_total", labels, window)
            if answered is None:
                return None
            failed = self._value(f"{REQUESTS}_total", f'{labels},status=~"5.."', window) or 0
            every = self._value(f"{SECONDS}_count", labels, window) or 0
            fast = self._value(f"{SECONDS}_bucket", f'{labels},le="{_label(self._bound)}"', window) or 0
        except (urllib3.exceptions.HTTPError, ValueError, LookupError, TypeError) as error:
            _warn(self._url, error)
            return None
        # Prometheus extrapolates to the window's ends, so that parts may exceed their whole by a fraction.
        return RequestCounts(answered, min(failed, answered), min(max(0, every - fast), answered))

    def _value(self, metric: str, labels: str, window: int) -> int | None:
        query = f"sum(increase({metric}{{{labels}}}[{window}s]))"
        answer = self._pool.request("GET", self._url, fields={"query": query})
        if answer.status != 200:
            raise ValueError(f"status {answer.status}")
        found = orjson.loads(answer.data)["data"]["result"]
        return round(float(found[0]["value"][1])) if found else None


def request_metrics(
    prometheus_url: str | None, canary_url: str | None, own: CollectorRegistry, bound_seconds: float
) -> RequestMetrics:
    """Prometheus where there is one, else the replicas themselves.

    Args:
        bound_seconds: a request that takes longer is slow, by the next bucket of the histogram.
    """
    bound = next((one for one in BUCKETS if one >= bound_seconds), inf)
    if prometheus_url:
        return PrometheusMetrics(prometheus_url, bound)
    return ReplicaMetrics(own, canary_url, bound) if canary_url else NoMetrics()


def count(families: Iterable[Metric], bound: float) -> RequestCounts:
    """The scoring requests in a registry's metrics; raises ValueError if there is no such metric."""
    answered = failed = every = fast = 0.0
    known = False
    for family in families:
        known = known or family.name == REQUESTS
        for sample in family.samples if family.name in {REQUESTS, SECONDS} else ():
            if sample.labels.get("route") not in SCORING_ROUTES:
                continue
            if sample.name == f"{REQUESTS}_total":
                answered += sample.value
                failed += sample.value if int(sample.labels["status"]) >= _FAILED_FROM else 0
            elif sample.name == f"{SECONDS}_count":
                every += sample.value
            elif sample.name == f"{SECONDS}_bucket" and float(sample.labels["le"]) == bound:
                fast += sample.value
    if not known:
        raise ValueError(f"no metric {REQUESTS}_total")
    return RequestCounts(round(answered), round(failed), round(every - fast))


def _label(bound: float) -> str:
    """As the label `le` has it."""
    return "+Inf" if bound == inf else repr(float(bound))


def _warn(url: str, error: Exception) -> None:
    get_logger(__name__).warning("request_metrics_unread", url=url, reason=" ".join(str(error).split())[:200])
