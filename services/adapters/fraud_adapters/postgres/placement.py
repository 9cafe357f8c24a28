"""Maps the fields of a contract to the columns of the table `transactions`.

A number is stored in the column of its name (`time`, `v1` … `v28`, `amount`), or in `time` or `amount`
according to its role, if the column holds every value exactly. Card and merchant are stored in `card_id` and
`merchant_id`, the label in `class`. All other fields are keys of `attributes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fraud_core.contract import Contract
from fraud_core.fields import ContractField

# Precision and scale of the numeric columns.
NUMERIC_COLUMNS: Final = {
    "time": (10, 2),
    **{f"v{number}": (10, 6) for number in range(1, 29)},
    "amount": (15, 2),
}
_BY_ROLE: Final = {"clock": "time", "amount": "amount", "card": "card_id", "merchant": "merchant_id"}
_NAME_LENGTH: Final = 64


@dataclass(frozen=True, slots=True)
class Placement:
    """The columns of a contract's fields by field name, and the fields that are stored in `attributes`."""

    columns: dict[str, str]
    attributes: tuple[ContractField, ...]

    def expressions(self, contract: Contract) -> dict[str, str]:
        """SQL that reads each input field back, by field name: float8 for numeric fields, text for others."""
        return {field.name: self._expression(field) for field in contract.inputs}

    def _expression(self, field: ContractField) -> str:
        if field.name in self.columns:
            column = self.columns[field.name]
            return f"{column}::float8" if field.numeric else column
        # A field's name is made of letters, digits and underscores: it needs no escaping.
        value = f"(attributes ->> '{field.name}')"
        if field.type == "boolean":
            return f"{value}::boolean::integer::float8"
        return f"{value}::float8" if field.numeric else value


def placement(contract: Contract) -> Placement:
    """The column of each field of `contract` except the label."""
    names = {field.name for field in contract.inputs}
    columns: dict[str, str] = {}
    for field in contract.inputs:
        column = field.name if field.name in NUMERIC_COLUMNS else _BY_ROLE.get(field.role or "")
        taken = column != field.name and column in names
        if column is not None and not taken and _fits(field, column):
            columns[field.name] = column
    return Placement(columns, tuple(field for field in contract.inputs if field.name not in columns))


def _fits(field: ContractField, column: str) -> bool:
    if column not in NUMERIC_COLUMNS:
        return not field.numeric and max([field.max_length, *map(len, field.values)]) <= _NAME_LENGTH
    precision, scale = NUMERIC_COLUMNS[column]
    return (
        field.type in ("decimal", "integer")
        and field.scale <= scale
        and field.precision - field.scale <= precision - scale
    )
