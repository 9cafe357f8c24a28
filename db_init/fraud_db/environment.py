"""What `bootstrap` reads from the environment."""

from __future__ import annotations

from typing import Self

from pydantic import Field, SecretStr, model_validator

from config import constants
from config.services import role_password
from config.settings import Settings, postgres_url
from config.settings.base import OptionalSecret, Port, with_secrets


class AdminSettings(Settings):
    """How the superuser logs in: `POSTGRES_ADMIN_URL` wins over the parts."""

    postgres_admin_url: OptionalSecret = None
    db_host: str = "localhost"
    db_port: Port = 5432
    postgres_user: str = "postgres"
    postgres_password: OptionalSecret = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.postgres_admin_url is None and self.postgres_password is None:
            raise ValueError("POSTGRES_PASSWORD is not set: set it, or set POSTGRES_ADMIN_URL")
        return self

    @property
    def admin_url(self) -> str:
        """The superuser's libpq URL, with the password: never log it."""
        if self.postgres_admin_url is not None:
            return self.postgres_admin_url.get_secret_value()
        assert self.postgres_password is not None
        return postgres_url(
            self.postgres_user, self.postgres_password, self.db_host, self.db_port, "postgres"
        )

    @property
    def admin_secret(self) -> str:
        """The variable the superuser's password came from."""
        return "POSTGRES_PASSWORD" if self.postgres_admin_url is None else "POSTGRES_ADMIN_URL"


@with_secrets(map(role_password, constants.SERVICE_ROLES), required=True)
class BootstrapSettings(AdminSettings):
    """The superuser's log-in and a password for each role; `DB_PASSWORD` is the owner's."""

    db_name: str = "fraud_detection"
    db_user: str = constants.ROLE_OWNER
    db_password: SecretStr = Field(min_length=1)
    mlflow_db_password: SecretStr = Field(min_length=1)
    airflow_db_password: SecretStr = Field(min_length=1)

    @property
    def service_passwords(self) -> dict[str, SecretStr]:
        """Passwords by the service's name as in `constants.SERVICE_ROLES`."""
        return {name: getattr(self, role_password(name).lower()) for name in constants.SERVICE_ROLES}
