"""What the routes work with: settings, the database, and what is computed in the background."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar, cast

from fastapi import Depends, Request

from config.audit import AuditApp
from config.feedback import Feedback
from fraud_adapters.postgres.session import Cursor
from fraud_adapters.postgres.session_pool import SessionPool
from fraud_audit.metrics import Metrics
from fraud_audit.reference import Reference
from fraud_core.contract import Contract
from fraud_core.money import Costs

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AppSettings:
    """The settings of one instance.

    Attributes:
        secure: whether people reach it by HTTPS only; the session cookie is sent nowhere else then.
    """

    contract: Contract
    rules: AuditApp
    feedback: Feedback
    costs: Costs
    secure: bool


@dataclass(frozen=True, slots=True)
class App:
    """One instance of the web app."""

    settings: AppSettings
    pool: SessionPool
    reference: Reference
    metrics: Metrics

    def run(self, work: Callable[[Cursor], T]) -> T:
        """Run `work(cursor)` as one transaction.

        Raises:
            DatabaseUnavailable: the database cannot be reached.
        """
        return self.pool.run(work)


def _app(request: Request) -> App:
    return cast(App, request.app.state.app)


AppDependency = Annotated[App, Depends(_app)]
