"""The notebook runs from its first cell to its last, and git holds none of its outputs."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "first_model.ipynb"


def executor() -> ModuleType:
    spec = importlib.util.spec_from_file_location("execute_notebook", ROOT / "notebooks" / "execute.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_notebook_in_the_repository_has_outputs() -> None:
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert NOTEBOOK in notebooks
    for notebook in notebooks:
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                assert (cell["outputs"], cell["execution_count"]) == ([], None), (
                    notebook.name,
                    cell["source"],
                )


def test_the_notebook_trains_a_model(tmp_path: Path) -> None:
    execute = executor()
    document = execute.execute(NOTEBOOK, {"DAYS": 6, "PER_DAY": 700, "RESAMPLES": 100})
    text = execute.text_of(document)
    assert "4,200 transactions with 30 features" in text
    found = re.search(r"Average precision +([\d.]+) +([\d.]+) to ([\d.]+)", text)
    assert found is not None, text
    value, low, high = map(float, found.groups())
    assert 0.5 < low <= value <= high <= 1
    assert "Gate specification" in text
    assert "best possible: recall" in text
    assert not [line for line in text.splitlines() if "nan" in line.lower()]
    written = execute.save(document, NOTEBOOK, tmp_path)
    assert [path.suffix for path in written] == [".ipynb", ".svg"]
    assert "Precision" in written[1].read_text(encoding="utf-8")


def test_a_parameter_that_the_notebook_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="no parameter TREES; it has DAYS, PER_DAY, RESAMPLES"):
        executor().execute(NOTEBOOK, {"TREES": 1})
