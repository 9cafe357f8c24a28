"""What benchmarks with a floor have in common: options, medians with their spread, and where results go."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from config.parameters import read_yaml
from config.settings import CONFIG_DIR
from fraud_core.contract import Contract

Run = dict[str, Any]


def parser(description: str | None) -> argparse.ArgumentParser:
    """One that shows the module's docstring as it is written."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="where the figures go as JSON")
    made.add_argument("--quick", action="store_true", help="shorter and fewer runs, to see that it works")
    return made


def parsed(
    parser: argparse.ArgumentParser, arguments: Sequence[str], quick: Mapping[str, Any]
) -> argparse.Namespace:
    """The options; with `--quick` those of `quick` are the defaults."""
    if "--quick" in arguments:
        parser.set_defaults(**quick)
    return parser.parse_args(arguments)


def numbers(text: str) -> list[int]:
    """`1,16,64`."""
    return [int(number) for number in text.split(",")]


def creditcard() -> Contract:
    """The contract that all of them measure with."""
    return Contract.from_mapping(read_yaml(CONFIG_DIR / "contracts" / "creditcard.yaml"))


def spread(values: Iterable[float], digits: int = 0) -> str:
    """The median, and in brackets the least and the most."""
    known = list(values)
    middle, least, most = (
        f"{value:,.{digits}f}" for value in (statistics.median(known), min(known), max(known))
    )
    return middle if len(known) == 1 else f"{middle} ({least}–{most})"


def median(runs: Iterable[Run], figure: str) -> float:
    """Of one figure."""
    return float(statistics.median(run[figure] for run in runs))


def save(path: Path | None, result: Mapping[str, Any]) -> None:
    """Write the figures where they are wanted."""
    if path is not None:
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
