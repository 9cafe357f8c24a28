"""What happens without a request: cases are opened, figures summarised, comparisons read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Final

import psycopg2

from fraud_adapters.job.failures import PassingFailure
from fraud_adapters.job.logs import get_logger
from fraud_adapters.postgres import case_queue, decision_hours
from fraud_adapters.postgres.session import Cursor, Session
from fraud_audit.context import App
from fraud_audit.reference import REFRESH_SECONDS

_SUMMARY_SECONDS: Final = 5.0
_HOURS: Final = 24  # that are summarised at once
_RETRY_SECONDS: Final = 2.0


class Background:
    """Runs in a thread of its own, with its own database session.

    `first` is done once, as soon as the database answers.
    """

    def __init__(self, app: App, url: str, first: Callable[[Cursor], object] | None = None) -> None:
        self._first = first
        self._app = app
        self._session = Session(url, "fraud_audit background")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="background", daemon=True)
        self._next_summary = self._next_reference = 0.0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=15)
        self._session.close()

    def work(self) -> None:
        """Do once what is due.

        Raises:
            DatabaseUnavailable: the database cannot be reached.
        """
        if self._first is not None:
            self._session.run(self._first)
            self._first = None
        opening = self._app.settings.rules.opening
        opened = opening.batch
        while opened >= opening.batch and not self._stop.is_set():
            opened = self._session.run(lambda cursor: case_queue.open_decided(cursor, opening))
            self._app.metrics.opened.inc(opened)
        feedback = self._app.settings.feedback
        disputed = self._session.run(
            lambda cursor: case_queue.open_disputed(cursor, feedback.dispute_due, opening.batch)
        )
        self._app.metrics.opened.inc(disputed)
        now = monotonic()
        if now >= self._next_summary:
            waiting = self._session.run(self._summarise)
            self._next_summary = now + (0 if waiting else _SUMMARY_SECONDS)
        if now >= self._next_reference:
            self._session.run(self._app.reference.refresh)
            self._next_reference = now + REFRESH_SECONDS

    def _summarise(self, cursor: Cursor) -> int:
        return decision_hours.summarise(cursor, _HOURS, self._app.settings.rules.opening.settle)

    def _run(self) -> None:
        pause = self._app.settings.rules.opening.every_seconds
        while not self._stop.is_set():
            try:
                self.work()
                self._app.metrics.database_up.set(1)
                self._stop.wait(pause)
            except (PassingFailure, psycopg2.Error) as error:
                self._app.metrics.database_up.set(0)
                get_logger(__name__).warning("background_waits", reason=" ".join(str(error).split()))
                self._stop.wait(_RETRY_SECONDS)
