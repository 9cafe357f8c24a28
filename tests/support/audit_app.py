"""The analysts' web app on a test's database, with people, decisions and cases."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

import httpx
import numpy as np
import uvicorn
from argon2 import PasswordHasher

from fraud_adapters.postgres import connect, people
from fraud_adapters.postgres.case_queue import open_decided
from fraud_adapters.postgres.decision_hours import summarise
from fraud_adapters.postgres.labels import store_labels
from fraud_adapters.postgres.scored_transactions import store_scored
from fraud_audit.app import create_app
from fraud_audit.background import Background
from fraud_audit.context import App
from fraud_audit.server import build
from fraud_core.labels import LabelEvent
from fraud_core.people import PersonRole
from tests.support.stored_rows import CREDITCARD, Database, batch, new_id, predictions, run

PASSWORD: Final = "correct horse battery staple"
PEOPLE: Final = {"ana": PersonRole.ANALYST, "ben": PersonRole.ANALYST, "lea": PersonRole.LEAD}


@cache
def _hash() -> str:
    # With parameters that take no time, which the hash itself says.
    return PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)


def add_people(database: Database, names: Mapping[str, PersonRole] = PEOPLE) -> None:
    """People who all have the same password."""
    with closing(connect(database.url("audit"), "test")) as connection, connection:
        for name, role in names.items():
            people.add_person(connection.cursor(), name, name.title(), _hash(), role)


def add_decisions(
    database: Database, count: int = 40, *, hours: float = 48.0, seed: int = 5, prefix: str = "case"
) -> list[str]:
    """Transactions decided within the last hours, a third of them review or block; returns their ids."""
    now = datetime.now(UTC)
    moments = [now - timedelta(hours=hours) * (1 - (row + 1) / count) for row in range(count)]
    rows = replace(batch(count, seed, prefix), event_times=moments)
    scores = np.random.default_rng(seed).beta(0.7, 1.2, count)
    decided = predictions(CREDITCARD, rows, scores=list(scores))
    kinds = ["block" if score > 0.8 else "review" if score >= 0.5 else "approve" for score in scores]
    with closing(connect(database.url("api"), "test")) as connection, connection:
        store_scored(connection.cursor(), CREDITCARD, rows, replace(decided, decisions=kinds), "api")
    # They were stored now; figures by hour need them where they happened.
    run(
        database.url("owner"),
        "UPDATE predictions p SET prediction_time = x.event_time FROM transactions x"
        " WHERE x.transaction_id = p.transaction_id AND p.transaction_id LIKE %s",
        f"{prefix}-%",
    )
    return list(rows.ids)


def report(database: Database, labels: Mapping[str, int], source: Any = "chargeback") -> None:
    """Labels that somebody else reported, by transaction."""
    now = datetime.now(UTC)
    events = [LabelEvent(new_id(), name, label, source, now) for name, label in labels.items()]
    with closing(connect(database.url("streaming"), "test")) as connection, connection:
        store_labels(connection.cursor(), events)


def prepare(app: App, database: Database, hours: int = 1000) -> None:
    """Open the cases, and compute all figures, as the background does."""
    with closing(connect(database.url("audit"), "test")) as connection, connection:
        open_decided(connection.cursor(), app.settings.rules.opening)
        summarise(connection.cursor(), hours, app.settings.rules.opening.settle)
        app.reference.refresh(connection.cursor())


@dataclass(frozen=True, slots=True)
class RunningApp:
    """The web app behind a real server."""

    address: str
    app: App
    background: Background

    @property
    def url(self) -> str:
        return f"http://{self.address}"


@contextmanager
def running_app(database: Database, *, background: bool = False) -> Iterator[RunningApp]:
    """Serve the web app; by default without what runs beside it, so that tests decide when it happens."""
    app, beside = build(database.url("audit"))

    def nothing() -> None:
        """Without background work there is nothing to start."""

    start, stop = (beside.start, beside.stop) if background else (nothing, nothing)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(create_app(app, start, stop), http="h11", log_config=None)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield RunningApp(f"127.0.0.1:{listener.getsockname()[1]}", app, beside)
        finally:
            server.should_exit = True
            thread.join(timeout=20)
            app.pool.close()


class Browser:
    """A person's browser: keeps the cookie, sends its origin, and fills in the token of the page."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, headers={"origin": url}, trust_env=False, timeout=30)
        self.token = ""

    def log_in(self, username: str, password: str = PASSWORD) -> httpx.Response:
        answer = self.client.post("/login", data={"username": username, "password": password})
        if answer.status_code == 303:
            self.token = token_of(self.get("/account").text)
        return answer

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.client.get(path, headers=headers)

    def post(self, path: str, headers: Mapping[str, str] | None = None, **fields: str) -> httpx.Response:
        return self.client.post(path, data={"csrf": self.token} | fields, headers=headers)


def token_of(page: str) -> str:
    """The token in a page against forged requests."""
    match = re.search(r'name="csrf" value="([^"]+)"', page)
    assert match, page[:500]
    return match[1]


@contextmanager
def browser(url: str, username: str | None = None) -> Iterator[Browser]:
    """A browser, logged in if a username is given."""
    one = Browser(url)
    try:
        if username is not None:
            assert one.log_in(username).status_code == 303
        yield one
    finally:
        one.client.close()
