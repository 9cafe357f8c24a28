"""How our own services reach the API and Airflow."""

from __future__ import annotations

from pydantic import AnyHttpUrl, Field, SecretStr

from config.settings.base import OptionalSecret, Settings


class ApiAddressSettings(Settings):
    """Where the scoring API is, for its public routes."""

    api_url: AnyHttpUrl = AnyHttpUrl("http://localhost:8000")

    @property
    def url(self) -> str:
        return str(self.api_url).rstrip("/")


class ApiClientSettings(ApiAddressSettings):
    """How a job reaches the scoring API."""

    api_client_id: str = Field(min_length=1)
    api_client_secret: SecretStr = Field(min_length=1)


class AirflowClientSettings(Settings):
    """How the API starts trainings; without the password it starts none."""

    airflow_api_url: AnyHttpUrl = AnyHttpUrl("http://localhost:8080")
    airflow_train_password: OptionalSecret = None

    @property
    def url(self) -> str:
        return str(self.airflow_api_url).rstrip("/")
