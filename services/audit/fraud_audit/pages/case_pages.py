"""Cases: the queue that is worked off with one key each, a case's own page, and lists of cases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from fraud_adapters.postgres import case_evidence, cases, people
from fraud_adapters.postgres.session import Cursor
from fraud_audit import filters
from fraud_audit.access import FormDependency, PersonDependency, PostedForm
from fraud_audit.context import App, AppDependency
from fraud_audit.refusals import PageRefused
from fraud_audit.rendering import page, zone_of
from fraud_core.cases import Action, ActionRefused, CaseState, Origin, Person, change

router = APIRouter()
_EARLIER: Final = 8
_UP_NEXT: Final = 6
_MAX_NOTE: Final = 2000
_LABELS: Final = {"fraud": 1, "legitimate": 0}
# The buttons of the queue.
_DECISIONS: Final = {
    "fraud": Action.LABEL,
    "legitimate": Action.LABEL,
    "skip": Action.SKIP,
    "escalate": Action.ESCALATE,
    "release": Action.RELEASE,
}
_KINDS: Final = ("escalated", "overdue", "assigned", *(origin.value for origin in Origin))
_QUEUE: Final = "/manual_labeling"


# --- The queue ------------------------------------------------------------------------------------
@router.get(_QUEUE)
def show_queue(request: Request, app: AppDependency, person: PersonDependency) -> Response:
    actor = Person(person.username, person.role)
    values = app.run(lambda cursor: _next_case(cursor, app, actor, request))
    template = "_workspace.html" if _is_partial(request) else "labeling.html"
    return page(request, template, values | {"notice": None, "problem": None})


@router.post("/manual_labeling/undo")
def undo_last(request: Request, app: AppDependency, form: FormDependency) -> Response:
    """Take back the person's last decision; its case is before them again."""

    def undo(cursor: Cursor) -> str | None:
        last = cases.last_decision(cursor, form.actor, app.settings.rules.cases.undo)
        if last is None:
            return "There is no decision of yours that can still be undone; reopen the case instead."
        cases.act(cursor, last[0], Action.UNDO, form.actor, app.settings.rules.cases)
        return None

    return _worked(request, app, form, undo, "The decision is undone.")


@router.post("/manual_labeling/{case_id}")
def work_off(request: Request, app: AppDependency, form: FormDependency, case_id: int) -> Response:
    """Label, skip or escalate the case before the person, and show the next one."""
    decision = form.fields.get("decision", "")
    if decision not in _DECISIONS:
        raise PageRefused(400, f"decision: must be one of {', '.join(_DECISIONS)}.")
    action = _DECISIONS[decision]
    label = _LABELS.get(decision)
    note = form.text("note", _MAX_NOTE) or None

    def act(cursor: Cursor) -> str | None:
        cases.act(cursor, case_id, action, form.actor, app.settings.rules.cases, label=label, note=note)
        return None

    notices = {
        Action.LABEL: f"Case {case_id} is labelled as {decision}.",
        Action.SKIP: f"Case {case_id} is skipped.",
        Action.ESCALATE: f"Case {case_id} is escalated to a lead.",
        Action.RELEASE: f"Case {case_id} is back in the queue.",
    }
    response = _worked(request, app, form, act, notices[action])
    if action is Action.LABEL and response.status_code in {200, 303}:
        app.metrics.labels.labels("fraud" if label else "legitimate").inc()
    return response


def _worked(
    request: Request, app: App, form: PostedForm, act: Callable[[Cursor], str | None], notice: str
) -> Response:
    """Act and take the next case in one transaction, and show it; `act` returns what is wrong, or None."""

    def work(cursor: Cursor) -> tuple[str | None, dict[str, Any]]:
        try:
            problem = act(cursor)
        except ActionRefused as refusal:
            problem = str(refusal)
        return problem, _next_case(cursor, app, form.actor, request)

    problem, values = app.run(work)
    if not _is_partial(request) and problem is None:
        return RedirectResponse(_QUEUE, 303)
    template = "_workspace.html" if _is_partial(request) else "labeling.html"
    shown = values | {"notice": None if problem else notice, "problem": problem}
    return page(request, template, shown, status=409 if problem else 200)


def _next_case(cursor: Cursor, app: App, actor: Person, request: Request) -> dict[str, Any]:
    rules = app.settings.rules.cases
    case_id = cases.take_next(cursor, actor, rules)
    values = {"case": None} if case_id is None else _case(cursor, app, case_id)
    today = datetime.now(UTC).astimezone(zone_of(request.state.person))
    midnight = today.replace(hour=0, minute=0, second=0, microsecond=0)
    return values | {
        "up_next": [
            one
            for one in cases.waiting_cases(cursor, _UP_NEXT + 1)
            if one.case_id != case_id and one.state == "open"
        ][:_UP_NEXT],
        "last": cases.last_decision(cursor, actor, rules.undo),
        "decided_today": cases.decided_today(cursor, actor, midnight),
        "lock": rules.lock,
        "undo_seconds": rules.undo.total_seconds(),
    }


# --- A case ---------------------------------------------------------------------------------------
@router.get("/cases/{case_id}")
def show_case(request: Request, app: AppDependency, person: PersonDependency, case_id: int) -> Response:
    return _case_page(request, app, case_id)


@router.post("/cases/{case_id}")
def act_on_case(request: Request, app: AppDependency, form: FormDependency, case_id: int) -> Response:
    action = _action(form, tuple(Action))
    label = _label(form) if action is Action.LABEL else None
    to = form.text("to", 64) or None
    note = form.text("note", _MAX_NOTE) or None
    if action is Action.NOTE and note is None:
        return _case_page(request, app, case_id, problem="Write a note first.", status=400)

    def act(cursor: Cursor) -> None:
        if to is not None and to not in dict(people.active_people(cursor)):
            raise ActionRefused(f"There is no active person {to!r}.")
        cases.act(
            cursor, case_id, action, form.actor, app.settings.rules.cases, label=label, to=to, note=note
        )

    try:
        app.run(act)
    except ActionRefused as refusal:
        return _case_page(request, app, case_id, problem=str(refusal), status=409)
    if action is Action.LABEL:
        app.metrics.labels.labels("fraud" if label else "legitimate").inc()
    return RedirectResponse(f"/cases/{case_id}", 303)


@router.post("/cases")
def open_case(request: Request, app: AppDependency, form: FormDependency) -> Response:
    """Open a case about a transaction, or lead to the one there is."""
    transaction_id = form.text("transaction_id", 50)
    case_id = app.run(lambda cursor: cases.open_for_person(cursor, transaction_id, form.actor))
    if case_id is None:
        raise PageRefused(404, f"There is no transaction {transaction_id!r}.")
    return RedirectResponse(f"/cases/{case_id}", 303)


@router.get("/cases")
def show_cases(request: Request, app: AppDependency, person: PersonDependency) -> Response:
    """What waits, in the order of the queue; or what was decided, the newest first."""
    query = dict(request.query_params)
    view = filters.choice(query, "view", ("waiting", "own", "closed", "decided")) or "waiting"
    kind = filters.choice(query, "kind", _KINDS)
    if transaction_id := filters.text(query, "q"):
        found = app.run(lambda cursor: cases.case_of(cursor, transaction_id))
        if found is None and transaction_id.isdecimal() and len(transaction_id) < 18:
            found = int(transaction_id)
        if found is not None:
            return RedirectResponse(f"/cases/{found}", 303)
    waits = view in {"waiting", "own"}
    limit = filters.PAGE_ROWS + 1

    def read(cursor: Cursor) -> list[cases.CaseSummary]:
        if waits:
            mine = person.username if view == "own" else None
            return cases.waiting_cases(cursor, limit, kind=kind, assignee=mine, after=_queue_position(query))
        before = filters.number_pair(query, "after")
        at = None if before is None else (filters.from_micros(before[0]), before[1])
        by = person.username if view == "decided" else None
        return cases.closed_cases(cursor, limit, decided_by=by, before=at)

    rows = app.run(read)
    shown = rows[: filters.PAGE_ROWS]
    more = len(rows) > filters.PAGE_ROWS
    values = {
        "view": view,
        "kind": kind,
        "kinds": _KINDS,
        "rows": shown,
        "query": query,
        "searched": query.get("q"),
        "next": filters.address(request.url.path, query, after=_after(shown[-1])) if more else None,
        "first": filters.address(request.url.path, query, after=None) if query.get("after") else None,
    }
    return page(request, "cases.html", values)


def _case_page(
    request: Request, app: App, case_id: int, *, problem: str | None = None, status: int = 200
) -> Response:
    actor = Person(request.state.person.username, request.state.person.role)

    def read(cursor: Cursor) -> dict[str, Any] | None:
        values = _case(cursor, app, case_id)
        return values | {"people": people.active_people(cursor)} if values["case"] else None

    values = app.run(read) if case_id < 2**62 else None
    if values is None:
        raise PageRefused(404, f"There is no case {case_id}.")
    allowed = {action.value for action in Action if _allows(app, values["case"], action, actor)}
    return page(request, "case.html", values | {"problem": problem, "allowed": allowed}, status=status)


def _case(cursor: Cursor, app: App, case_id: int) -> dict[str, Any]:
    """A case with everything that is shown of it."""
    case = cases.read_case(cursor, case_id)
    if case is None:
        return {"case": None}
    contract = app.settings.contract
    vector = case_evidence.feature_vector(cursor, case.transaction_id)
    near = [] if vector is None else app.reference.similar(case.transaction_id, vector, _EARLIER)
    card = (
        case_evidence.earlier_of_card(cursor, case.card_id, case.event_time, _EARLIER) if case.card_id else []
    )
    fields = app.reference.fields(case_evidence.values_of(cursor, contract, case.transaction_id))
    return {
        "case": case,
        "fields": fields,
        "unusual": sum(field.is_unusual for field in fields),
        "of_card": card,
        "similar": case_evidence.earlier_by_id(cursor, near) if near else [],
        "reports": case_evidence.label_reports(cursor, case.transaction_id),
        "events": cases.events_of(cursor, case_id, limit=50),
    }


def _allows(app: App, case: cases.Case, action: Action, actor: Person) -> bool:
    """Whether the person may act, so that the page offers nothing that would be refused."""
    try:
        rules = app.settings.rules.cases
        change(case.status, action, actor, case.read_at, rules, label=0, to=f"not {case.status.assignee}")
    except ActionRefused:
        return False
    is_repeated = action is Action.TAKE and case.holder == actor.username
    return not is_repeated


def _action(form: PostedForm, allowed: tuple[Action, ...]) -> Action:
    try:
        action = Action(form.fields.get("action", ""))
    except ValueError:
        action = None
    if action not in allowed:
        raise PageRefused(400, f"action: must be one of {', '.join(allowed)}.")
    return action


def _label(form: PostedForm) -> int:
    label = _LABELS.get(form.fields.get("label", ""))
    if label is None:
        raise PageRefused(400, "label: must be fraud or legitimate.")
    return label


def _is_partial(request: Request) -> bool:
    return request.headers.get("hx-request") == "true"


def _after(row: cases.CaseSummary) -> str:
    if row.state == CaseState.CLOSED and row.closed_at is not None:
        return f"{filters.micros(row.closed_at)}.{row.case_id}"
    # The priority to the last bit: a rounded one would skip or repeat rows.
    return f"{int(row.escalated)}_{row.priority.hex()}_{row.case_id}"


def _queue_position(query: dict[str, str]) -> tuple[bool, float, int] | None:
    value = query.get("after")
    if not value:
        return None
    try:
        escalated, priority, case_id = value.split("_")
        return escalated == "1", float.fromhex(priority), int(case_id)
    except (ValueError, OverflowError):
        raise PageRefused(
            400, "after: this is not a position in the list; begin with its first page."
        ) from None
