"""Alerts to an incoming webhook, over a real socket."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from fraud_airflow.alerting import slack
from fraud_airflow.alerting.alert import Message
from fraud_airflow.alerting.notifier import ChannelFailed
from fraud_airflow.alerting.slack import SlackChannel

PATH = "/services/T000/B000/the-webhook-s-secret"
MESSAGE = Message("[high] a < b & c", "<!channel> <http://x|y>\nsecond", "http://airflow/x?a=1&b=2|c")


@pytest.fixture(autouse=True)
def _all_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "httpx")


def test_the_message_as_slack_takes_it(http_server: Any, caplog: pytest.LogCaptureFixture) -> None:
    http_server.reply = lambda _request: (200, b"ok")
    SlackChannel(http_server.url + PATH).send(MESSAGE)
    (request,) = http_server.asked(PATH)
    assert request.method == "POST"
    assert request.headers["content-type"] == "application/json"
    assert request.json == {
        "text": "*[high] a &lt; b &amp; c*\n&lt;!channel&gt; &lt;http://x|y&gt;\nsecond\n"
        "<http://airflow/x?a=1&amp;b=2%7Cc|Log>",
        "unfurl_links": False,
        "unfurl_media": False,
    }
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((403, b"invalid_token"), r"^Slack answered 403, invalid_token: correct the webhook's address"),
        ((404, b"<p>/services/T000/B000/the-webhook-s-secret</p>"), r"^Slack answered 404: correct"),
        ((302, b""), r"^Slack answered 302: "),
    ],
)
def test_a_refusal_does_not_repeat_the_address(
    answer: tuple[int, bytes], sentence: str, http_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    http_server.reply = lambda _request: answer
    with pytest.raises(ChannelFailed, match=sentence) as caught:
        SlackChannel(http_server.url + PATH).send(MESSAGE)
    assert "secret" not in str(caught.value) + caplog.text
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:1" + PATH, "no address" + PATH, "ftp://x" + PATH, "http://x:port" + PATH, "\n"],
)
def test_an_address_that_does_not_work_is_not_repeated(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ChannelFailed, match=r"^Slack cannot be reached \(\w+\): the password of") as caught:
        SlackChannel(address).send(MESSAGE)
    assert "secret" not in str(caught.value) + caplog.text


def test_an_answer_that_does_not_come(silent_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slack, "SECONDS", 0.2)
    with pytest.raises(ChannelFailed, match=r"^Slack did not answer within 0\.2 seconds\.$"):
        SlackChannel(f"http://127.0.0.1:{silent_port}{PATH}").send(MESSAGE)


def test_a_limit_that_passes_soon_is_waited_for(http_server: Any) -> None:
    answers = iter([(429, b"rate_limited"), (200, b"ok")])
    http_server.reply = lambda _request: next(answers)
    http_server.headers = {"Retry-After": "1"}
    SlackChannel(http_server.url + PATH).send(MESSAGE)
    assert len(http_server.asked(PATH)) == 2


@pytest.mark.parametrize(("status", "wait", "tries"), [(429, "600", 1), (500, "", 1), (503, "0", 2)])
def test_a_receiver_in_trouble_is_tried_again_later(
    status: int, wait: str, tries: int, http_server: Any
) -> None:
    http_server.reply = lambda _request: (status, b"no")
    http_server.headers = {"Retry-After": wait} if wait else {}
    with pytest.raises(ChannelFailed, match=rf"^Slack answered {status}; it is tried again in minutes\.$"):
        SlackChannel(http_server.url + PATH).send(MESSAGE)
    assert len(http_server.asked(PATH)) == tries
