"""The parameters of a run that a person starts: what the web UI shows as a form.

Each builder makes a typed `Param` with a title and a description; its schema holds a `rule`, by which
`fraud_airflow.conf` checks values when the run is created. Common to all builders are these rules:

- `source`: parameters of two sources cannot be given together.
- `needs`, `excludes`: the names of other parameters that must, or must not, be given too.
- `unless`: one of the two has to be given.
"""

from __future__ import annotations

from typing import Any, Final

from airflow.sdk import Param

from config.constants import ALIAS_CHAMPION, BUCKET_RUNS, MODEL_ALIASES
from fraud_airflow.conf import EXAMPLE

_MOMENT: Final = f"A past time with its zone, such as {EXAMPLE}."
_RECORD: Final = "A time with its zone, or an offset of each partition."
_FILE: Final = f"An object of the bucket {BUCKET_RUNS}: s3://{BUCKET_RUNS}/PATH.csv or .parquet."
_MODEL: Final = f"A version's number, or an alias: {', '.join(MODEL_ALIASES)}."


def flag(title: str, description: str) -> Param:
    """Yes or no; no if it is left out."""
    return Param(False, type="boolean", title=title, description=description)


def text(
    title: str, description: str, *, kind: str = "text", default: str | None = None, **more: Any
) -> Param:
    """A text that may be left out; `more` are rules, and `examples`, which the form offers."""
    shown = {name: more.pop(name) for name in ("examples", "format", "enum") if name in more}
    rule = {"kind": kind, **more}
    return Param(default, type=["null", "string"], title=title, description=description, rule=rule, **shown)


def moment(title: str, description: str, **rules: Any) -> Param:
    """A time that has passed; the form shows a calendar. `before` names one that must be later."""
    return text(title, f"{description} {_MOMENT}", kind="moment", format="date-time", **rules)


def interval(what: str, first: str, end: str, **rules: Any) -> dict[str, Param]:
    """Two times, the end excluded; each may be left out. `what` is the plural of what they select."""
    return {
        first: moment(f"{what} from", f"Leave out {what.lower()} before this time.", before=end, **rules),
        end: moment(f"{what} to", f"Leave out {what.lower()} from this time on.", **rules),
    }


def file(title: str, description: str, **rules: Any) -> Param:
    """A CSV or Parquet file in the object store."""
    return text(title, f"{description} {_FILE}", kind="file", **rules)


def record(title: str, description: str, **rules: Any) -> Param:
    """A position in a topic."""
    return text(title, f"{description} {_RECORD}", kind="record", **rules)


def model(title: str, description: str, *, default: str = ALIAS_CHAMPION, **rules: Any) -> Param:
    """A version of the model, or an alias of one."""
    return text(
        title, f"{description} {_MODEL}", kind="model", default=default, examples=list(MODEL_ALIASES), **rules
    )
