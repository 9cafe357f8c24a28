"""Checks dashboards against the schema that Grafana publishes, in the form of its Foundation SDK's types."""

from __future__ import annotations

import enum
import json
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from grafana_foundation_sdk.cog import plugins, runtime
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

# Panels' options, field configuration and queries are types of their own, which are found by name.
plugins.register_default_plugins()
# The SDK has no type for the queries of the Postgres data source: what Grafana's own editor writes.
SQL_TARGET: Final = {"datasource", "editorMode", "format", "rawQuery", "rawSql", "refId"}


def problems(document: Mapping[str, Any]) -> list[str]:
    """What the schema does not allow: unknown fields and kinds of panels, values of other types."""
    found = [
        f"panels: there is no kind of panel {panel['type']!r}"
        for panel in document["panels"]
        if runtime.panelcfg_config(panel["type"]) is None
    ]
    return [*found, *_mistyped(dict(document), Dashboard, "dashboard")]


def _unknown(stored: Any, known: Any, path: str) -> Iterator[str]:
    """Fields that reading them by the schema loses."""
    if isinstance(stored, Mapping):
        for name, value in stored.items():
            if name not in known:
                yield f"{path}: there is no field {name!r}"
            else:
                yield from _unknown(value, known[name], f"{path}.{name}")
    elif isinstance(stored, list):
        for index, value in enumerate(stored):
            yield from _unknown(value, known[index], f"{path}[{index}]")


def _mistyped(value: Any, hint: Any, path: str) -> Iterator[str]:
    """Values that are not of the type that the schema declares."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in {typing.Union, types.UnionType}:
        yield from _mistyped_union(value, arguments, path)
    elif origin is typing.Literal:
        if value not in arguments:
            yield f"{path}: {value!r} is none of {arguments}"
    elif origin in {list, dict}:
        yield from _mistyped_items(value, origin, arguments, path)
    elif isinstance(hint, type):
        yield from _mistyped_value(value, hint, path)


def _mistyped_union(value: Any, choices: tuple[Any, ...], path: str) -> Iterator[str]:
    """What keeps a value from being of the type that it comes nearest to."""
    own = [one for one in choices if type(value) is one]
    others = [one for one in choices if one is not type(None)]
    yield from min((list(_mistyped(value, one, path)) for one in own or others), key=len)


def _mistyped_items(value: Any, kind: Any, arguments: tuple[Any, ...], path: str) -> Iterator[str]:
    if type(value) is not kind:
        yield f"{path}: {value!r} is no {kind.__name__}"
        return
    items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield from _mistyped(item, arguments[-1], f"{path}[{key}]")


def _mistyped_value(value: Any, hint: type, path: str) -> Iterator[str]:
    if issubclass(hint, enum.Enum):
        if value not in [one.value for one in hint]:
            yield f"{path}: {value!r} is no {hint.__name__}"
    elif hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield f"{path}: {value!r} is no number"
    elif isinstance(value, dict) and hasattr(hint, "from_json"):
        decoded = hint.from_json(value)
        yield from _unknown(value, json.loads(JSONEncoder().encode(decoded)), path)
        yield from _mistyped_fields(decoded, path)
    elif not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        yield f"{path}: {value!r} is no {hint.__name__}"
    else:
        yield from _mistyped_fields(value, path)


def _mistyped_fields(value: Any, path: str) -> Iterator[str]:
    """The fields of a type of the SDK; a panel's options and queries are declared as any object."""
    module = sys.modules[type(value).__module__]
    if not module.__name__.startswith("grafana_foundation_sdk.models."):
        return
    for name, hint in typing.get_type_hints(type(value), vars(module)).items():
        field = getattr(value, name)
        declared = (
            type(field) if hint is object or (isinstance(hint, type) and isinstance(field, hint)) else hint
        )
        yield from _mistyped(field, declared, f"{path}.{name}")
