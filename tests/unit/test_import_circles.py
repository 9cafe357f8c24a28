"""No module of ours imports another that imports it, at whatever time and for whatever reason.

Imports for types alone and inside functions count: a circle says that something two modules need lives in one
of them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Where packages lie that are imported by their own names.
FOLDERS = [ROOT, ROOT / "db_init", ROOT / "airflow/plugins", *sorted((ROOT / "services").iterdir())]


def modules() -> dict[str, Path]:
    """Our modules by name."""
    found = {}
    for folder in FOLDERS:
        for package in sorted(folder.glob("*/__init__.py")):
            for path in sorted(package.parent.rglob("*.py")):
                name = ".".join(path.relative_to(folder).with_suffix("").parts)
                found[name.removesuffix(".__init__")] = path
    return found


def imported(tree: ast.AST, known: dict[str, Path]) -> Iterator[str]:
    """The modules of `known` that a module's source names in its imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from names & known.keys()
            if node.module in known and not names <= known.keys():
                yield node.module


def check(sources: dict[str, Path]) -> None:
    """Raises CycleError, which names a circle, if there is one."""
    graph = {
        name: set(imported(ast.parse(path.read_text(encoding="utf-8")), sources)) - {name}
        for name, path in sources.items()
    }
    TopologicalSorter(graph).prepare()


def test_our_modules_import_one_way() -> None:
    found = modules()
    assert {"fraud_core.contract", "fraud_adapters.job", "fraud_airflow.runners.lock"} <= found.keys()
    check(found)


@pytest.mark.parametrize("indirect", ["import two", "from two import x", "def f():\n    import two"])
def test_a_circle_is_found(indirect: str, tmp_path: Path) -> None:
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text(indirect)
    two.write_text("if False:\n    from one import y\n")
    with pytest.raises(CycleError):
        check({"one": one, "two": two})
