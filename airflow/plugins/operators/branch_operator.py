"""A job whose result chooses the branch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.branch import BranchMixIn
from airflow.sdk.exceptions import AirflowFailException

from operators.docker_operator_custom import FraudDockerOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class FraudDockerBranchOperator(FraudDockerOperator, BranchMixIn):
    """Runs a job as FraudDockerOperator does, and goes on with the task that its result names.

    Args:
        chosen_by: the key of the result that decides.
        branches: the task to go on with, by the value of that key; the other tasks behind are skipped.
    """

    inherits_from_skipmixin = True

    def __init__(self, *, chosen_by: str, branches: Mapping[str, str], **options: Any) -> None:
        super().__init__(**options)
        self.chosen_by = chosen_by
        self.branches = dict(branches)

    def execute(self, context: Context) -> dict[str, Any]:  # type: ignore[override]
        """The job's result document; raises as FraudDockerOperator, and if the result names no branch."""
        result = super().execute(context)
        value = result.get(self.chosen_by)
        if value not in self.branches:
            raise AirflowFailException(
                f"The result's {self.chosen_by} is {value!r}: no branch belongs to it, only to "
                f"{', '.join(self.branches)}."
            )
        # Skipping the other branches ends this method, before Airflow would store what it returns.
        context["ti"].xcom_push(key="return_value", value=result)
        self.do_branch(context, self.branches[value])
        return result
