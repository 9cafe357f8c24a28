"""Exit codes, the label of the last line, and the results that every job may have."""

from __future__ import annotations

from typing import Final, Literal, TypedDict, get_args

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_CONFIGURATION: Final = 2  # the sentence on stderr names the variable and the fix
EXIT_NOTHING_TO_DO: Final = 99  # Airflow marks the task as skipped

# The label of a job's last line if the job is not done: "<label>: <one sentence>".
EndingLabel = Literal["configuration", "failed", "nothing_to_do", "unexpected", "interrupted"]
ENDING_LABELS: Final[tuple[EndingLabel, ...]] = get_args(EndingLabel)

# passing: a retry may succeed. lasting: a retry fails until a person changes something. refused: a rule, the
# gate or another service does not allow the request. unexpected: a bug.
FailureKind = Literal["passing", "lasting", "refused", "configuration", "unexpected"]


class FailedResult(TypedDict):
    """A job that failed; further keys hold its own result up to the failure."""

    status: Literal["failed"]
    failure: FailureKind
    error: str  # one sentence


class NothingToDoResult(TypedDict):
    """A job that found nothing to do."""

    status: Literal["nothing_to_do"]
    reason: str
