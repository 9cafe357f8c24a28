"""What `bootstrap` reads from the environment."""

from __future__ import annotations

from pydantic import Field, SecretStr

from config import constants
from config.settings import Settings


class BootstrapSettings(Settings):
    """The superuser's URL and a password for each role; `DB_PASSWORD` is the owner's."""

    postgres_admin_url: SecretStr = Field(min_length=1)
    db_name: str = "fraud_detection"
    db_user: str = constants.ROLE_OWNER
    db_password: SecretStr = Field(min_length=1)
    mlflow_db_password: SecretStr = Field(min_length=1)
    airflow_db_password: SecretStr = Field(min_length=1)
    db_password_producer: SecretStr = Field(min_length=1)
    db_password_streaming: SecretStr = Field(min_length=1)
    db_password_api: SecretStr = Field(min_length=1)
    db_password_trainer: SecretStr = Field(min_length=1)
    db_password_readonly: SecretStr = Field(min_length=1)

    @property
    def service_passwords(self) -> dict[str, SecretStr]:
        """Passwords by the service's name as in `constants.SERVICE_ROLES`."""
        return {name: getattr(self, f"db_password_{name}") for name in constants.SERVICE_ROLES}
