"""What a person sees first: what waits, and how it stands."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from fraud_adapters.postgres import alerts, cases, decision_hours, deployments
from fraud_adapters.postgres.decision_hours import Span
from fraud_adapters.postgres.session import Cursor
from fraud_audit.access import PersonDependency
from fraud_audit.context import AppDependency
from fraud_audit.figures import quality
from fraud_audit.rendering import page, zone_of
from fraud_core.cases import Person

router = APIRouter()
_DAYS = 7


@router.get("/")
def show_overview(request: Request, app: AppDependency, person: PersonDependency) -> Response:
    now = datetime.now(UTC)
    zone = zone_of(person)
    today = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    actor = Person(person.username, person.role)

    def read(cursor: Cursor) -> dict[str, Any]:
        week = decision_hours.totals(cursor, Span(now - timedelta(days=_DAYS), now))
        trend = decision_hours.trend(cursor, Span(today - timedelta(days=_DAYS - 1), now), "day", zone.key)
        return {
            "health": cases.queue_health(cursor),
            "decided_today": cases.decided_today(cursor, actor, today),
            "own": cases.waiting_cases(cursor, 5, assignee=person.username),
            "next": cases.waiting_cases(cursor, 6),
            "week": quality(week, app.settings.costs),
            "alerts": alerts.list_alerts(cursor, 5, open_only=True),
            "open_alerts": alerts.open_alerts(cursor),
            "releases": deployments.latest_deployments(cursor, app.settings.contract.registered_model, 1),
            "days": _DAYS,
            "series": {
                "time": [moment.timestamp() for moment, _ in trend],
                "zone": zone.key,
                "flagged": [counts.flagged for _, counts in trend],
            },
        }

    return page(request, "overview.html", app.run(read))
