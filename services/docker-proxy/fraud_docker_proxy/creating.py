"""The body of a create call, made anew: nothing of the one that came is passed on.

The daemon's JSON decoder ignores the case of names and takes the last of two that are the same; so it never
sees the names a client wrote.
"""

from __future__ import annotations

import os
from typing import Any, Final

from fraud_docker_proxy.forms import Host, Job
from fraud_docker_proxy.refusals import Refused
from fraud_docker_proxy.settings import Settings

PROJECT: Final = "fraud.project"
MIB: Final = 2**20


def rebuild(asked: Job, settings: Settings) -> dict[str, Any]:
    """The body for the daemon.

    Raises:
        Refused: the image is none of jobs, or the network another.
    """
    check_image(asked.Image, settings)
    if asked.HostConfig.NetworkMode not in ("default", settings.network):
        raise Refused(403, f"HostConfig.NetworkMode: jobs have no network but {settings.network}.")
    return {
        "Image": asked.Image,
        **({"Cmd": asked.Cmd} if asked.Cmd else {}),
        "Env": asked.Env,
        "Labels": {**asked.Labels, PROJECT: settings.project},
        "User": settings.user,
        "HostConfig": _host(asked.HostConfig, settings),
    }


def check_image(image: str, settings: Settings) -> None:
    """Raises Refused: the image is none of jobs."""
    if image not in settings.images:
        raise Refused(403, f"Image: {image[:100]!r} is no image of jobs; PROXY_IMAGES lists them.")


def _host(asked: Host, settings: Settings) -> dict[str, Any]:
    memory = min(asked.Memory, settings.max_memory_mib * MIB)
    # The daemon refuses more processors than there are.
    cpus = min(settings.max_cpus, os.cpu_count() or 1)
    return {
        "Memory": memory,
        "MemorySwap": memory,
        "NanoCpus": min(asked.NanoCpus, int(cpus * 1e9)),
        "CpuShares": min(asked.CpuShares, int(settings.max_cpus * 1024)),
        "PidsLimit": min(asked.PidsLimit, settings.max_pids),
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
