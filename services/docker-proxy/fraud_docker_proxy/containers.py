"""The containers of this project: found by name or id, told by their label, and known by id from then on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from fraud_docker_proxy.creating import PROJECT
from fraud_docker_proxy.daemon import Daemon
from fraud_docker_proxy.refusals import Refused

_ID: Final = re.compile(r"[0-9a-f]{64}")


class Containers:
    """What may be looked at; a container that is none of this project's is refused with status 403."""

    def __init__(self, daemon: Daemon, project: str) -> None:
        self._daemon = daemon
        self._project = project
        self._ours: set[str] = set()

    async def id(self, name: str) -> str:
        """The id of the container of that name or id; labels are fixed when a container is made."""
        if name not in self._ours:
            return str((await self.inspect(name))["Id"])
        return name

    def forget(self, container: str) -> None:
        """It is gone."""
        self._ours.discard(container)

    async def inspect(self, name: str) -> dict[str, Any]:
        """What the daemon says about the container.

        Raises:
            Refused: it is none of this project's, or there is none.
        """
        answer = await self._daemon.call("GET", f"/containers/{name}/json")
        if answer.status_code == 404:
            raise Refused(404, f"There is no container {name[:100]}.")
        if answer.status_code != 200:
            raise Refused(502, f"The Docker daemon cannot tell about {name[:100]}.")
        document: dict[str, Any] = answer.json()
        if (document["Config"].get("Labels") or {}).get(PROJECT) != self._project:
            raise Refused(403, f"The container {name[:100]} is none of this project's jobs.")
        if not _ID.fullmatch(document["Id"]):
            raise Refused(502, "The Docker daemon gave no id.")
        self._ours.add(document["Id"])
        return document

    async def all(self, labels: list[str] | None = None, *, ended: bool = True) -> list[dict[str, Any]]:
        """This project's containers that have all of these labels."""
        wanted = [f"{PROJECT}={self._project}", *(labels or [])]
        query = {"all": "1" if ended else "0", "filters": json.dumps({"label": wanted})}
        answer = await self._daemon.call("GET", "/containers/json", query)
        if answer.status_code != 200:
            raise Refused(502, "The Docker daemon cannot list containers.")
        return [one for one in answer.json() if (one.get("Labels") or {}).get(PROJECT) == self._project]


def shown(document: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an inspection a runner needs: the environment, with its secrets, is not in it."""
    config, state, host = document["Config"], document["State"], document["HostConfig"]
    kept = ("Status", "Running", "ExitCode", "OOMKilled", "Error", "StartedAt", "FinishedAt")
    return {
        "Id": document["Id"],
        "Name": document["Name"],
        "Created": document["Created"],
        "State": {name: state.get(name) for name in kept},
        "Config": {name: config.get(name) for name in ("Image", "Labels", "Tty")},
        "HostConfig": {"Memory": host.get("Memory"), "NetworkMode": host.get("NetworkMode")},
    }


def listed(document: Mapping[str, Any]) -> dict[str, Any]:
    """Likewise of a list's entry."""
    kept = ("Id", "Names", "Image", "Created", "State", "Status", "Labels")
    return {name: document.get(name) for name in kept}
