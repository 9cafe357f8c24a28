"""The proxy's settings, from its environment."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]{0,60}")
_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._/:@-]{0,250}")
_NETWORK = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,100}")
# Names the daemon gives a meaning of its own.
_NO_NETWORK = frozenset({"host", "bridge", "none", "default", "container"})
_USER = re.compile(r"[1-9][0-9]{0,9}:[1-9][0-9]{0,9}")


class Misconfigured(Exception):
    """The proxy does not start; the message names the variable and the fix."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Memory in MiB, times in seconds."""

    images: frozenset[str]
    project: str = "fraud-detection"
    network: str = "fraud-jobs"
    user: str = "10001:10001"
    max_memory_mib: int = 4096
    max_cpus: float = 2.0
    max_pids: int = 512
    grace_s: float = 10.0
    socket: str = "/var/run/docker.sock"
    host: str = "0.0.0.0"  # noqa: S104 - a container of its own, on a network of its own
    port: int = 2375


def from_environment(variables: Mapping[str, str]) -> Settings:
    """The settings in PROXY_* and DOCKER_SOCKET.

    Raises:
        Misconfigured: a value is missing or cannot be meant.
    """
    default = Settings(images=frozenset())
    return Settings(
        images=_images(variables.get("PROXY_IMAGES", "")),
        project=_word(variables, "PROXY_PROJECT", default.project, _PROJECT),
        network=_network(variables, default.network),
        user=_word(variables, "PROXY_USER", default.user, _USER),
        max_memory_mib=int(_number(variables, "PROXY_MAX_MEMORY_MIB", default.max_memory_mib, int)),
        max_cpus=_number(variables, "PROXY_MAX_CPUS", default.max_cpus, float),
        max_pids=int(_number(variables, "PROXY_MAX_PIDS", default.max_pids, int)),
        grace_s=_number(variables, "PROXY_GRACE_S", default.grace_s, float),
        socket=variables.get("DOCKER_SOCKET") or default.socket,
        host=variables.get("PROXY_HOST") or default.host,
        port=int(_number(variables, "PROXY_PORT", default.port, int)),
    )


def _images(text: str) -> frozenset[str]:
    images = frozenset(part.strip() for part in text.split(",") if part.strip())
    for image in images:
        if not _IMAGE.fullmatch(image):
            raise Misconfigured(f"PROXY_IMAGES: {image!r} is no image: write name:tag, separated by commas.")
    if not images:
        raise Misconfigured("PROXY_IMAGES is not set: name the images of jobs, separated by commas.")
    return images


def _network(variables: Mapping[str, str], default: str) -> str:
    network = _word(variables, "PROXY_NETWORK", default, _NETWORK)
    if network in _NO_NETWORK:
        raise Misconfigured(f"PROXY_NETWORK={network}: jobs have a network of their own: name that.")
    return network


def _word(variables: Mapping[str, str], name: str, default: str, form: re.Pattern[str]) -> str:
    value = variables.get(name) or default
    if not form.fullmatch(value):
        raise Misconfigured(f"{name}={value} cannot be meant; an example is {default}.")
    return value


def _number(variables: Mapping[str, str], name: str, default: float, kind: Callable[[str], float]) -> float:
    value = variables.get(name) or str(default)
    try:
        number = kind(value)
    except ValueError:
        number = -1
    if not 0 < number < 1e9:
        raise Misconfigured(f"{name}={value} is no number above 0; an example is {default}.")
    return number
