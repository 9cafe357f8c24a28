"""Looks up the model version of an alias, for downstream tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from config import constants


class FraudMlflowOperator(BaseOperator):
    """Returns the version of an alias as XCom: name, version, run_id, aliases, tags, created_at.

    Args:
        model_name: the registered model; that of the installation's contract if not given.
        alias: `champion`, `challenger`, `shadow` or `previous`.
    """

    template_fields: Sequence[str] = ("model_name", "alias")

    def __init__(
        self, *, model_name: str | None = None, alias: str = constants.ALIAS_CHAMPION, **options: Any
    ) -> None:
        super().__init__(**options)
        contract = constants.ENV_VARS["FRAUD_CONTRACT"]
        self.model_name = model_name or f"{constants.REGISTERED_MODEL_PREFIX}{contract}"
        self.alias = alias

    def execute(self, context: Context) -> dict[str, Any]:
        """Raises AirflowFailException if the alias does not exist, since a retry would not help."""
        from hooks.mlflow_hook import FraudMlflowHook

        version = FraudMlflowHook().model_version(self.model_name, self.alias)
        if version is None:
            raise AirflowFailException(
                f"The model {self.model_name} has no version with the alias {self.alias}: "
                "train and register one, or set the alias in MLflow."
            )
        self.log.info("%s of %s is version %s", self.alias, self.model_name, version.version)
        return {**asdict(version), "aliases": list(version.aliases)}
