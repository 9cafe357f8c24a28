"""The proxy's settings, read from environment variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fraud_docker_proxy.refusals import sentence

Image = Annotated[str, Field(pattern=r"^[a-z0-9][A-Za-z0-9._/:@-]{0,250}$")]
PositiveInt = Annotated[int, Field(gt=0, lt=10**9)]
PositiveFloat = Annotated[float, Field(gt=0, lt=10**9)]

# Network modes with a special meaning for the daemon.
_NO_NETWORK = frozenset({"host", "bridge", "none", "default", "container"})


class InvalidSettings(Exception):
    """The proxy does not start; the message names the variable and the fix."""


class Settings(BaseModel):
    """The values of PROXY_* and DOCKER_SOCKET: memory in MiB, times in seconds."""

    model_config = ConfigDict(frozen=True, alias_generator=lambda name: f"PROXY_{name.upper()}")

    images: frozenset[Image]
    project: str = Field(default="fraud-detection", pattern=r"^[a-z0-9][a-z0-9_-]{0,60}$")
    network: str = Field(default="fraud-jobs", pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,100}$")
    user: str = Field(default="10001:10001", pattern=r"^[1-9][0-9]{0,9}:[1-9][0-9]{0,9}$")
    max_memory_mib: PositiveInt = 4096
    max_cpus: PositiveFloat = 2.0
    max_pids: PositiveInt = 512
    grace_s: PositiveFloat = 10.0
    host: str = "0.0.0.0"  # noqa: S104 - a container of its own, on a network of its own
    port: int = Field(default=2375, gt=0, lt=2**16)
    socket: str = Field(default="/var/run/docker.sock", alias="DOCKER_SOCKET")

    @field_validator("images", mode="before")
    @classmethod
    def _split_images(cls, text: str) -> list[str]:
        images = [part.strip() for part in text.split(",") if part.strip()]
        if not images:
            raise ValueError("list the images of jobs, separated by commas")
        return images

    @field_validator("network")
    @classmethod
    def _is_dedicated_network(cls, network: str) -> str:
        if network in _NO_NETWORK:
            raise ValueError("jobs need a dedicated network: set its name")
        return network


def from_environment(variables: Mapping[str, str]) -> Settings:
    """Read the settings; an empty variable counts as not set.

    Raises:
        InvalidSettings: a value is missing or invalid.
    """
    set_variables = {name: value for name, value in variables.items() if value}
    try:
        return Settings.model_validate({"PROXY_IMAGES": "", **set_variables})
    except ValidationError as error:
        raise InvalidSettings(sentence(error)) from None
