"""Whether the configuration of a run fits the parameters of its DAG.

Airflow itself checks types and ignores keys that no parameter has. The rest is checked here, when the run is
created, from the `rule` that `fraud_airflow.parameters` puts into a parameter's schema: so it works where
only the serialised DAG is at hand, as in the API server. Only the standard library is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from config.constants import BUCKET_RUNS, MODEL_ALIASES

EXAMPLE: Final = "2026-01-31T12:00:00Z"
_SHOWN: Final = 200  # characters of keys that a sentence repeats
_FILE: Final = re.compile(rf"s3://{BUCKET_RUNS}/(?!(.*/)?\.\.(/|$)).+\.(csv|parquet)")
_VERSION: Final = re.compile(r"[1-9][0-9]{0,9}")
Schemas = Mapping[str, Mapping[str, Any]]


def conf_problem(
    conf: Mapping[str, Any], schemas: Schemas, values: Mapping[str, Any], now: datetime
) -> str | None:
    """What is wrong with the configuration of a run, in one sentence that names the key, or None.

    Args:
        conf: what the run was triggered with.
        schemas: the schema of each of the DAG's parameters.
        values: the value of each parameter, which is that of `conf` or its default.
    """
    if unknown := sorted(conf.keys() - schemas.keys()):
        known = f"it takes {', '.join(schemas)}" if schemas else "it takes no parameters"
        keys = ", ".join(unknown)[:_SHOWN]
        return f"The run was given {keys}, which this DAG does not read: {known}."
    rules = {name: dict(schema.get("rule") or {}) for name, schema in schemas.items()}
    given = {name: str(values[name]) for name, rule in rules.items() if rule and values.get(name)}
    return next(_problems(rules, given, now), None)


def _problems(rules: Mapping[str, dict[str, Any]], given: Mapping[str, str], now: datetime) -> Iterator[str]:
    for name, text in given.items():
        if problem := _value_problem(rules[name], text, now):
            yield f"{name} {problem}"
    sources = {rules[name]["source"]: name for name in given if rules[name].get("source")}
    if len(sources) > 1:
        first, second = list(sources.values())[:2]
        yield f"{first} and {second} name different sources: give one of them."
    for name, rule in rules.items():
        yield from _combination_problems(name, rule, given)


def _combination_problems(name: str, rule: Mapping[str, Any], given: Mapping[str, str]) -> Iterator[str]:
    if name not in given:
        other = rule.get("unless")
        if other is not None and other not in given:
            yield f"{name} is missing: give it, or {other}."
        return
    if (needed := rule.get("needs")) and needed not in given:
        yield f"{name} is given without {needed}: give both, or neither."
    for other in rule.get("excludes", ()):
        if other in given:
            yield f"{name} and {other} exclude each other: give one of them."
    end = str(rule.get("before"))
    if end in given:
        first, last = _moment(given[name]), _moment(given[end])
        if first is not None and last is not None and first >= last:
            yield f"{name} must be before {end}."


def _value_problem(rule: Mapping[str, Any], text: str, now: datetime) -> str | None:
    kind = rule.get("kind")
    if kind == "file" and not _FILE.fullmatch(text):
        return f"is not a file that jobs can read: write s3://{BUCKET_RUNS}/PATH.csv or .parquet."
    if kind == "model" and text not in MODEL_ALIASES and not _VERSION.fullmatch(text):
        return f"is neither a version nor an alias: write a number such as 3, or {', '.join(MODEL_ALIASES)}."
    if kind == "record" and text.isascii() and text.isdecimal():
        return None
    if kind not in {"moment", "record"}:
        return None
    moment = _moment(text)
    if moment is None:
        also = ", or an offset" if kind == "record" else ""
        return f"is not a time with a zone{also}: write one such as {EXAMPLE}."
    if kind == "moment" and moment > now:
        return "is in the future: give a time that has passed."
    return None


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment
