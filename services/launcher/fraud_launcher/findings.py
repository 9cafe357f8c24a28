"""What `./fraud doctor` finds: one finding a check, shown as a table or as JSON. Standard library only."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

FORMAT: Final = 1  # of the JSON document; docs/doctor.schema.json describes it


class State(StrEnum):
    """What a check found."""

    OK = "ok"
    PROBLEM = "problem"
    NOT_RUNNING = "not running"  # nothing is wrong: the part, or the whole platform, was not started
    NOT_USED = "not used"  # this way of running the platform does not have the part


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        part: what was checked, such as `postgres`.
        check: which of the part's checks it is, such as `migrations`.
        detail: one sentence.
        fix: one sentence that says what to do about a problem; otherwise empty.
    """

    part: str
    check: str
    state: State
    detail: str
    fix: str = ""


class Problem(Exception):
    """A check failed; the message is one sentence, `fix` another one."""

    def __init__(self, detail: str, fix: str) -> None:
        super().__init__(detail)
        self.fix = fix


def document(target: str, running: bool, findings: Sequence[Finding], seconds: float) -> dict[str, Any]:
    """The JSON document; docs/doctor.schema.json describes it."""
    return {
        "format": FORMAT,
        "target": target,
        "running": running,
        "ok": not has_problem(findings),
        "seconds": round(seconds, 2),
        "checks": [{**asdict(finding), "state": finding.state.value} for finding in findings],
    }


def has_problem(findings: Iterable[Finding]) -> bool:
    return any(finding.state is State.PROBLEM for finding in findings)


def render(findings: Sequence[Finding], width: int | None = None) -> str:
    """The findings as a table for a person, and a last line that counts the problems."""
    columns = width or shutil.get_terminal_size((110, 24)).columns
    names = [f"{finding.part}: {finding.check}" for finding in findings]
    indent = max(map(len, names), default=0) + 2
    lines = []
    for name, finding in zip(names, findings, strict=True):
        text = finding.detail if not finding.fix else f"{finding.detail} Fix: {finding.fix}"
        head = f"{name:<{indent}}{finding.state.value:<13}"
        room = max(columns - len(head), 40)
        wrapped = textwrap.wrap(text, room, break_on_hyphens=False, break_long_words=False) or [""]
        lines += [head + wrapped[0], *(" " * len(head) + line for line in wrapped[1:])]
    count = sum(finding.state is State.PROBLEM for finding in findings)
    lines += ["", "No problem found." if not count else f"{count} problem{'s' if count > 1 else ''} found."]
    return "\n".join(lines)
