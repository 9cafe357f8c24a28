"""Executes a notebook and keeps the result: `./fraud notebook`.

The executed copy and its pictures go to `.local/notebooks`; the notebook itself, which is in git, stays without
outputs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT: Final = Path(__file__).resolve().parents[1]
NOTEBOOK: Final = ROOT / "notebooks" / "first_model.ipynb"
RESULTS: Final = ROOT / ".local" / "notebooks"
PARAMETERS: Final = "parameters"  # the tag of the cell whose values `--set` replaces
SECONDS: Final = 300  # the most that one cell may take


def execute(notebook: Path, values: Mapping[str, int] | None = None) -> Any:
    """The executed notebook.

    Args:
        values: replace those of the cell that is tagged `parameters`.

    Raises:
        CellExecutionError: a cell failed.
        ValueError: a value has a name that the cell does not have.
    """
    document = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    _set(document, values or {})
    NotebookClient(
        document,
        timeout=SECONDS,
        kernel_name="python3",
        # The kernel listens on this machine alone and checks signatures, and says so at every start.
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(notebook.parent)}},
    ).execute()
    return document


def _set(document: Any, values: Mapping[str, int]) -> None:
    cell = next(cell for cell in document.cells if PARAMETERS in cell.metadata.get("tags", ()))
    names = [line.partition(" = ")[0] for line in cell.source.splitlines()]
    if unknown := sorted(values.keys() - set(names)):
        raise ValueError(f"the notebook has no parameter {unknown[0]}; it has {', '.join(names)}")
    cell.source = "\n".join([cell.source, *(f"{name} = {value}" for name, value in values.items())])


def text_of(document: Any) -> str:
    """What the cells printed."""
    outputs = [output for cell in document.cells for output in cell.get("outputs", ())]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def pictures_of(document: Any) -> list[str]:
    """The SVG pictures that the cells showed."""
    outputs = [output for cell in document.cells for output in cell.get("outputs", ())]
    return [output.data["image/svg+xml"] for output in outputs if "image/svg+xml" in output.get("data", {})]


def save(document: Any, notebook: Path, folder: Path) -> list[Path]:
    """Write the executed notebook and its pictures; the files written."""
    folder.mkdir(parents=True, exist_ok=True)
    executed = folder / notebook.name
    nbformat.write(document, executed)  # type: ignore[no-untyped-call]
    written = [executed]
    for number, picture in enumerate(pictures_of(document), start=1):
        written.append(folder / f"{notebook.stem}-{number}.svg")
        written[-1].write_text(picture, encoding="utf-8")
    return written


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./fraud notebook", description=__doc__)
    parser.add_argument("notebook", nargs="?", type=Path, default=NOTEBOOK)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="another value of the cell that is tagged parameters, such as DAYS=10",
    )
    options = parser.parse_args(arguments)
    pairs = [text.partition("=") for text in options.set]
    if wrong := [name for name, _, value in pairs if not value.isascii() or not value.isdigit()]:
        parser.error(f"argument --set: {wrong[0]}: must be NAME=NUMBER")
    started = time.monotonic()
    print(f"Executing {options.notebook} …", file=sys.stderr, flush=True)
    try:
        document = execute(options.notebook, {name: int(value) for name, _, value in pairs})
    except (CellExecutionError, ValueError, OSError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    print(text_of(document), end="")
    written = save(document, options.notebook, RESULTS)
    files = ", ".join(map(str, written))
    print(f"Executed in {time.monotonic() - started:.0f} s; see {files}.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
