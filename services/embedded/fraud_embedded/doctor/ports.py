"""Whether the platform's ports are free, or held by the platform itself."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from fraud_embedded.doctor.target import Target
from fraud_launcher.findings import Problem

_SHOWN: Final = 4


def check_ports(target: Target, is_free: Callable[[int], bool], held: Collection[int] = ()) -> str:
    """Check every port of a platform that is to be started.

    Args:
        held: ports that the platform itself holds.

    Raises:
        Problem: another program holds a port.
    """
    taken = [
        f"{port} ({name})" for name, port in target.ports.items() if port not in held and not is_free(port)
    ]
    if len(taken) > _SHOWN:
        taken = [*taken[:_SHOWN], f"and {len(taken) - _SHOWN} more"]
    if not taken:
        return f"All {len(target.ports)} ports are free or the platform's own."
    if target.kind == "compose":
        fix = "Stop what listens there, or choose other ports in .env (PUBLISH_…, see docs/compose.md)."
    else:
        fix = (
            "Stop what listens there, or set PORT_OFFSET in .env; the first ./fraud demo moves all "
            "ports by itself."
        )
    raise Problem(f"Another program holds port {', '.join(taken)}.", fix)
