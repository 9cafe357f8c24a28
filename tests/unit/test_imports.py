"""Imports go downwards: service, adapters, core. And no module imports another that imports it.

Imports for types alone and inside functions count: a circle means that something two modules need is in one
of them, and a service that imports another cannot be built, tested or left out without it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BELOW_A_SERVICE = {"fraud_adapters", "fraud_core", "config"}
BELOW = {
    "config": {"fraud_core"},  # settings and parameters give back types of the core
    "fraud_core": set(),
    "fraud_adapters": {"fraud_core", "config"},
    # Airflow's packages are resolved apart from ours, and its image holds none of them.
    "fraud_airflow": {"config"},
    # It makes the environment in which the other packages are found.
    "fraud_launcher": {"config"},
    "fraud_embedded": {"config", "fraud_core", "fraud_adapters", "fraud_db", "fraud_launcher"},
}
# Where packages lie that are imported by their own names.
FOLDERS = [ROOT, ROOT / "db_init", ROOT / "airflow/plugins", *sorted((ROOT / "services").iterdir())]


def modules() -> dict[str, Path]:
    """Our modules by name."""
    sources = {}
    for folder in FOLDERS:
        for package in sorted(folder.glob("*/__init__.py")):
            for path in sorted(package.parent.rglob("*.py")):
                name = ".".join(path.relative_to(folder).with_suffix("").parts)
                sources[name.removesuffix(".__init__")] = path
    return sources


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


def package(module: str) -> str:
    return module.partition(".")[0]


def upward(sources: dict[str, Path]) -> set[tuple[str, str]]:
    """Imports of one package by another that it may not know: importer and imported."""
    return {
        (name, other)
        for name, path in sources.items()
        for other in imported(ast.parse(path.read_text(encoding="utf-8")), sources)
        if package(other) not in BELOW.get(package(name), BELOW_A_SERVICE) | {package(name)}
    }


def check(sources: dict[str, Path]) -> None:
    """Raises CycleError, which names a circle, if there is one."""
    graph = {
        name: set(imported(ast.parse(path.read_text(encoding="utf-8")), sources)) - {name}
        for name, path in sources.items()
    }
    TopologicalSorter(graph).prepare()


def test_our_modules_import_one_way() -> None:
    sources = modules()
    assert {"fraud_core.contract", "fraud_adapters.job", "fraud_airflow.runners.lock"} <= sources.keys()
    check(sources)


@pytest.mark.parametrize("indirect", ["import two", "from two import x", "def f():\n    import two"])
def test_a_circle_is_found(indirect: str, tmp_path: Path) -> None:
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text(indirect)
    two.write_text("if False:\n    from one import y\n")
    with pytest.raises(CycleError):
        check({"one": one, "two": two})


def test_our_packages_import_downwards() -> None:
    assert upward(modules()) == set()


@pytest.mark.parametrize(
    ("importer", "other"),
    [
        ("fraud_core.batch", "fraud_adapters.job"),
        ("fraud_adapters.job", "fraud_api.app"),
        ("fraud_streaming.consume", "fraud_api.app"),
        ("fraud_airflow.jobs", "fraud_core.batch"),
    ],
)
def test_an_import_upwards_is_found(importer: str, other: str, tmp_path: Path) -> None:
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text(f"def f():\n    from {other} import x\n")
    two.write_text("")
    assert upward({importer: one, other: two}) == {(importer, other)}
