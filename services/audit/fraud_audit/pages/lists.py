"""Lists of decisions: frauds, legitimate ones, and where the prediction was wrong; also as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from fraud_adapters.postgres.decision_lists import (
    DecisionFilter,
    DecisionRow,
    Listing,
    Position,
    list_decisions,
)
from fraud_adapters.postgres.people import SignedIn
from fraud_audit import filters
from fraud_audit.access import PersonDependency
from fraud_audit.context import App, AppDependency
from fraud_audit.rendering import page, truth, zone_of
from fraud_core.spreadsheets import csv_lines

router = APIRouter()
EXPORT_ROWS: Final = 100_000
_EXPORT_PAGE: Final = 2000
_TITLES: Final = {
    Listing.FRAUDS: ("Frauds", "Decisions that the model took for fraud."),
    Listing.NON_FRAUDS: ("Legitimate", "Decisions that the model took for legitimate."),
    Listing.FALSE_POSITIVES: ("False alarms", "Taken for fraud, and legitimate as far as is known."),
    Listing.FALSE_NEGATIVES: ("Missed frauds", "Taken for legitimate, and fraud as is known now."),
}
_HEADER: Final = (
    "transaction_id",
    "prediction_time",
    "event_time",
    "amount",
    "card_id",
    "score",
    "decision",
    "predicted_fraud",
    "truth",
    "model_version",
    "case",
    "case_state",
)


@router.get("/frauds")
def show_frauds(request: Request, app: AppDependency, person: PersonDependency) -> Response:
    return _list(request, app, person, Listing.FRAUDS)


@router.get("/non_frauds")
def show_non_frauds(request: Request, app: AppDependency, person: PersonDependency) -> Response:
    return _list(request, app, person, Listing.NON_FRAUDS)


@router.get("/false_cases")
def show_false_cases(request: Request, app: AppDependency, person: PersonDependency) -> Response:
    return _list(request, app, person, _false_listing(request))


@router.get("/frauds.csv")
def export_frauds(request: Request, app: AppDependency, person: PersonDependency) -> Response:
    return _export(request, app, person, Listing.FRAUDS)


@router.get("/non_frauds.csv")
def export_non_frauds(request: Request, app: AppDependency, person: PersonDependency) -> Response:
    return _export(request, app, person, Listing.NON_FRAUDS)


@router.get("/false_cases.csv")
def export_false_cases(request: Request, app: AppDependency, person: PersonDependency) -> Response:
    return _export(request, app, person, _false_listing(request))


def _false_listing(request: Request) -> Listing:
    kinds = (Listing.FALSE_POSITIVES.value, Listing.FALSE_NEGATIVES.value)
    return Listing(filters.choice(request.query_params, "kind", kinds) or Listing.FALSE_POSITIVES)


def _list(request: Request, app: App, person: SignedIn, listing: Listing) -> Response:
    query = dict(request.query_params)
    chosen = filters.decision_filter(query, zone_of(person))
    after = filters.position(query)
    # One more than is shown says whether there is a next page.
    rows = app.run(lambda cursor: list_decisions(cursor, listing, chosen, filters.PAGE_ROWS + 1, after))
    shown = rows[: filters.PAGE_ROWS]
    more = len(rows) > filters.PAGE_ROWS
    title, subtitle = _TITLES[listing]
    path = request.url.path
    filtered = {name: query[name] for name in filters.NAMES if query.get(name)}
    values: dict[str, Any] = {
        "title": title,
        "subtitle": subtitle,
        "listing": listing,
        "rows": shown,
        "query": query,
        "filtered": filtered,
        "first": None if after is None else filters.address(path, query, after=None),
        "next": filters.address(path, query, after=filters.position_text(shown[-1].position))
        if more
        else None,
        "csv": filters.address(f"{path}.csv", query, after=None),
        "decisions": filters.DECISIONS,
        "truths": filters.TRUTHS,
        "clear": filters.address(path, {"kind": query.get("kind", "")}),
    }
    template = "_rows.html" if request.headers.get("hx-target") == "rows" else "list.html"
    return page(request, template, values)


def _export(request: Request, app: App, person: SignedIn, listing: Listing) -> Response:
    """The filtered list as CSV, at most `EXPORT_ROWS`; times are UTC."""
    chosen = filters.decision_filter(request.query_params, zone_of(person))
    first = _page_of(app, listing, chosen, None)
    lines = csv_lines(_HEADER, _cells(app, listing, chosen, first))
    name = f"{listing.value}.csv"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)


def _page_of(app: App, listing: Listing, chosen: DecisionFilter, after: Position | None) -> list[DecisionRow]:
    return app.run(lambda cursor: list_decisions(cursor, listing, chosen, _EXPORT_PAGE, after))


def _cells(
    app: App, listing: Listing, chosen: DecisionFilter, rows: list[DecisionRow]
) -> Iterator[Sequence[Any]]:
    written = 0
    while rows:
        for row in rows:
            yield _cells_of(row)
        written += len(rows)
        if len(rows) < _EXPORT_PAGE or written >= EXPORT_ROWS:
            return
        rows = _page_of(app, listing, chosen, rows[-1].position)


def _cells_of(row: DecisionRow) -> Sequence[Any]:
    return (
        row.transaction_id,
        row.prediction_time.isoformat(),
        row.event_time.isoformat(),
        row.amount,
        row.card_id,
        row.score,
        row.decision,
        row.is_fraud_predicted,
        truth(row.transaction_class, row.class_implied),
        row.model_version,
        row.case_id,
        row.case_state,
    )
