"""The containers of this project: found by name or id, told by their label, and known by id from then on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fraud_docker_proxy.creating import PROJECT
from fraud_docker_proxy.daemon import Daemon
from fraud_docker_proxy.refusals import Refused


class Containers:
    """What may be looked at; a container that is none of this project's is refused with status 403."""

    def __init__(self, daemon: Daemon, project: str) -> None:
        self._daemon = daemon
        self._project = project

    async def id(self, name: str) -> str:
        """The id of the container of that name or id; labels are fixed when a container is made."""
        return str((await self.inspect(name))["Id"])

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
        if not self._is_ours(document["Config"]):
            raise Refused(403, f"The container {name[:100]} is none of this project's jobs.")
        return document

    async def all(self, labels: Sequence[str] = ()) -> list[dict[str, Any]]:
        """This project's containers, running or not, that have all of these labels."""
        wanted = [f"{PROJECT}={self._project}", *labels]
        query = {"all": "1", "filters": json.dumps({"label": wanted})}
        answer = await self._daemon.call("GET", "/containers/json", query)
        if answer.status_code != 200:
            raise Refused(502, "The Docker daemon cannot list containers.")
        return [one for one in answer.json() if self._is_ours(one)]

    def _is_ours(self, labelled: Mapping[str, Any]) -> bool:
        return bool((labelled.get("Labels") or {}).get(PROJECT) == self._project)


def shown(document: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an inspection that is needed: the environment, with its secrets, is not in it."""
    state = document["State"]
    return {
        "Created": document["Created"],
        "State": {name: state[name] for name in ("Status", "ExitCode", "OOMKilled")},
        "Config": {name: document["Config"][name] for name in ("Labels", "Tty")},
        "HostConfig": {"Memory": document["HostConfig"]["Memory"]},
    }
