"""Checks documents against their types in `config/job_results/`, which readers rely on."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict


def mismatches(kind: Any, value: Any, where: str = "result", *, shortened: bool = False) -> Iterator[str]:
    """The differences of `value`, read from JSON, from the type; one sentence each.

    A `shortened` document may lack any of its fields.
    """
    arguments = get_args(kind)
    if is_typeddict(kind):
        yield from _of_fields(kind, value, where, shortened)
    elif get_origin(kind) in {Union, types.UnionType}:
        if all(any(mismatches(one, value, where, shortened=shortened)) for one in arguments):
            yield f"{where} is {value!r}, not {kind}"
    elif get_origin(kind) is Literal:
        if value not in arguments or type(value) not in map(type, arguments):
            yield f"{where} is {value!r}, not one of {arguments}"
    elif get_origin(kind) is list and isinstance(value, list):
        for position, one in enumerate(value):
            yield from mismatches(arguments[0], one, f"{where}[{position}]", shortened=shortened)
    elif get_origin(kind) is dict and isinstance(value, dict):
        for name, one in value.items():
            yield from mismatches(arguments[1], one, f"{where}[{name!r}]", shortened=shortened)
    elif kind is not object and type(value) is not kind and not (kind is float and type(value) is int):
        yield f"{where} is {value!r}, not {kind}"


def _of_fields(kind: Any, value: Any, where: str, shortened: bool) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{where} is {value!r}, not a {kind.__name__}"
        return
    # With postponed annotations the class does not know which of its fields are optional.
    fields = get_type_hints(kind, include_extras=True)
    optional = {name for name, field in fields.items() if get_origin(field) is NotRequired}
    if (missing := fields.keys() - optional - value.keys()) and not shortened:
        yield f"{where} lacks {', '.join(sorted(missing))}"
    if unknown := value.keys() - fields.keys():
        yield f"{where} has {', '.join(sorted(unknown))}, which {kind.__name__} has not"
    for name, field in fields.items():
        if name in value:
            inner = get_args(field)[0] if name in optional else field
            yield from mismatches(inner, value[name], f"{where}.{name}", shortened=shortened)
