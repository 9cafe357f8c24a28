"""Renders pages: the templates, and how values are shown to a person."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context, select_autoescape
from jinja2.runtime import Context
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

from fraud_adapters.postgres.people import SignedIn

HERE: Final = Path(__file__).parent
_UTC: Final = ZoneInfo("UTC")
_UNKNOWN: Final = "–"
# Where the navigation leads; the groups are separated.
NAVIGATION: Final = (
    (("/", "Overview", "home"), ("/manual_labeling", "Review queue", "queue"), ("/cases", "Cases", "cases")),
    (
        ("/dashboard", "Dashboard", "chart"),
        ("/frauds", "Frauds", "fraud"),
        ("/non_frauds", "Legitimate", "check"),
        ("/false_cases", "False cases", "cross"),
    ),
    (("/deployments", "Deployments", "rocket"), ("/alerts", "Alerts", "bell")),
)


def zone_of(person: SignedIn | None) -> ZoneInfo:
    """The time zone in which a person sees times."""
    return parse_zone(person.time_zone if person else None) or _UTC


def parse_zone(name: str | None) -> ZoneInfo | None:
    """The time zone of that name; None if there is none."""
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def page(
    request: Request, template: str, values: Mapping[str, Any] | None = None, *, status: int = 200
) -> HTMLResponse:
    """A page, or a part of one, for the request's person."""
    person = getattr(request.state, "person", None)
    context = {
        "person": person,
        "zone": zone_of(person),
        "path": request.url.path,
        "navigation": NAVIGATION,
        "now": datetime.now(UTC),
        **(values or {}),
    }
    return HTMLResponse(_environment.get_template(template).render(context), status)


# --- Filters --------------------------------------------------------------------------------------
@pass_context
def _time(context: Context, moment: datetime | None, style: str = "full") -> str:
    """A moment in the person's zone; the zone's own name stands in its title."""
    if moment is None:
        return _UNKNOWN
    local = moment.astimezone(context["zone"])
    formats = {"full": "%Y-%m-%d %H:%M:%S", "short": "%d %b %H:%M", "day": "%Y-%m-%d"}
    title = escape(f"{local:%A, %d %B %Y %H:%M:%S} {local.tzname()}")
    text = f"{local:{formats[style]}}"
    return Markup(f'<time datetime="{moment.isoformat()}" title="{title}">{text}</time>')  # noqa: S704


@pass_context
def _ago(context: Context, moment: datetime | None) -> str:
    """How long ago a moment was, or in how long it will be."""
    if moment is None:
        return _UNKNOWN
    seconds = (context["now"] - moment).total_seconds()
    text = duration(abs(seconds))
    words = "just now" if abs(seconds) < 1 else f"{text} ago" if seconds >= 0 else f"in {text}"
    local = moment.astimezone(context["zone"])
    title = escape(f"{local:%Y-%m-%d %H:%M:%S} {local.tzname()}")
    return Markup(f'<time datetime="{moment.isoformat()}" title="{title}">{words}</time>')  # noqa: S704


def duration(value: float | timedelta | None) -> str:
    """A time in its largest unit and the next smaller one."""
    if value is None:
        return _UNKNOWN
    seconds = round(value.total_seconds() if isinstance(value, timedelta) else value)
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    parts: list[str] = []
    for name, size in units:
        amount, seconds = divmod(seconds, size)
        if parts:
            return " ".join(parts + ([f"{amount} {name}"] if amount else []))
        if amount or name == "s":
            parts.append(f"{amount} {name}")
    return parts[0]


def money(value: float | None) -> str:
    """An amount, with thousands separated; the contract knows no currency."""
    if value is None or math.isnan(value):
        return _UNKNOWN
    text = f"{abs(value):,.2f}" if abs(value) < 10_000 else f"{abs(value):,.0f}"
    return f"−{text}" if value < 0 else text


def count(value: int | None) -> str:
    return _UNKNOWN if value is None else f"{value:,}"


def percent(value: float | None, digits: int = 1) -> str:
    return _UNKNOWN if value is None else f"{100 * value:.{digits}f} %"


def score(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.4f}"


def number(value: Any) -> str:
    """A field's value: a number without needless digits, or a text."""
    if value is None:
        return _UNKNOWN
    if isinstance(value, float):
        return f"{value:,.6f}".rstrip("0").rstrip(".") if abs(value) < 1e12 else f"{value:g}"
    return str(value)


def truth(transaction_class: int | None, implied: bool | None) -> str:
    """What is known of a transaction, in a word."""
    if transaction_class is None:
        return "unknown"
    if transaction_class:
        return "fraud"
    return "legitimate (nobody reported it)" if implied else "legitimate"


def script_json(value: Any) -> str:
    """JSON for a data block in a page: it can contain no tag."""
    text = json.dumps(value, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - nothing in it is markup any more


def _create_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "time": _time,
        "ago": _ago,
        "duration": duration,
        "money": money,
        "count": count,
        "percent": percent,
        "score": score,
        "number": number,
        "script_json": script_json,
    }
    environment.globals |= {"truth": truth}
    return environment


_environment: Final = _create_environment()
