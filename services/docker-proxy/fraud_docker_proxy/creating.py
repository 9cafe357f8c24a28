"""The body of a create call, made anew from a positive list: nothing of the one that came is passed on.

The daemon's JSON decoder ignores the case of names and takes the last of two that are the same; so it never
sees the names a client wrote.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any, Final

from fraud_docker_proxy.refusals import Refused
from fraud_docker_proxy.settings import Settings

PROJECT: Final = "fraud.project"
DEFAULT_MEMORY_MIB: Final = 512
DEFAULT_CPUS: Final = 1.0
DEFAULT_PIDS: Final = 256
MIB: Final = 2**20

_LABEL: Final = re.compile(r"fraud\.[a-z0-9_.]{1,60}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_NAME: Final = re.compile(r"fraud-(job|single)-[a-zA-Z0-9][a-zA-Z0-9_.-]{0,120}")
_TAKEN: Final = frozenset({"Image", "Cmd", "Env", "Labels", "HostConfig"})
_HOST_TAKEN: Final = frozenset({"Memory", "NanoCpus", "PidsLimit", "NetworkMode"})


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in a body.

    Raises:
        Refused: it is none, or holds a name twice.
    """
    try:
        document = json.loads(body.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refused(400, "The body is no JSON.") from None
    if not isinstance(document, dict):
        raise Refused(400, "The body is no JSON object.")
    return document


def check_name(name: str) -> str:
    """The container's name, which only jobs have.

    Raises:
        Refused: it is the name of anything else.
    """
    if not _NAME.fullmatch(name):
        raise Refused(400, "name: a job's container is called fraud-job-… or fraud-single-….")
    return name


def rebuild(asked: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The body for the daemon.

    Raises:
        Refused: a field is not on the list, or its value not allowed.
    """
    host = {} if asked.get("HostConfig") is None else asked["HostConfig"]
    if not isinstance(host, dict):
        raise Refused(400, "HostConfig: write an object.")
    _refuse_others(asked, _TAKEN, "")
    _refuse_others(host, _HOST_TAKEN, "HostConfig.")
    if host.get("NetworkMode") not in (None, "", settings.network):
        raise Refused(403, f"HostConfig.NetworkMode: jobs run in the network {settings.network} alone.")
    return {
        "Image": _image(asked.get("Image"), settings),
        "Cmd": _strings(asked.get("Cmd"), "Cmd"),
        "Env": _environment(asked.get("Env")),
        "Labels": {**_labels(asked.get("Labels")), PROJECT: settings.project},
        "User": settings.user,
        "HostConfig": _host(host, settings),
    }


def _host(asked: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    memory = min(_amount(asked, "Memory", DEFAULT_MEMORY_MIB * MIB), settings.max_memory_mib * MIB)
    # The daemon refuses more processors than there are.
    most = int(min(settings.max_cpus, os.cpu_count() or 1) * 1e9)
    return {
        "Memory": memory,
        "MemorySwap": memory,
        "NanoCpus": min(_amount(asked, "NanoCpus", int(DEFAULT_CPUS * 1e9)), most),
        "PidsLimit": min(_amount(asked, "PidsLimit", DEFAULT_PIDS), settings.max_pids),
        "OomScoreAdj": 500,  # where the machine itself runs out of memory, a job goes before a server
        "NetworkMode": settings.network,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "IpcMode": "private",
        # The result is read after the end, when a tmpfs is gone: so the root is not read-only.
        "Tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=512m,mode=1777"},  # noqa: S108
        "Init": True,
        "AutoRemove": False,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "100m", "max-file": "2"}},
    }


def _image(value: object, settings: Settings) -> str:
    if not isinstance(value, str) or value not in settings.images:
        raise Refused(403, f"Image: {_short(value)} is no image of jobs; PROXY_IMAGES lists them.")
    return value


def _strings(value: object, field: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise Refused(400, f"{field}: write a list of strings.")
    for one in value:
        _check_text(one, field)
    return value


def _environment(value: object) -> list[str]:
    variables = _strings(value, "Env")
    if not all(_VARIABLE.match(one) for one in variables):
        raise Refused(400, "Env: write NAME=value for each variable.")
    return variables


def _labels(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused(400, "Labels: write an object of strings.")
    for name, text in value.items():
        if name == PROJECT or not _LABEL.fullmatch(name):
            raise Refused(403, f"Labels: {_short(name)} is not for jobs to set: they set fraud.… alone.")
        if not isinstance(text, str):
            raise Refused(400, f"Labels: {name} is no string.")
        _check_text(text, "Labels")
    return value


def _amount(asked: Mapping[str, Any], field: str, default: int) -> int:
    value = asked.get(field)
    if value is None or (type(value) is int and value == 0):
        return default
    if type(value) is not int or value < 0:
        raise Refused(400, f"HostConfig.{field}: write a whole number above 0.")
    return value


def _check_text(text: str, field: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refused(400, f"{field}: a string is no Unicode text.") from None
    if "\0" in text:
        raise Refused(400, f"{field}: a string holds a NUL.")


def _refuse_others(asked: Mapping[str, Any], taken: frozenset[str], where: str) -> None:
    for name, value in asked.items():
        # What a client's library writes for what it was not asked for.
        if name not in taken and not _is_empty(value):
            raise Refused(403, f"{where}{_short(name)}: jobs do not set this.")


def _is_empty(value: object, depth: int = 3) -> bool:
    if isinstance(value, dict):
        return depth > 0 and all(_is_empty(one, depth - 1) for one in value.values())
    if isinstance(value, list):
        return not value
    return value is None or value is False or value in ("", 0)


def _short(value: object) -> str:
    return repr(value)[:100]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise Refused(400, "The body holds a name twice.")
    return document


def _no_constant(_name: str) -> None:
    raise ValueError
