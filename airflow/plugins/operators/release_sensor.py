"""Waits until a stage of a release is decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue

if TYPE_CHECKING:
    from airflow.sdk import Context


class ReleaseStageSensor(BaseSensorOperator):
    """Asks the API to judge a deployment's stage, until the answer is another one than to wait.

    It holds no worker between two questions, and returns the last answer as XCom.

    Args:
        deployment_id: templated.
    """

    template_fields: Sequence[str] = ("deployment_id",)
    ui_color = "#e6f1f2"

    def __init__(self, *, deployment_id: str, **options: Any) -> None:
        super().__init__(mode="reschedule", **options)
        self.deployment_id = deployment_id

    def poke(self, context: Context) -> PokeReturnValue:
        """Raises AirflowException if the API does not answer, or knows no such deployment in traffic."""
        from hooks.api_hook import FraudApiHook

        answer = FraudApiHook().post(f"/deployments/{int(self.deployment_id)}/evaluate", {})
        self.log.info(
            "%s, next: %s, window ends %s, extended %s times. %s",
            *(answer[name] for name in ("state", "next", "window_ends", "extensions", "sentence")),
        )
        return PokeReturnValue(answer["next"] != "wait", answer)
