"""The web app against real Postgres: who may use which route, log-in, the queue, lists, and failures."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from config.job_results.audit import UsersResult
from fraud_adapters.postgres import DatabaseUnavailable, connect
from fraud_audit.__main__ import main as command
from fraud_audit.access import PUBLIC
from fraud_audit.app import create_app
from fraud_audit.server import build
from fraud_audit.users import PersonRefused
from fraud_core.people import PersonRole
from fraud_embedded.processes import probes
from fraud_embedded.processes.ports import free_ports
from tests.support.audit_app import (
    PASSWORD,
    PEOPLE,
    Browser,
    RunningApp,
    add_decisions,
    add_people,
    browser,
    prepare,
    report,
    running_app,
)
from tests.support.stored_rows import Database, run
from tests.support.typed_results import mismatches
from tests.support.waiting import eventually

EVERYBODY = {**PEOPLE, "ada": PersonRole.ADMIN}


@pytest.fixture
def app(database: Database) -> Iterator[RunningApp]:
    """With people, 40 decisions and their cases."""
    add_people(database, EVERYBODY)
    add_decisions(database)
    with running_app(database) as running:
        prepare(running.app, database)
        yield running


@pytest.fixture
def ana(app: RunningApp) -> Iterator[Browser]:
    with browser(app.url, "ana") as one:
        yield one


def routes(app: RunningApp) -> list[tuple[str, str]]:
    """Every method and path, with a case that exists."""
    built = create_app(app.app, lambda: None, lambda: None)
    found = []
    for route in built.routes:
        candidates = getattr(getattr(route, "original_router", None), "routes", [route])
        for one in candidates:
            if isinstance(one, APIRoute):
                found += [
                    (method, one.path.replace("{case_id}", "1")) for method in sorted(one.methods or ())
                ]
    return found


def first_case(page: httpx.Response) -> int | None:
    match = re.search(r"<h1[^>]*>Case (\d+)</h1>", page.text)
    return int(match[1]) if match else None


def ids(page: str) -> list[str]:
    """The transactions of a list's page."""
    return re.findall(r'<td class="id">([^<]+)', page)


# --- Access ---------------------------------------------------------------------------------------
def test_every_route_refuses_everybody_it_must(app: RunningApp, database: Database) -> None:
    every = routes(app)
    assert {("GET", "/dashboard"), ("POST", "/manual_labeling/1"), ("POST", "/login")} <= set(every)
    with ExitStack() as stack:
        stranger = stack.enter_context(browser(app.url))
        sessions = [stack.enter_context(browser(app.url, name)) for name in EVERYBODY]
        stolen = stack.enter_context(browser(app.url, "ben")).token
        for method, path in every:
            if path in PUBLIC:
                continue
            # Without a session: to the log-in page.
            answer = stranger.client.request(method, path, data={"csrf": stolen})
            assert (answer.status_code, answer.headers["location"][:6]) == (303, "/login"), path
            for one in sessions:
                if method == "GET":
                    assert one.get(path).status_code in {200, 303}, path
                    continue
                attacks = {
                    "another session's token": one.client.post(path, data={"csrf": stolen}),
                    "no token": one.client.post(path, data={}),
                    "another origin": one.post(path, headers={"origin": "http://attacker.example"}),
                    "a sandbox": one.post(path, headers={"origin": "null"}),
                }
                refused = {name: answer.status_code for name, answer in attacks.items()}
                assert set(refused.values()) == {403}, (path, refused)
    assert run(database.url("owner"), "SELECT count(*) FROM labels") == [(0,)]


def test_an_analyst_cannot_do_what_a_lead_does(app: RunningApp, ana: Browser) -> None:
    ana.post("/cases/1", action="escalate")
    for action, fields in (("label", {"label": "fraud"}), ("take", {}), ("hand_over", {"to": "ben"})):
        answer = ana.post("/cases/1", None, action=action, **fields)
        assert answer.status_code == 409
        assert "A lead decides this case" in answer.text
    with browser(app.url, "lea") as lea:
        assert lea.post("/cases/1", action="label", label="fraud").status_code == 303
    assert ana.post("/cases/1", action="reopen").status_code == 409


def test_headers_of_every_answer(app: RunningApp, ana: Browser) -> None:
    for path in ("/login", "/", "/nope", "/frauds.csv", "/static/app.css", "/health/live"):
        headers = ana.get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert ana.get("/").headers["cache-control"] == "no-store"
    # Nothing that the policy would block: no inline script or style, nothing from elsewhere.
    for path in ("/login", "/", "/dashboard", "/frauds", "/cases/1", "/manual_labeling", "/account"):
        page = ana.get(path).text
        assert not re.search(
            r"<script(?![^>]*(src=|application/json))|<style|\sstyle=|\son\w+=|hx-on", page
        ), path
        assert not re.search(r'(src|href)="(https?:)?//', page), path


# --- Logging in -----------------------------------------------------------------------------------
def test_the_cookie_is_kept_from_scripts_and_other_sites(app: RunningApp, database: Database) -> None:
    with browser(app.url) as one:
        answer = one.log_in("ana")
        cookie = answer.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
        token = cookie.partition("=")[2].partition(";")[0]
        assert token not in str(run(database.url("owner"), "SELECT * FROM sessions"))
        assert one.post("/logout").status_code == 303
        assert one.get("/").headers["location"] == "/login"


def test_wrong_passwords_lock_the_account_and_say_nothing_about_it(
    app: RunningApp, database: Database
) -> None:
    with browser(app.url) as one:
        pages = {one.log_in("ana", "wrong").text for _ in range(4)} | {one.log_in("nobody", "x").text}
        assert {one.log_in("ana", "wrong").status_code for _ in range(2)} == {401}
        sentences = {re.search(r'role="alert">([^<]+)', page)[1] for page in pages}  # type: ignore[index]
        assert len(sentences) == 1
        assert one.log_in("ana").status_code == 401, "it is locked"
        run(database.url("owner"), "UPDATE people SET locked_until = now()")
        assert one.log_in("ana").status_code == 303


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sessions SET expires_at = now()",
        "UPDATE sessions SET last_seen_at = now() - interval '2 hours'",
        "UPDATE people SET active = false",
        "DELETE FROM sessions",
    ],
)
def test_a_session_ends(app: RunningApp, database: Database, ana: Browser, statement: str) -> None:
    assert ana.get("/").status_code == 200
    run(database.url("owner"), statement)
    assert ana.get("/cases?view=own").headers["location"] == "/login?next=/cases%3Fview%3Down"
    # htmx is told to go there, too: it would put the log-in page into the page otherwise.
    answer = ana.post("/manual_labeling/1", headers={"hx-request": "true"}, decision="skip")
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/login")


def test_a_person_changes_zone_and_password(app: RunningApp, ana: Browser) -> None:
    assert ana.post("/account/time_zone", time_zone="Mars/Olympus").status_code == 400
    assert ana.post("/account/time_zone", time_zone="Asia/Kolkata").status_code == 303
    assert "Asia/Kolkata" in ana.get("/account").text
    new = "another long password"
    wrong = ana.post("/account/password", current="wrong", new=new, again=new)
    assert (wrong.status_code, "another one" in wrong.text) == (400, True)
    assert ana.post("/account/password", current=PASSWORD, new="short", again="short").status_code == 400
    assert ana.post("/account/password", current=PASSWORD, new=new, again=new).status_code == 303
    assert ana.get("/").status_code == 303, "its sessions have ended"
    assert ana.log_in("ana").status_code == 401
    assert ana.log_in("ana", new).status_code == 303


# --- The queue ------------------------------------------------------------------------------------
def test_a_queue_is_worked_off(app: RunningApp, database: Database, ana: Browser) -> None:
    page = ana.get("/manual_labeling")
    first = first_case(page)
    answer = ana.post(f"/manual_labeling/{first}", headers={"hx-request": "true"}, decision="fraud")
    second = first_case(answer)
    assert answer.status_code == 200
    assert second not in {None, first}
    assert "<html" not in answer.text
    undone = ana.post("/manual_labeling/undo", headers={"hx-request": "true"})
    assert first_case(undone) == first
    # Without scripts the same buttons lead on.
    plain = ana.post(f"/manual_labeling/{first}", decision="legitimate", note="customer called")
    assert (plain.status_code, plain.headers["location"]) == (303, "/manual_labeling")
    rows = run(
        database.url("owner"),
        "SELECT label, source, reported_by FROM labels ORDER BY reported_at",
    )
    assert rows == [(1, "analyst", "ana"), (0, "analyst", "ana")]
    shown = ana.get(f"/cases/{first}").text
    assert "customer called" in shown
    assert "closed by <b>ana</b>" in shown


def test_a_case_that_somebody_else_closed_is_said_and_the_next_one_shown(
    app: RunningApp, ana: Browser
) -> None:
    first = first_case(ana.get("/manual_labeling"))
    with browser(app.url, "lea") as lea:
        lea.post(f"/cases/{first}", action="release")
        lea.post(f"/cases/{first}", action="label", label="fraud")
    answer = ana.post(f"/manual_labeling/{first}", headers={"hx-request": "true"}, decision="legitimate")
    assert answer.status_code == 409
    assert "lea has closed this case as fraud" in answer.text
    assert first_case(answer) not in {None, first}


def test_ten_people_at_once_see_ten_cases(app: RunningApp, database: Database) -> None:
    names = {f"person{number}": PersonRole.ANALYST for number in range(10)}
    add_people(database, names)
    add_decisions(database, 60, seed=9, prefix="more")
    prepare(app.app, database)

    def see(name: str) -> int | None:
        with browser(app.url, name) as one:
            return first_case(one.get("/manual_labeling"))

    with ThreadPoolExecutor(10) as executor:
        seen = list(executor.map(see, names))
    assert None not in seen
    assert len(set(seen)) == 10


# --- Lists ----------------------------------------------------------------------------------------
def test_a_list_is_paged_filtered_and_exported(app: RunningApp, database: Database, ana: Browser) -> None:
    add_decisions(database, 160, seed=3, prefix="=cmd")
    statement = (
        "SELECT transaction_id FROM predictions WHERE deciding AND NOT is_fraud_predicted"
        " ORDER BY prediction_time DESC, prediction_id DESC"
    )
    expected = [name for (name,) in run(database.url("owner"), statement)]
    assert len(expected) > 100
    listed: list[str] = []
    address: str | None = "/non_frauds"
    while address:
        page = ana.get(address).text
        listed += ids(page)
        match = re.search(r'href="([^"]+)" rel="next"', page)
        address = match[1].replace("&amp;", "&") if match else None
    assert listed == expected
    [header, *rows] = list(csv.reader(io.StringIO(ana.get("/non_frauds.csv").text)))
    assert [row[0].removeprefix("'") for row in rows] == expected
    assert not [row for row in rows if row[0].startswith("=")]
    assert header[0] == "transaction_id"
    one = ana.get("/non_frauds").text
    assert expected[0] in one
    found = ana.client.get("/non_frauds", params={"q": expected[5]}).text
    assert ids(found) == [expected[5]]
    assert "min_amount: must be a number." in ana.get("/non_frauds?min_amount=x").text


def test_false_cases_are_where_truth_and_prediction_differ(
    app: RunningApp, database: Database, ana: Browser
) -> None:
    url = database.url("owner")
    by_prediction = (
        "SELECT transaction_id FROM predictions WHERE deciding AND is_fraud_predicted = %s LIMIT 2"
    )
    (alarm,), (right,) = run(url, by_prediction, True)
    (missed,), _ = run(url, by_prediction, False)
    # What counts as legitimate because nobody reported it would be among the false alarms.
    run(url, "UPDATE transactions SET class = NULL, class_implied = false")
    report(database, {alarm: 0, right: 1, missed: 1})
    alarms = ana.get("/false_cases").text
    assert ids(alarms) == [alarm]
    assert re.findall(r'<td class="id">([^<]+)', ana.get("/false_cases?kind=false_negatives").text) == [
        missed
    ]
    prepare(app.app, database)
    board = ana.get("/dashboard").text
    counts = re.findall(r"<b>(\d+)</b><span>(frauds found|false alarms|frauds missed)", board)
    assert {name: int(count) for count, name in counts} == {
        "frauds found": 1,
        "false alarms": 1,
        "frauds missed": 1,
    }


# --- Failures -------------------------------------------------------------------------------------
def test_without_a_database_it_says_so(database: Database) -> None:
    app, _ = build("postgresql://fraud_audit:x@127.0.0.1:9/nothing")
    with pytest.raises(DatabaseUnavailable):
        app.run(lambda cursor: cursor.execute("SELECT 1"))
    with running_app(database) as running:
        object.__setattr__(running.app, "pool", app.pool)
        with browser(running.url) as one:
            assert one.get("/health/live").status_code == 200
            assert one.get("/health/ready").status_code == 503
            assert one.get("/login").status_code == 200
            answer = one.client.post("/login", data={"username": "ana", "password": PASSWORD})
            assert answer.status_code == 503
            assert "The database does not answer." in answer.text
            assert "Traceback" not in answer.text


def test_metrics_count_what_people_do(app: RunningApp, ana: Browser) -> None:
    first = first_case(ana.get("/manual_labeling"))
    ana.post(f"/manual_labeling/{first}", decision="fraud")
    value = app.app.metrics.registry.get_sample_value
    assert value("fraud_audit_labels_total", {"label": "fraud"}) == 1
    assert value("fraud_audit_logins_total", {"outcome": "ok"}) == 1
    labels = {"method": "POST", "route": "/manual_labeling/{case_id}", "status": "303"}
    assert value("fraud_audit_requests_total", labels) == 1


# --- The command line -----------------------------------------------------------------------------
def users(*arguments: str) -> Mapping[str, Any]:
    """`python -m fraud_audit users` in this process."""
    return command(["users", *arguments])


def with_password(database: Database, password: str, *arguments: str) -> tuple[int, str]:
    """The same as a process, with the password on standard input; its exit code and its last line."""
    done = subprocess.run(
        [sys.executable, "-m", "fraud_audit", "users", *arguments],
        input=f"{password}\n",
        env={
            **os.environ,
            "DATABASE_URL": database.url("audit"),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr.strip().splitlines()[-1]


def test_people_are_managed_on_the_command_line(
    app: RunningApp, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.url("audit"))
    new = "a long enough password"
    assert with_password(database, new, "add", "eve", "--role", "lead")[0] == 0
    code, reason = with_password(database, "short", "add", "mallory")
    assert (code, reason) == (1, "failed: A password has 12 to 1,024 characters.")
    with pytest.raises(PersonRefused, match="There is a person eve already"):
        users("add", "eve", "--random")
    with pytest.raises(PersonRefused, match="There is no person nobody"):
        users("lock", "nobody")
    with browser(app.url) as eve:
        assert eve.log_in("eve", new).status_code == 303
        made = users("passwd", "eve", "--random")["password"]
        assert eve.get("/").status_code == 303, "its sessions have ended"
        assert eve.log_in("eve", made).status_code == 303
        users("lock", "eve")
        assert eve.log_in("eve", made).status_code == 401
        users("unlock", "eve")
        assert eve.log_in("eve", made).status_code == 303
        users("role", "eve", "analyst")
        assert "analyst ·" in eve.get("/").text
    listed = users("list")
    assert list(mismatches(UsersResult, dict(listed))) == []
    assert [one["username"] for one in listed["people"]] == ["ada", "ana", "ben", "eve", "lea"]
    actions = run(database.url("owner"), "SELECT action FROM audit_log WHERE subject = 'person eve'")
    assert sorted(action for (action,) in actions) == [
        "person.added",
        "person.locked",
        "person.password_changed",
        "person.role_changed",
        "person.unlocked",
    ]


def test_the_first_administrator_is_made_where_there_is_nobody(database: Database) -> None:
    for _ in range(2):
        build(database.url("audit"), PASSWORD)[0].pool.close()
    assert run(database.url("owner"), "SELECT username, role FROM people") == [("admin", "admin")]
    # Also where the database comes up later, and never a second time.
    _, background = build("postgresql://fraud_audit:x@127.0.0.1:9/nothing", "another password")
    first = background._first
    assert first is not None
    with closing(connect(database.url("audit"), "test")) as connection, connection:
        first(connection.cursor())
    with running_app(database) as running, browser(running.url) as admin:
        assert admin.log_in("admin", "another password").status_code == 401
        assert admin.log_in("admin").status_code == 303


def test_it_is_served_with_its_metrics_until_a_signal(database: Database) -> None:
    port, metrics = free_ports(2)
    environment = {
        "DATABASE_URL": database.url("audit"),
        "AUDIT_PORT": str(port),
        "AUDIT_METRICS_PORT": str(metrics),
        "AUDIT_ADMIN_PASSWORD": PASSWORD,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    server = subprocess.Popen([sys.executable, "-m", "fraud_audit", "serve"], env=os.environ | environment)
    try:
        assert eventually(lambda: probes.http_ok(port, "/health/ready"), 60)
        add_decisions(database, 20)
        with browser(f"http://127.0.0.1:{port}") as admin:
            assert admin.log_in("admin").status_code == 303
            # The background opens cases by itself.
            assert eventually(lambda: first_case(admin.get("/manual_labeling")) is not None, 20)
        text = httpx.get(f"http://127.0.0.1:{metrics}/metrics", trust_env=False).text
        assert "fraud_audit_database_up 1.0" in text
        assert httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).status_code == 404
    finally:
        server.terminate()
        assert server.wait(30) == 0
