"""What clients see of a release over HTTP: read from Prometheus or the replicas, and judged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from prometheus_client import generate_latest

from fraud_api.metrics import Metrics
from fraud_api.releases.request_metrics import NoMetrics, RequestMetrics, request_metrics
from fraud_core.canary.evidence import SCORE_BINS, Arm, Evidence, RequestCounts, Requests
from fraud_core.canary.judgement import Check, Verdict, judge
from fraud_core.canary.rules import JudgementRules

NOWHERE = "http://127.0.0.1:1"


class _Server:
    """Answers every GET with what `answer(path, query)` gives."""

    def __init__(self) -> None:
        self.answer: Any = None
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                status, body = owner.answer(url.path, parse_qs(url.query))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[_Server]:
    running = _Server()
    yield running
    running.server.shutdown()
    running.server.server_close()


def answered(metrics: Metrics, route: str, status: int, seconds: float, times: int = 1) -> None:
    for _ in range(times):
        metrics.requests.labels("POST", route, status).inc()
        metrics.latency.labels(route).observe(seconds)


def test_the_replicas_are_read_and_only_what_scores_counts(server: _Server) -> None:
    own, other = Metrics(), Metrics()
    server.answer = lambda path, _: (200 if path == "/metrics" else 404, generate_latest(other.registry))
    source = request_metrics(None, server.url, own.registry, 0.2)
    answered(own, "/predict", 200, 0.01, 5)
    answered(own, "/health/ready", 503, 0.3)
    before = source.totals()
    assert before == Requests(RequestCounts(5, 0, 0), RequestCounts(0, 0, 0))
    answered(own, "/predict", 422, 0.01)
    answered(other, "/predict/batch", 200, 0.19, 3)
    answered(other, "/predict", 503, 0.21, 2)
    assert source.since(before, 60) == Requests(RequestCounts(1, 0, 0), RequestCounts(5, 2, 2))
    assert Requests.from_mapping(json.loads(json.dumps(before.to_mapping()))) == before


def test_a_replica_that_was_started_anew_has_counted_from_nothing() -> None:
    before, now = RequestCounts(100, 5, 7), RequestCounts(8, 1, 0)
    assert now.since(before) == now
    assert RequestCounts(120, 6, 7).since(before) == RequestCounts(20, 1, 0)


@pytest.mark.parametrize("content", [(500, b""), (200, b"no metrics"), (200, b"other 1\n"), (200, b"\xff")])
def test_what_cannot_be_read_is_not_known(server: _Server, content: tuple[int, bytes]) -> None:
    own = Metrics()
    server.answer = lambda *_: content
    for source in (
        request_metrics(None, server.url, own.registry, 0.2),
        request_metrics(None, NOWHERE, own.registry, 0.2),
    ):
        assert source.totals().canary is None
        assert source.since(source.totals(), 1).canary is None
    for source in (
        request_metrics(server.url, None, own.registry, 0.2),
        request_metrics(NOWHERE, None, own.registry, 0.2),
        request_metrics(None, None, own.registry, 0.2),
    ):
        assert source.since(source.totals(), 1) == Requests(None, None)
    assert isinstance(source, NoMetrics)


def test_prometheus_is_asked_for_the_stage(server: _Server) -> None:
    """Over the time since it began, of either job, with the bucket of the bound."""
    asked: list[str] = []
    values = {"status=": 2.4, "_bucket": 27.0, "_count": 30.2, "requests_total": 30.4}

    def answer(path: str, query: dict[str, list[str]]) -> tuple[int, bytes]:
        assert path == "/api/v1/query"
        asked.append(query["query"][0])
        if 'job="api"' in asked[-1]:
            return 200, b'{"data": {"result": []}}'
        value = next(value for mark, value in values.items() if mark in asked[-1])
        return 200, json.dumps({"data": {"result": [{"value": [0, str(value)]}]}}).encode()

    server.answer = answer
    source: RequestMetrics = request_metrics(server.url, NOWHERE, Metrics().registry, 0.15)
    assert source.since(source.totals(), 89.6) == Requests(None, RequestCounts(30, 2, 3))
    assert all("[90s]" in one for one in asked)
    assert 'le="0.2"' in asked[-1]


GOOD = Arm(5000, 0, 0, 50_000, 500, (49_500, *[0] * (SCORE_BINS - 2), 500))
EVIDENCE = Evidence(GOOD, GOOD, 0.5)


def checked(requests: Requests | None) -> tuple[Verdict, dict[str, Check]]:
    judgement = judge(replace(EVIDENCE, requests=requests), JudgementRules())
    return judgement.verdict, {check.name: check for check in judgement.checks}


def test_a_replica_that_fails_or_is_slow_is_rolled_back() -> None:
    counts = RequestCounts(2000, 0, 0)
    _, checks = checked(Requests(counts, counts))
    assert {checks[name].outcome for name in ("request_metrics", "request_errors", "request_latency")} == {
        "passed"
    }
    verdict, checks = checked(Requests(counts, RequestCounts(2000, 100, 0)))
    assert (verdict, checks["request_errors"].outcome) == (Verdict.ROLL_BACK, "failed")
    assert checks["request_errors"].sentence.startswith(
        "The share of requests that its replica failed is 5.00% ("
    )
    verdict, checks = checked(Requests(counts, RequestCounts(2000, 0, 400)))
    assert (verdict, checks["request_latency"].outcome) == (Verdict.ROLL_BACK, "failed")


def test_metrics_that_are_missing_are_a_failed_check_but_not_the_models_fault() -> None:
    counts = RequestCounts(2000, 0, 0)
    for requests, sentence in (
        (Requests(counts, None), "The metrics of the canary cannot be read."),
        (Requests(None, None), "The metrics of the control and of the canary cannot be read."),
    ):
        verdict, checks = checked(requests)
        assert verdict is Verdict.INCONCLUSIVE
        assert (checks["request_metrics"].outcome, checks["request_metrics"].sentence) == ("failed", sentence)
    _, checks = checked(Requests(counts, RequestCounts(10, 0, 0)))
    assert checks["request_metrics"].outcome == "insufficient"
    assert "request_metrics" not in checked(None)[1]
