"""The containers of this project, recognised by their label.

A name is resolved to an id once, and only the id is used afterwards: a name may be given to another
container.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fraud_docker_proxy.create_request import PROJECT
from fraud_docker_proxy.daemon import Daemon
from fraud_docker_proxy.refusals import RequestRefused


class Containers:
    """Looks up containers; one of another project is refused with status 403."""

    def __init__(self, daemon: Daemon, project: str) -> None:
        self._daemon = daemon
        self._project = project

    async def id(self, name: str) -> str:
        """The id of the container with this name or id. Checking once is enough: labels never change."""
        return str((await self.inspect(name))["Id"])

    async def inspect(self, name: str) -> dict[str, Any]:
        """The daemon's description of the container.

        Raises:
            RequestRefused: it belongs to another project, or it does not exist.
        """
        answer = await self._daemon.call("GET", f"/containers/{name}/json")
        if answer.status_code == 404:
            raise RequestRefused(404, f"There is no container {name[:100]}.")
        if answer.status_code != 200:
            raise RequestRefused(502, f"The Docker daemon cannot inspect {name[:100]}.")
        document: dict[str, Any] = answer.json()
        if not self._belongs_to_project(document["Config"]):
            raise RequestRefused(403, f"The container {name[:100]} is not one of this project's jobs.")
        return document

    async def all(self, labels: Sequence[str] = ()) -> list[dict[str, Any]]:
        """This project's containers, running or not, that have all of these labels."""
        required_labels = [f"{PROJECT}={self._project}", *labels]
        query = {"all": "1", "filters": json.dumps({"label": required_labels})}
        answer = await self._daemon.call("GET", "/containers/json", query)
        if answer.status_code != 200:
            raise RequestRefused(502, "The Docker daemon cannot list containers.")
        return [one for one in answer.json() if self._belongs_to_project(one)]

    def _belongs_to_project(self, container: Mapping[str, Any]) -> bool:
        return bool((container.get("Labels") or {}).get(PROJECT) == self._project)


def visible_fields(document: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an inspection that clients need. The environment is left out because it holds secrets."""
    state = document["State"]
    return {
        "Created": document["Created"],
        "State": {name: state[name] for name in ("Status", "ExitCode", "OOMKilled")},
        "Config": {name: document["Config"][name] for name in ("Labels", "Tty")},
        "HostConfig": {"Memory": document["HostConfig"]["Memory"]},
    }
