"""The source of the architecture's diagram, and how its nodes and arrows are written."""

import re
from pathlib import Path

SOURCE = (Path(__file__).resolve().parents[2] / "docs" / "architecture.mermaid").read_text(encoding="utf-8")
NODE = re.compile(r"^\s+([\w-]+)[\[(]{1,2}.*[\])]{1,2}$", re.MULTILINE)
ARROW = re.compile(r"^\s+([\w-]+) --> ([\w-]+)$", re.MULTILINE)
