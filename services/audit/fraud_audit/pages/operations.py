"""Releases of models, and alerts: what analysts should know of what runs."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from fraud_adapters.postgres import alerts, deployments
from fraud_adapters.postgres.session import Cursor
from fraud_audit import filters
from fraud_audit.access import PersonDependency
from fraud_audit.context import AppDependency
from fraud_audit.rendering import page

router = APIRouter()
_RELEASES: Final = 30
_SEVERITIES: Final = ("critical", "high", "medium")


@router.get("/deployments")
def show_deployments(request: Request, app: AppDependency, person: PersonDependency) -> Response:
    name = app.settings.contract.registered_model

    def read(cursor: Cursor) -> dict[str, Any]:
        releases = deployments.latest_deployments(cursor, name, _RELEASES)
        events = {
            one.deployment_id: deployments.events_of(cursor, one.deployment_id)[-12:] for one in releases[:5]
        }
        return {"releases": releases, "events": events, "model": name}

    return page(request, "deployments.html", app.run(read))


@router.get("/alerts")
def show_alerts(request: Request, app: AppDependency, person: PersonDependency) -> Response:
    query = dict(request.query_params)
    severity = filters.choice(query, "severity", _SEVERITIES)
    state = filters.choice(query, "state", ("open", "all")) or "open"
    pair = filters.number_pair(query, "after")
    before = None if pair is None else (filters.from_micros(pair[0]), pair[1])

    def read(cursor: Cursor) -> dict[str, Any]:
        rows = alerts.list_alerts(
            cursor, filters.PAGE_ROWS + 1, severity=severity, open_only=state == "open", before=before
        )
        return {"rows": rows, "open": alerts.open_alerts(cursor)}

    values = app.run(read)
    shown = values["rows"][: filters.PAGE_ROWS]
    more = len(values["rows"]) > filters.PAGE_ROWS
    after = f"{filters.micros(shown[-1].raised_at)}.{shown[-1].alert_id}" if more else None
    values |= {
        "rows": shown,
        "severity": severity,
        "severities": _SEVERITIES,
        "state": state,
        "query": query,
        "next": filters.address(request.url.path, query, after=after) if more else None,
    }
    return page(request, "alerts.html", values)
