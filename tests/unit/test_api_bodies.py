"""Heads and bodies: counted on what arrives; and JSON lists decoded without losing anything."""

from __future__ import annotations

import asyncio
import codecs
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from config.parameters import read_yaml
from fraud_api import body_limit
from fraud_api.body_limit import BodyLimit
from fraud_api.head_limit import MAX_HEAD_BYTES, HeadLimit
from fraud_api.metrics import MeasureRequests, Metrics
from fraud_api.problems import Problem
from fraud_api.requests import BATCH_KEY, LIST_KEY, RequestParser, may_be_list
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.records import RecordParser

WIRE = Contract.from_mapping(read_yaml(Path(__file__).parents[1] / "contracts" / "wire.yaml"))
NOW = datetime(2026, 5, 1, tzinfo=UTC)
LIMIT = 1000


def parser(max_rows: int = 3) -> RequestParser:
    return RequestParser(WIRE, RecordParser(WIRE, make_id=lambda: "made"), max_rows)


def record(**changes: Any) -> dict[str, Any]:
    good = {"sent_amount": 1.5, "hour": 3, "channel": "web", "urgent": False, "payer": "a", "payee": "b"}
    return {name: value for name, value in (good | changes).items() if value is not ...}


# --- the limit ------------------------------------------------------------------------------------


async def _reader(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads its body to the end, as the endpoints do."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "read", "size": size})


def exchange(chunks: Iterable[bytes], declared: bytes | None = None, path: str = "/") -> list[Message]:
    """Send chunks through the limit; the messages that came back."""
    waiting = list(chunks)
    sent: list[Message] = []

    async def receive() -> Message:
        body = waiting.pop(0) if waiting else b""
        return {"type": "http.request", "body": body, "more_body": bool(waiting)}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [] if declared is None else [(b"content-length", declared)]
    scope = {"type": "http", "path": path, "headers": headers, "method": "POST"}
    asyncio.run(BodyLimit(_reader, LIMIT, {"/small": 10})(scope, receive, send))
    return sent


def test_up_to_the_limit_a_body_is_read() -> None:
    assert exchange([b"x" * 400, b"x" * 600]) == [{"type": "read", "size": LIMIT}]
    assert exchange([b"x" * LIMIT], declared=b"1000") == [{"type": "read", "size": LIMIT}]


def test_a_declared_length_over_the_limit_is_refused_unread() -> None:
    sent = exchange([b"x" * 10_000], declared=b"10000")
    assert sent[0]["status"] == 413
    assert (b"connection", b"close") in sent[0]["headers"]


@pytest.mark.parametrize("declared", [None, b"5", b"-5", b"abc"])
def test_what_arrives_counts_not_what_was_declared(declared: bytes | None) -> None:
    with pytest.raises(Problem, match="larger than 1000") as caught:
        exchange([b"x" * 600, b"x" * 600, b"x" * 600], declared)
    assert caught.value.status == 413


def test_a_path_may_have_a_limit_of_its_own() -> None:
    with pytest.raises(Problem, match="larger than 10 bytes"):
        exchange([b"x" * 11], path="/small")


def test_a_body_that_trickles_in_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "BODY_SECONDS", 0.05)

    async def receive() -> Message:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "path": "/", "headers": [], "method": "POST"}
    with pytest.raises(Problem) as caught:
        asyncio.run(BodyLimit(_reader, LIMIT, {})(scope, receive, send))
    assert caught.value.status == 408


def run_limited(
    app: ASGIApp, messages: Iterable[tuple[float, Message]], *headers: tuple[bytes, bytes]
) -> Metrics:
    """Run an application behind all that counts; each message comes after so many seconds."""
    waiting = list(messages)

    async def receive() -> Message:
        seconds, message = waiting.pop(0)
        await asyncio.sleep(seconds)
        return message

    async def send(_message: Message) -> None:
        return

    metrics = Metrics()
    scope = {"type": "http", "path": "/", "headers": list(headers), "method": "POST"}
    asyncio.run(MeasureRequests(BodyLimit(app, LIMIT, {}), metrics)(scope, receive, send))
    return metrics


async def _answering(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers as the application does, problems included."""
    try:
        await _reader(scope, receive, send)
        await Response(status_code=200)(scope, receive, send)
    except Problem as problem:
        await problem.response()(scope, receive, send)


PART: Message = {"type": "http.request", "body": b"x", "more_body": True}
END: Message = {"type": "http.request", "body": b"", "more_body": False}
DISCONNECT: Message = {"type": "http.disconnect"}


@pytest.mark.parametrize(
    ("messages", "status"),
    [([PART, END], 200), ([PART, DISCONNECT], 499), ([DISCONNECT], 499), ([PART] * 1001, 413)],
    ids=["whole", "broken off", "nothing", "too much"],
)
def test_a_client_that_leaves_is_counted_apart(messages: list[Message], status: int) -> None:
    metrics = run_limited(_answering, [(0, message) for message in [*messages, DISCONNECT]])
    labels = {"method": "any", "route": "unmatched", "status": str(status)}
    assert metrics.registry.get_sample_value("fraud_api_requests_total", labels) == 1


async def _refusing(scope: Scope, receive: Receive, send: Send) -> None:
    await Response(status_code=401)(scope, receive, send)


@pytest.mark.parametrize("app", [_answering, _refusing], ids=["read", "drained"])
def test_the_time_in_which_a_body_is_awaited_is_not_the_apis(app: ASGIApp) -> None:
    metrics = run_limited(app, [(0.2, PART), (0.2, END)], (b"content-length", b"1"))
    seconds = metrics.registry.get_sample_value("fraud_api_request_seconds_sum", {"route": "unmatched"})
    assert seconds is not None
    assert 0 <= seconds < 0.2


@pytest.mark.parametrize(
    ("headers", "read"),
    [
        ([(b"content-length", b"1")], 2),
        ([(b"transfer-encoding", b"chunked")], 2),
        ([(b"content-length", b"1"), (b"expect", b"100-continue")], 0),
        ([(b"content-length", b"0")], 0),
        ([], 0),
    ],
)
def test_what_nobody_reads_is_drained_unless_the_client_waits(
    headers: list[tuple[bytes, bytes]], read: int
) -> None:
    messages = [PART, END]

    taken = 0

    async def receive() -> Message:
        nonlocal taken
        taken += 1
        return messages.pop(0)

    async def send(_message: Message) -> None:
        return

    scope = {"type": "http", "path": "/", "headers": headers, "method": "POST"}
    asyncio.run(BodyLimit(_refusing, LIMIT, {})(scope, receive, send))
    assert taken == read


# --- the head ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "status"), [(MAX_HEAD_BYTES, 200), (MAX_HEAD_BYTES + 1, 431)])
@pytest.mark.parametrize("part", ["path", "query", "header"])
def test_the_head_counts_as_it_was_sent(part: str, size: int, status: int) -> None:
    heads = {
        "path": b"GET /%s HTTP/1.1\r\nhost: a\r\n\r\n",
        "query": b"GET /a?%s HTTP/1.1\r\nhost: a\r\n\r\n",
        "header": b"GET / HTTP/1.1\r\nhost: a\r\nx: %s\r\n\r\n",
    }
    padding = b"a" * (size - len(heads[part] % b""))
    line, *lines = (heads[part] % padding).rstrip().split(b"\r\n")
    path, _, query = line.split(b" ")[1].partition(b"?")
    headers = [tuple(one.split(b": ")) for one in lines]
    statuses: list[int] = []

    async def receive() -> Message:
        return END

    async def send(message: Message) -> None:
        statuses.append(message.get("status", 0))

    scope = {"type": "http", "method": "GET", "raw_path": path, "query_string": query, "headers": headers}
    asyncio.run(HeadLimit(Response(status_code=200))(scope, receive, send))
    assert statuses[0] == status


# --- lists ----------------------------------------------------------------------------------------


def test_a_list_is_parsed_in_order_and_ids_are_made() -> None:
    body = json.dumps({LIST_KEY: [record(transaction_id="x"), record(hour=5)]}).encode()
    batch = parser().parse_list(body, NOW)
    assert batch is not None
    assert batch.ids == ["x", "made"]
    assert batch.columns["hour"].tolist() == [3.0, 5.0]
    assert batch.event_times == [NOW, NOW]


def test_every_bad_record_is_named() -> None:
    body = json.dumps({LIST_KEY: [record(hour="3"), record(), record(payee="")]}).encode()
    with pytest.raises(Problem) as caught:
        parser().parse_list(body, NOW)
    assert [(error["index"], error["reason"]) for error in caught.value.members["errors"]] == [
        (0, "wrong_type"),
        (2, "bad_text"),
    ]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ('{"new_data": [RECORD, RECORD, RECORD, RECORD]}', 413),
        ('{"new_data": []}', 422),
        ('{"new_data": [[]]}', 422),
        ('{"new_data": [RECORD], "new_data": [RECORD]}', 422),
        ('{"new_data": [RECORD], "other": 1}', 422),
        ('{"new_data": [{"hour": 3, "hour": 4}]}', 422),
        ('{"new_data": [RECORD', 400),
        ('{"new_data": [RECORD], "x": NaN}', 422),
        ('{"new_data": [{"fee": NaN}]}', 422),
        ('["new_data"]', 422),
    ],
)
def test_lists_that_are_refused(text: str, status: int) -> None:
    with pytest.raises(Problem) as caught:
        parser().parse_list(text.replace("RECORD", json.dumps(record())).encode(), NOW)
    assert caught.value.status == status


LISTS = {
    "plain": b'{"new_data": [RECORD]}',
    "with space": b'\n{ "new_data"\t:[RECORD]}',
    "escaped": b'{"new\\u005fdata": [RECORD]}',
    "escaped whole": b'{"\\u006E\\u0065\\u0077\\u005F\\u0064\\u0061\\u0074\\u0061": [RECORD]}',
    "with a byte order mark": codecs.BOM_UTF8 + b'{"new_data": [RECORD]}',
}


@pytest.mark.parametrize("body", LISTS.values(), ids=LISTS)
def test_a_list_is_known_however_its_name_is_written(body: bytes) -> None:
    body = body.replace(b"RECORD", json.dumps(record(transaction_id="new_data")).encode())
    assert may_be_list(body)
    batch = parser().parse_list(body, NOW)
    assert batch is not None
    assert batch.ids == ["new_data"]


RECORDS = {
    "as an id": (json.dumps(record(transaction_id="new_data")), None),
    "as a text": (json.dumps(record(payer="new_data")), None),
    "in a text": (json.dumps(record(payer='"new_data"')), None),
    "as an unknown field": (json.dumps({"new_data": 1} | record()), "unknown_field"),
    "as an unknown field that is a list": (json.dumps(record(new_data=[record()])), "unknown_field"),
    "as a text's name": (json.dumps(record(payer={"new_data": []})), "wrong_type"),
    "and a field missing": (json.dumps(record(payer="new_data", hour=...)), "missing_field"),
}


def parse_single(body: bytes, arrival: datetime) -> Batch:
    parsed = parser().parse_each([body], [arrival])
    for _, problem in parsed.problems:
        raise problem
    return parsed.batch


@pytest.mark.parametrize(("text", "reason"), RECORDS.values(), ids=RECORDS)
def test_a_record_is_no_list_for_the_text_new_data_in_it(text: str, reason: str | None) -> None:
    body = text.encode()
    assert parser().parse_list(body, NOW) is None
    if reason is None:
        assert len(parse_single(body, NOW)) == 1
        return
    with pytest.raises(Problem) as caught:
        parse_single(body, NOW)
    assert [error["reason"] for error in caught.value.members["errors"]] == [reason]


@pytest.mark.parametrize("code", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("key", [LIST_KEY, BATCH_KEY, ""])
def test_another_encoding_than_utf_8_is_refused(code: str, key: str) -> None:
    document: Any = {key: [record()]} if key else record()
    read = {LIST_KEY: parser().parse_list, BATCH_KEY: parser().batch, "": parse_single}[key]
    with pytest.raises(Problem, match="UTF-8") as caught:
        read(json.dumps(document).encode(code), NOW)
    assert caught.value.status == 400
    read(codecs.BOM_UTF8 + json.dumps(document).encode(), NOW)


@pytest.mark.parametrize("depth", [100, 300, 900, 1000, 5000])
@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}")])
def test_nesting_is_refused_at_every_depth(depth: int, brackets: tuple[str, str]) -> None:
    opening, closing = brackets
    text = '{"transactions": [{"sent_amount": %s}]}' % (opening * depth + "1" + closing * depth)
    with pytest.raises(Problem) as caught:
        parser().batch(text.encode(), NOW)
    assert caught.value.status in {400, 422}


def test_an_optional_nan_is_no_null() -> None:
    # orjson writes NaN as null, which the optional field takes.
    body = b'{"new_data": [' + json.dumps(record(fee=float("nan"))).encode() + b"]}"
    with pytest.raises(Problem, match="fee"):
        parser().parse_list(body, NOW)
    batch = parser().parse_list(json.dumps({LIST_KEY: [record(fee=None)]}).encode(), NOW)
    assert batch is not None
    assert len(batch) == 1


@pytest.mark.parametrize("store", ["true", 1, None, []])
def test_store_is_a_boolean(store: Any) -> None:
    with pytest.raises(Problem, match="store"):
        parser().batch(json.dumps({BATCH_KEY: [record()], "store": store}).encode(), NOW)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(), max_size=2),
)
NAMES = st.sampled_from(["sent_amount", "hour", "channel", "fee", 'quo"te', "\\", "transaction_id", "é"])


@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=5), min_size=1, max_size=3))
def test_a_record_in_a_list_is_judged_as_if_it_were_alone(changes: list[dict[str, Any]]) -> None:
    alone = RecordParser(WIRE, make_id=lambda: "made")
    records = [record(**change) for change in changes]
    verdicts = alone.parse([json.dumps(one).encode() for one in records], [NOW] * len(records))
    body = json.dumps({LIST_KEY: records}).encode()
    if not verdicts.rejected:
        batch = parser().parse_list(body, NOW)
        assert batch is not None
        assert batch.ids == verdicts.batch.ids
        assert batch.columns["sent_amount"].tolist() == verdicts.batch.columns["sent_amount"].tolist()
        return
    with pytest.raises(Problem) as caught:
        parser().parse_list(body, NOW)
    errors = [(error["index"], error["reason"]) for error in caught.value.members["errors"]]
    assert errors == [(one.index, str(one.reason)) for one in verdicts.rejected]
