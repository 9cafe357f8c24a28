"""Modules that take seconds to import, imported by the first test that uses them.

Every worker imports every test file, but runs only some of the tests.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Later:
    """Stands for the module of this name."""

    name: str

    def __getattr__(self, attribute: str) -> Any:
        # Pytest asks everything in a test file for marks of its own.
        if attribute.startswith(("_", "pytest")):
            raise AttributeError(attribute)
        return getattr(importlib.import_module(self.name), attribute)
