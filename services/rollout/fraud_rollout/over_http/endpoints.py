"""Contract tests of the replica of a release: what clients rely on, asked for through the gateway."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from time import perf_counter
from typing import Any, Final

import numpy as np
import orjson

from config.job_results.rollout import FindingResult
from fraud_adapters.api_session import ApiRefused, ApiUnavailable, detail
from fraud_adapters.replica_client import BATCH, SINGLE, ReleaseReplica
from fraud_core.contract import Contract
from fraud_rollout.over_http.samples import as_batch, sample_records
from fraud_rollout.validation.findings import bounded, failed, passed

ROWS: Final = 20
_WARM_UP: Final = 5
_PROBLEM: Final = frozenset({"title", "status", "detail"})
_ANSWER: Final = frozenset(
    {"transaction_id", "prediction", "probability", "flag", "message", "decision", "score", "model_version"}
)
_FLAGS: Final = frozenset({"LEGITIMATE", "REVIEW", "FRAUD"})


class _Broken(Exception):
    """The replica does not do what clients rely on; one sentence."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the answers must say.

    Attributes:
        prefix: of the ids of the transactions that are sent.
        engine_tolerance: between the score of a transaction alone and in a batch.
        max_latency_ms: of the 95th percentile of `calls` calls.
    """

    contract: Contract
    version: str
    prefix: str
    engine_tolerance: float
    max_latency_ms: float
    calls: int


def check_endpoints(replica: ReleaseReplica, expected: Expected) -> Iterator[FindingResult]:
    """All tests; nothing that they send is stored, because the replica decides nothing yet."""
    records = sample_records(expected.contract, ROWS, expected.prefix)
    tests: tuple[tuple[str, Callable[[], str]], ...] = (
        ("status", lambda: _status(replica)),
        ("authentication", lambda: _authentication(replica, records)),
        ("predict", lambda: _predict(replica, records[0], expected)),
        ("batch_json", lambda: _batch(replica, records, expected)),
        ("batch_arrow", lambda: _columns(replica, records, expected)),
        ("same_scores", lambda: _same_scores(replica, records, expected)),
        ("bad_input", lambda: _bad_input(replica, records)),
    )
    for name, test in tests:
        yield _finding(name, test)
    yield _latency(replica, records[0], expected)


def _finding(name: str, test: Callable[[], str]) -> FindingResult:
    try:
        return passed(name, test())
    except (_Broken, ApiUnavailable, ApiRefused) as broken:
        return failed(name, str(broken))


def _status(replica: ReleaseReplica) -> str:
    status, body = replica.send("GET", "/")
    document = replica.document(status, body)
    if document is None or document.get("status") != "ok":
        raise _Broken(f"GET / answers {detail(status, body)}")
    return "GET / answers that the API is running."


def _authentication(replica: ReleaseReplica, records: Sequence[Mapping[str, Any]]) -> str:
    body = orjson.dumps(records[0])
    for name, headers in (("no token", {}), ("another's token", {"Authorization": "Bearer x.y.z"})):
        given = {"Content-Type": "application/json", **headers}
        _require_problem(replica.send("POST", SINGLE, body=body, headers=given), 401, f"with {name}")
    replica.renew()
    return "Requests without a token, and with one that is not valid, get 401; the client gets its token."


def _predict(replica: ReleaseReplica, record: Mapping[str, Any], expected: Expected) -> str:
    status, body = replica.post(SINGLE, orjson.dumps(record))
    answer = replica.document(status, body)
    if answer is None:
        raise _Broken(f"POST {SINGLE} answers {detail(status, body)}")
    _require_answer(answer, record, expected)
    return f"POST {SINGLE} answers with all members, scored by version {expected.version}."


def _batch(replica: ReleaseReplica, records: Sequence[Mapping[str, Any]], expected: Expected) -> str:
    answers = _batch_answers(replica, records)
    if len(answers) != len(records):
        raise _Broken(f"POST {BATCH} answers {len(records)} transactions with {len(answers)} predictions.")
    for answer, record in zip(answers, records, strict=True):
        _require_answer(answer, record, expected)
    return f"POST {BATCH} answers {len(records)} transactions in their order."


def _batch_answers(
    replica: ReleaseReplica, records: Sequence[Mapping[str, Any]]
) -> Sequence[Mapping[str, Any]]:
    status, body = replica.post(BATCH, orjson.dumps({"transactions": records}))
    answer = replica.document(status, body)
    if answer is None or not isinstance(answer.get("predictions"), list):
        raise _Broken(f"POST {BATCH} answers {detail(status, body)}")
    predictions: list[Mapping[str, Any]] = answer["predictions"]
    return predictions


def _columns(replica: ReleaseReplica, records: Sequence[Mapping[str, Any]], expected: Expected) -> str:
    parts = replica.score(expected.contract, as_batch(expected.contract, list(records)))
    versions = {part.predictions.model_version for part in parts}
    if versions != {expected.version}:
        raise _Broken(f"A columnar batch is scored by version {', '.join(sorted(versions))}.")
    pairs = (zip(part.rows, part.predictions.scores.tolist(), strict=True) for part in parts)
    columnar = dict(chain.from_iterable(pairs))
    objects = [answer["score"] for answer in _batch_answers(replica, records)]
    if [columnar[row] for row in range(len(records))] != objects:
        raise _Broken("A columnar batch gets other scores than the same transactions as objects.")
    return "A columnar batch (Arrow) gets the scores of the same transactions as objects, bit by bit."


def _same_scores(replica: ReleaseReplica, records: Sequence[Mapping[str, Any]], expected: Expected) -> str:
    together = _batch_answers(replica, records)
    alone = [replica.document(*replica.post(SINGLE, orjson.dumps(record))) for record in records]
    if any(answer is None for answer in alone):
        raise _Broken(f"POST {SINGLE} does not answer each of {len(records)} transactions.")
    pairs = zip(alone, together, strict=True)
    difference = max(abs(one["score"] - other["score"]) for one, other in pairs if one is not None)
    if difference > expected.engine_tolerance:
        raise _Broken(f"Alone and in a batch, a transaction's scores differ by {difference:.2g}.")
    return f"Alone and in a batch, the scores of a transaction differ by {difference:.2g} at the most."


def _bad_input(replica: ReleaseReplica, records: Sequence[Mapping[str, Any]]) -> str:
    record = dict(records[0])
    unknown = orjson.dumps(record | {"no_such_field": 1})
    missing = orjson.dumps(dict(list(record.items())[:2]))
    bad: tuple[tuple[str, str, bytes, str, int], ...] = (
        ("half a record", SINGLE, orjson.dumps(record)[:-5], "application/json", 400),
        ("a record with missing fields", SINGLE, missing, "application/json", 422),
        ("a record with an unknown field", SINGLE, unknown, "application/json", 422),
        ("text", SINGLE, orjson.dumps(record), "text/plain", 415),
        ("an empty body", BATCH, b"", "application/json", 400),
        ("garbage as Arrow", BATCH, b"garbage", "application/vnd.apache.arrow.stream", 400),
    )
    for what, path, body, media_type, status in bad:
        _require_problem(replica.post(path, body, media_type), status, f"{what} to {path}")
    return f"{len(bad)} requests that are wrong get the status they must, with a problem document."


def _latency(replica: ReleaseReplica, record: Mapping[str, Any], expected: Expected) -> FindingResult:
    body, milliseconds = orjson.dumps(record), []
    try:
        for _ in range(_WARM_UP + expected.calls):
            started = perf_counter()
            status, answer = replica.post(SINGLE, body)
            milliseconds.append((perf_counter() - started) * 1000)
            if status != 200:
                return failed("latency", f"POST {SINGLE} answers {detail(status, answer)}")
    except (ApiUnavailable, ApiRefused) as broken:
        return failed("latency", str(broken))
    p50, p95 = np.percentile(milliseconds[_WARM_UP:], [50, 95])
    sentence = (
        f"{expected.calls} single requests one after the other took {p50:.1f} ms at the median and "
        f"{p95:.1f} ms at the 95th percentile, of {expected.max_latency_ms:g} ms."
    )
    return bounded("latency", sentence, float(p95), expected.max_latency_ms)


def _require_answer(answer: Mapping[str, Any], record: Mapping[str, Any], expected: Expected) -> None:
    if missing := _ANSWER - answer.keys():
        raise _Broken(f"An answer lacks {', '.join(sorted(missing))}.")
    if answer["transaction_id"] != record["transaction_id"]:
        raise _Broken("An answer is about another transaction.")
    if answer["model_version"] != expected.version:
        raise _Broken(f"Version {answer['model_version']} answers instead of {expected.version}.")
    score = answer["score"]
    if not isinstance(score, float) or not 0 <= score <= 1 or answer["flag"] not in _FLAGS:
        raise _Broken(f"An answer has the score {score!r} and the flag {answer['flag']!r}.")


def _require_problem(response: tuple[int, bytes], status: int, what: str) -> None:
    found, body = response
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if found != status or not isinstance(document, dict) or _PROBLEM - document.keys():
        raise _Broken(f"A request {what} gets {found} instead of {status} with a problem document.")
