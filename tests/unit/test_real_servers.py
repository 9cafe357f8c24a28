"""Tests outside `tests/unit` run the code as it is: none of it is replaced while they run."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
REAL = ("integration", "faults", "dags", "browser", "stack")
EXCEPTIONS = frozenset(
    {
        # Chooses between two real ways to store a batch, so that the same tests run over both.
        "integration/store_paths.py",
        # Kills a real worker at a known point of the work: wraps the real function, and calls it.
        "integration/test_dask.py",
        "integration/test_dask_engine.py",
    }
)
REPLACES = frozenset({"setattr", "delattr", "setitem", "delitem"})


def replacements(source: str) -> list[str]:
    """The lines that replace a part of a program by pytest's `monkeypatch`, or import a library of mocks."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if (isinstance(node, ast.Attribute) and node.attr in REPLACES) or _imports_mocks(node):
            found.append(ast.unparse(node))
    return found


def _imports_mocks(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == "unittest.mock" or (
            node.module == "unittest" and any(alias.name == "mock" for alias in node.names)
        )
    return isinstance(node, ast.Import) and any(alias.name == "unittest.mock" for alias in node.names)


@pytest.mark.parametrize("folder", REAL)
def test_nothing_is_replaced(folder: str) -> None:
    files = sorted((TESTS / folder).rglob("*.py"))
    assert files
    found = {str(path.relative_to(TESTS)): replacements(path.read_text(encoding="utf-8")) for path in files}
    assert {path: lines for path, lines in found.items() if lines and path not in EXCEPTIONS} == {}


@pytest.mark.parametrize(
    "source",
    [
        "def test(monkeypatch):\n    monkeypatch.setattr(time, 'sleep', print)",
        "with monkeypatch.context() as patched:\n    patched.setitem(TABLE, 'a', 1)",
        "from unittest.mock import patch",
        "from unittest import mock",
        "import unittest.mock",
    ],
)
def test_a_replacement_is_found(source: str) -> None:
    assert replacements(source)


def test_settings_of_the_environment_are_not_a_replacement() -> None:
    assert replacements("def test(monkeypatch):\n    monkeypatch.setenv('API_URL', 'x')") == []
