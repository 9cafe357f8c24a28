"""Transactions of any contract, as JSON documents: made up, but such as the API accepts."""

from __future__ import annotations

import random
import string
from collections.abc import Iterable
from typing import Any, Final

from fraud_core.contract import Contract
from fraud_core.fields import ContractField

NAMES: Final = 10_000  # cards and merchants there are
_TYPICAL: Final = 1.5  # spread of a number without bounds
_AMOUNT: Final = 20.0  # median of an amount


class RecordSource:
    """Draws records of a contract; the same from the same seed.

    The label is left out, as it is when a transaction arrives; a field that is not required is there half of
    the time. There is no id: the API makes one, so each record is a transaction of its own.
    """

    def __init__(self, contract: Contract, seed: int | None = None) -> None:
        self._fields = contract.inputs
        self._random = random.Random(seed)

    def record(self) -> dict[str, Any]:
        """One record."""
        return {
            field.name: self._value(field)
            for field in self._fields
            if field.required or self._random.random() < 0.5
        }

    def records(self, count: int) -> list[dict[str, Any]]:
        """Several records."""
        return [self.record() for _ in range(count)]

    def _value(self, field: ContractField) -> Any:
        if field.type == "boolean":
            return self._random.random() < 0.5
        if field.type == "category":
            return self._random.choice(field.values)
        if field.type == "text":
            return self._text(field)
        number = self._number(field)
        return int(number) if field.type == "integer" else number

    def _text(self, field: ContractField) -> str:
        if field.role in {"card", "merchant"}:
            return f"{field.role}-{self._random.randrange(NAMES)}"[-field.max_length :]
        length = self._random.randint(1, min(field.max_length, 20))
        return "".join(self._random.choices(string.ascii_letters, k=length))

    def _number(self, field: ContractField) -> float:
        step = 10.0**-field.scale
        low = -field.top + step if field.min is None else field.min
        high = min(_known((field.max, field.top - step)))
        if field.role == "amount":
            drawn = low + self._random.lognormvariate(0, 1) * _AMOUNT
        elif field.min is not None:
            drawn = self._random.uniform(low, high)
        else:
            drawn = self._random.gauss(0, _TYPICAL)
        return min(max(round(drawn, field.scale), low), round(high, field.scale))


def _known(bounds: Iterable[float | None]) -> list[float]:
    return [bound for bound in bounds if bound is not None]
