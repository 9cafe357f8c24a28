"""What every settings class shares: reading the environment, and one sentence for what is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, create_model
from pydantic_settings import BaseSettings, SettingsConfigDict

from config import constants

SettingsT = TypeVar("SettingsT", bound="Settings")
Port = Annotated[int, Field(ge=1, le=65535)]


class ConfigurationError(Exception):
    """Wrong configuration; the message is one sentence naming the variable and the fix."""


def _blank_is_absent(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


OptionalText = Annotated[str | None, BeforeValidator(_blank_is_absent)]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_blank_is_absent)]


class Settings(BaseSettings):
    """The base class: reads only the process environment, and ignores the variables of other services."""

    model_config = SettingsConfigDict(
        extra="ignore", env_ignore_empty=True, hide_input_in_errors=True, frozen=True
    )


def with_secrets(names: Iterable[str], *, required: bool) -> Callable[[type[SettingsT]], type[SettingsT]]:
    """Add a secret field to a class for each name; the names come from the table of services."""
    field: Any = (SecretStr, Field(min_length=1)) if required else (OptionalSecret, None)

    def extended(base: type[SettingsT]) -> type[SettingsT]:
        fields: Any = dict.fromkeys(map(str.lower, names), field)
        return create_model(base.__name__, __base__=base, __module__=base.__module__, **fields)

    return extended


def load(cls: type[SettingsT]) -> SettingsT:
    """Build a settings class from the environment.

    Raises:
        ConfigurationError: a variable is missing or wrong, or, in production, a secret is a default.
    """
    try:
        settings = cls()
    except ValidationError as error:
        raise ConfigurationError(_sentence(error)) from None
    if os.environ.get("APP_ENV") == "production":
        _refuse_default_secrets(settings)
    return settings


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    name = str(first["loc"][0]).upper() if first["loc"] else ""
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    if first["type"] == "missing":
        return f"{name} is not set: set it in .env or in the environment."
    return f"{name}: {message}." if name else f"{message}."


def _refuse_default_secrets(settings: Settings) -> None:
    for name, value in settings:
        text = value.get_secret_value() if isinstance(value, SecretStr) else ""
        if constants.DEVELOPMENT_SECRET_MARK in text:
            raise ConfigurationError(
                f"{name.upper()} still has its development default, which production refuses: "
                "set a secret of your own in .env."
            )
