"""Why a job cannot go on: one small family, from which `job.run` makes exit code, result and sentence.

Adapters and services derive their own failures from the kind that fits, so that whoever tries again asks for
the kind, and nobody has to list them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from config.job_results import FailureKind


class JobFailed(Exception):
    """The base of the family; raise one of its kinds.

    Args:
        sentence: for whoever runs the job: what is wrong and, where they can, what to do.
        result: what was done before it failed.
    """

    kind: ClassVar[FailureKind] = "unexpected"  # of one that nobody has given a kind

    def __init__(self, sentence: str, result: Mapping[str, Any] | None = None) -> None:
        super().__init__(sentence)
        self.result: Mapping[str, Any] = result or {}

    def extended(
        self, *, before: str = "", after: str = "", result: Mapping[str, Any] | None = None
    ) -> JobFailed:
        """A failure of the same kind that says and holds more."""
        return _KINDS[self.kind](f"{before}{self}{after}", {**self.result, **(result or {})})


class PassingFailure(JobFailed):
    """Trying again later may help: a part is down, or somebody else was faster."""

    kind = "passing"


class LastingFailure(JobFailed):
    """Trying again gives the same, until a person changes something."""

    kind = "lasting"


class RefusedFailure(JobFailed):
    """What was asked for is not allowed: by a rule, by the gate, or by another service."""

    kind = "refused"


class ConfigurationFailure(JobFailed):
    """A variable, a file of settings or an option is missing or wrong."""

    kind = "configuration"


class UnexpectedFailure(JobFailed):
    """A fault of ours; its traceback is in the log."""

    kind = "unexpected"


_KINDS = {
    one.kind: one
    for one in (PassingFailure, LastingFailure, RefusedFailure, ConfigurationFailure, UnexpectedFailure)
}
