"""Builds the body of a create call from the checked fields; the client's own body is never forwarded.

The daemon's JSON decoder ignores the case of names and takes the last of two equal ones, so it must never see
the names a client wrote.
"""

from __future__ import annotations

import os
from typing import Any, Final

from fraud_docker_proxy.refusals import RequestRefused
from fraud_docker_proxy.schemas import CreateBody, HostConfigSchema
from fraud_docker_proxy.settings import Settings

PROJECT: Final = "fraud.project"
MIB: Final = 2**20


def build_create_body(request: CreateBody, settings: Settings) -> dict[str, Any]:
    """The body that is sent to the daemon.

    Raises:
        RequestRefused: the image or the network is not permitted.
    """
    check_image(request.Image, settings)
    if request.HostConfig.NetworkMode not in ("default", settings.network):
        raise RequestRefused(403, f"HostConfig.NetworkMode: jobs have no network but {settings.network}.")
    return {
        "Image": request.Image,
        **({"Cmd": request.Cmd} if request.Cmd else {}),
        "Env": request.Env,
        "Labels": {**request.Labels, PROJECT: settings.project},
        "User": settings.user,
        "HostConfig": _host_config(request.HostConfig, settings),
    }


def check_image(image: str, settings: Settings) -> None:
    """Raises RequestRefused if the image is not one of PROXY_IMAGES."""
    if image not in settings.images:
        raise RequestRefused(403, f"Image: {image[:100]!r} is not an image of jobs; PROXY_IMAGES lists them.")


def _host_config(request: HostConfigSchema, settings: Settings) -> dict[str, Any]:
    memory = min(request.Memory, settings.max_memory_mib * MIB)
    # The daemon refuses more CPUs than the machine has.
    cpus = min(settings.max_cpus, os.cpu_count() or 1)
    return {
        "Memory": memory,
        "MemorySwap": memory,
        "NanoCpus": min(request.NanoCpus, int(cpus * 1e9)),
        "CpuShares": min(request.CpuShares, int(settings.max_cpus * 1024)),
        "PidsLimit": min(request.PidsLimit, settings.max_pids),
        "OomScoreAdj": 500,  # when the machine runs out of memory, jobs are killed before servers
        "NetworkMode": settings.network,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "IpcMode": "private",
        # The result is read after the container's end, when a tmpfs is gone, so the root must be writable.
        "Tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=512m,mode=1777"},  # noqa: S108
        "Init": True,
        "AutoRemove": False,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "100m", "max-file": "2"}},
    }
