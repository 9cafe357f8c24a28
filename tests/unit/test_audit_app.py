"""The web app's parts that need no server: CSV, people, sessions, filters, and how values are shown."""

from __future__ import annotations

import asyncio
import csv
import io
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from fastapi import Request
from httpx import ASGITransport, AsyncClient, Response
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from fraud_adapters.postgres.decision_lists import Position
from fraud_audit import app as application
from fraud_audit import filters
from fraud_audit.figures import interval
from fraud_audit.pages.login import safe_path
from fraud_audit.passwords import hash_password, password_matches
from fraud_audit.refusals import PageRefused
from fraud_audit.rendering import duration, money, script_json
from fraud_audit.security import SecurityHeaders, cookie_name, require_csrf_token, require_own_origin
from fraud_core.people import LockoutRules, password_problem, username_problem
from fraud_core.spreadsheets import csv_lines, safe_cell


# --- CSV ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum", "\t=1", "\r=1", "\n=1", " =1", "＝1"])
def test_a_cell_that_could_be_a_formula_is_text(text: str) -> None:
    assert safe_cell(text) == f"'{text}"


def test_numbers_stay_numbers() -> None:
    assert [safe_cell(value) for value in (-1.5, 3, None, True, "a=b")] == ["-1.5", "3", "", "yes", "a=b"]


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_no_text_becomes_a_formula_and_none_is_lost(cells: list[str]) -> None:
    lines = "".join(csv_lines(["h"] * len(cells), [cells]))
    [_, read] = list(csv.reader(io.StringIO(lines, newline="")))
    assert [one.removeprefix("'") for one in read] == [one.removeprefix("'") for one in cells]
    assert not any(one.lstrip()[:1] in {"=", "+", "-", "@"} for one in read if one)


# --- People ---------------------------------------------------------------------------------------
def test_an_account_is_locked_longer_each_time() -> None:
    rules = LockoutRules(attempts=3, lockout=timedelta(minutes=1))
    locked = [rules.locked_for(failures) for failures in range(1, 10)]
    minutes = {number: value for number, value in enumerate(locked, 1) if value}
    assert minutes == {3: timedelta(minutes=1), 6: timedelta(minutes=2), 9: timedelta(minutes=4)}
    assert rules.locked_for(3 * 1000) == timedelta(days=1)


@pytest.mark.parametrize("name", ["", "Ana", "a b", "-a", "a" * 65, "é"])
def test_usernames_that_are_refused(name: str) -> None:
    assert username_problem(name)
    assert not username_problem("ana.b@example.com")


@pytest.mark.parametrize("password", ["short", "aaaaaaaaaaaaaaaa", "anaana-and-more-ana", "x" * 1025])
def test_passwords_that_are_refused(password: str) -> None:
    assert password_problem(password, "ana")
    assert not password_problem("correct horse battery", "ana")


def test_a_password_matches_its_own_hash_only() -> None:
    hashed = hash_password("correct horse battery")
    assert password_matches(hashed, "correct horse battery")
    assert not password_matches(hashed, "correct horse batterz")
    # An unknown person, and a broken row: refused, after the same work or at once.
    assert not password_matches(None, "correct horse battery")
    assert not password_matches("no hash", "correct horse battery")


# --- Requests -------------------------------------------------------------------------------------
def request(**headers: str) -> Request:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": pairs})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "audit:8050"},
        {"host": "audit:8050", "origin": "null"},
        {"host": "audit:8050", "origin": "http://attacker:8050"},
        {"host": "audit:8050", "origin": "http://audit"},
        {"host": "audit:8050", "origin": "http://audit:8050", "sec_fetch_site": "same-site"},
    ],
)
def test_a_form_from_elsewhere_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(PageRefused):
        require_own_origin(request(**headers))
    # A proxy in front may speak TLS.
    require_own_origin(request(host="audit:8050", origin="https://audit:8050", sec_fetch_site="same-origin"))


def test_a_form_needs_its_session_s_token() -> None:
    require_csrf_token(request(), {"csrf": "right"}, "right")
    require_csrf_token(request(x_csrf_token="right"), {}, "right")
    for form in ({}, {"csrf": ""}, {"csrf": "wrong"}, {"csrf": "é"}):
        with pytest.raises(PageRefused):
            require_csrf_token(request(), form, "right")


def test_the_cookie_is_bound_to_https_in_production() -> None:
    assert cookie_name(secure=True).startswith("__Host-")


@pytest.mark.parametrize(
    "target", [None, "", "cases", "//attacker", "/\\attacker", "https://attacker", "/a\r\nb", "/\\/a"]
)
def test_a_log_in_never_leads_to_another_host(target: str | None) -> None:
    assert safe_path(target) == "/"
    assert safe_path("/cases?view=own") == "/cases?view=own"


# --- Filters --------------------------------------------------------------------------------------
def test_days_are_those_of_the_person_s_zone() -> None:
    # The day on which clocks go forward has 23 hours.
    chosen = filters.decision_filter({"from": "2026-03-29", "to": "2026-03-29"}, ZoneInfo("Europe/Berlin"))
    assert chosen.since == datetime(2026, 3, 28, 23, tzinfo=UTC)
    assert chosen.until == datetime(2026, 3, 29, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("from", "yesterday"),
        ("to", "9999-12-31"),
        ("min_amount", "much"),
        ("min_amount", "nan"),
        ("max_score", "1.1"),
        ("min_score", "-1"),
        ("decision", "perhaps"),
        ("truth", "x"),
        ("q", "x" * 65),
        ("q", "a\x00"),
    ],
)
def test_a_wrong_filter_is_refused_with_its_name(name: str, value: str) -> None:
    with pytest.raises(PageRefused) as refused:
        filters.decision_filter({name: value}, ZoneInfo("UTC"))
    assert (refused.value.status, str(refused.value).partition(":")[0]) == (400, name)


def test_a_position_survives_its_url() -> None:
    at = Position(datetime(2026, 3, 1, 12, 0, 0, 123457, tzinfo=UTC), 9_000_000_001)
    assert filters.position({"after": filters.position_text(at)}) == at
    for wrong in ("x", "1", "1.x", "9" * 60 + ".1", "99999999999999999999.1"):
        with pytest.raises(PageRefused):
            filters.position({"after": wrong})


# --- How values are shown -------------------------------------------------------------------------
def test_durations_have_two_units_that_follow_each_other() -> None:
    shown = [duration(seconds) for seconds in (0.2, 59, 61, 3600, 3614, 90_000, 86_400 * 3 + 59)]
    assert shown == ["0 s", "59 s", "1 min 1 s", "1 h", "1 h", "1 d 1 h", "3 d"]


def test_amounts_have_a_true_minus() -> None:
    assert [money(value) for value in (None, -28.4, 1234.5, 123456.7)] == [
        "–",
        "−28.40",
        "1,234.50",
        "123,457",
    ]


def test_data_in_a_page_cannot_end_its_block() -> None:
    assert "<" not in str(script_json({"a": "</script><b>&\u2028"}))


def test_the_interval_contains_the_share_and_stays_within_bounds() -> None:
    assert interval(0, 0) is None
    for successes, trials in ((0, 5), (5, 5), (80, 100)):
        low, high = interval(successes, trials) or (1, 0)
        assert 0 <= low <= successes / trials <= high <= 1
    low, high = interval(80, 100) or (0, 0)
    assert (round(low, 4), round(high, 4)) == (0.7112, 0.8666)  # Brown, Cai, DasGupta 2001, Wilson's


# --- Bugs -----------------------------------------------------------------------------------------
def test_a_bug_is_logged_and_answered_with_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("secret detail")

    logged: list[str] = []
    monkeypatch.setattr(application, "get_logger", lambda _: Log(logged))
    app = SecurityHeaders(application.CatchErrors(fails), secure=True)

    async def ask() -> Response:
        async with AsyncClient(transport=ASGITransport(app), base_url="http://audit") as client:
            return await client.get("/alerts")

    answer = asyncio.run(ask())
    assert (answer.status_code, logged) == (500, ["page_failed"])
    assert "secret detail" not in answer.text
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "strict-transport-security" in answer.headers


class Log:
    """Remembers what is logged."""

    def __init__(self, logged: list[str]) -> None:
        self._logged = logged

    def error(self, event: str, **_: object) -> None:
        self._logged.append(event)
