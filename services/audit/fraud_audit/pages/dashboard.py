"""How good the decisions are: quality on what is known, its trend, money, coverage and the queue."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from fraud_adapters.postgres import cases, decision_hours
from fraud_adapters.postgres.decision_hours import DecisionCounts, Period, Span
from fraud_adapters.postgres.session import Cursor
from fraud_audit import filters
from fraud_audit.access import PersonDependency
from fraud_audit.context import AppDependency
from fraud_audit.figures import quality
from fraud_audit.rendering import page, zone_of
from fraud_core.money import Costs

router = APIRouter()
PERIODS: Final = {"1": "24 hours", "7": "7 days", "30": "30 days", "90": "90 days", "365": "Year"}
_DEFAULT: Final = "7"
_HOURLY_DAYS: Final = 2  # up to here a point is an hour


@router.get("/dashboard")
def show_dashboard(request: Request, app: AppDependency, person: PersonDependency) -> Response:
    query = request.query_params
    days = filters.choice(query, "days", tuple(PERIODS)) or _DEFAULT
    version = filters.text(query, "version")
    until = datetime.now(UTC)
    since = until - timedelta(days=int(days))
    span, earlier = Span(since, until, version), Span(since - (until - since), since, version)
    period: Period = "hour" if int(days) <= _HOURLY_DAYS else "day"
    zone = zone_of(person).key

    def read(cursor: Cursor) -> dict[str, Any]:
        computed_at, waiting = decision_hours.computed(cursor)
        by_version = decision_hours.versions(cursor, Span(since, until))
        trend = decision_hours.trend(cursor, span, period, zone)
        return {
            "quality": quality(decision_hours.totals(cursor, span), app.settings.costs),
            "before": quality(decision_hours.totals(cursor, earlier), app.settings.costs),
            "versions": [(name, quality(counts, app.settings.costs)) for name, counts in by_version],
            "series": _series(trend, app.settings.costs) | {"zone": zone},
            "health": cases.queue_health(cursor),
            "computed_at": computed_at,
            "waiting_hours": waiting,
        }

    values = app.run(read) | {"days": days, "periods": PERIODS, "version": version, "period": period}
    return page(request, "dashboard.html", values)


def _series(trend: Sequence[tuple[datetime, DecisionCounts]], costs: Costs) -> dict[str, Any]:
    """Columns for the charts; a figure that is not defined is null."""
    points = [(moment, quality(counts, costs)) for moment, counts in trend]
    return {
        "time": [moment.timestamp() for moment, _ in points],
        "recall": [one.confusion.recall for _, one in points],
        "precision": [one.confusion.precision for _, one in points],
        "f1": [one.confusion.f1 for _, one in points],
        "decided": [one.counts.decided for _, one in points],
        "flagged": [one.counts.flagged for _, one in points],
        "saved": [one.money.saved for _, one in points],
        "lost": [one.money.lost for _, one in points],
        "coverage": [one.coverage for _, one in points],
    }
