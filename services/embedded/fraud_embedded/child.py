"""Becomes one server: reads its specification from a private file, drops privileges, and executes it.

Started by the supervisor as `python -I child.py NAME`, with the directory of specifications in FRAUD_RUN. So
no secret and no path with a space or a per cent sign has to survive the supervisor's configuration file,
and a server's environment holds nothing but its own. Standard library only, so that it starts at once.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
from pathlib import Path


def main(name: str) -> None:
    """Does not return."""
    run = Path(os.environ["FRAUD_RUN"])
    spec = json.loads((run / f"{name}.json").read_text("utf-8"))
    (run / f"{name}.pid").write_text(f"{os.getpid()}\n", encoding="ascii")
    if spec["user"]:
        entry = pwd.getpwnam(spec["user"])
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    os.chdir(spec["cwd"])
    os.execve(spec["argv"][0], spec["argv"], spec["env"])


if __name__ == "__main__":
    main(sys.argv[1])
