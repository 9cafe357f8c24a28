"""The failures of jobs: a small class hierarchy that `job.run` maps to exit code, result and sentence.

Adapters and services derive their failures from the matching kind, so that a retry can catch the kind instead
of listing exceptions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from config.job_results.common import FailureKind


class JobFailed(Exception):
    """The base class; raise one of its subclasses.

    Args:
        sentence: tells the user of the job what is wrong and, if possible, what to do.
        result: the result up to the failure.
    """

    kind: ClassVar[FailureKind] = "unexpected"

    def __init__(self, sentence: str, result: Mapping[str, Any] | None = None) -> None:
        super().__init__(sentence)
        self.result: Mapping[str, Any] = result or {}

    def extended(
        self, *, before: str = "", after: str = "", result: Mapping[str, Any] | None = None
    ) -> JobFailed:
        """A failure of the same kind with a longer sentence and more of the result."""
        return _KINDS[self.kind](f"{before}{self}{after}", {**self.result, **(result or {})})


class PassingFailure(JobFailed):
    """A retry may succeed: a server is down, or another process was faster."""

    kind = "passing"


class LastingFailure(JobFailed):
    """A retry fails again until a person changes something."""

    kind = "lasting"


class RefusedFailure(JobFailed):
    """The request is not allowed by a rule, by the gate, or by another service."""

    kind = "refused"


class ConfigurationFailure(JobFailed):
    """A variable, a configuration file or an option is missing or wrong."""

    kind = "configuration"


class UnexpectedFailure(JobFailed):
    """A bug; its traceback is in the log."""

    kind = "unexpected"


_KINDS = {
    failure_class.kind: failure_class
    for failure_class in (
        PassingFailure,
        LastingFailure,
        RefusedFailure,
        ConfigurationFailure,
        UnexpectedFailure,
    )
}
