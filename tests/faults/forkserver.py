"""Starts consumers by `fork` from a process that has imported everything, within a tenth of a second each.

`python -m tests.faults.forkserver` reads orders from stdin, one JSON object a line, and reports their
outcome on stdout. It never starts a thread, because `fork` copies only the calling one.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
from pathlib import Path
from typing import Any

from fraud_adapters import job
from fraud_streaming.__main__ import main
from fraud_streaming.installation import SERVICE
from tests.faults import points


def serve() -> None:
    """Serve orders until stdin ends, then kill all remaining children."""
    family: dict[int, tuple[int, int]] = {}  # number of the order → pid and pidfd
    events = selectors.DefaultSelector()
    events.register(sys.stdin.fileno(), selectors.EVENT_READ)
    while True:
        for key, _ in events.select():
            if key.data is not None:
                events.unregister(key.fd)
                pid, descriptor = family.pop(key.data)
                os.close(descriptor)
                _report(number=key.data, code=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                continue
            line = sys.stdin.readline()
            if not line:
                for _, descriptor in family.values():
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                return
            order = json.loads(line)
            number = order["number"]
            if "signal" in order:
                if number in family:
                    signal.pidfd_send_signal(family[number][1], order["signal"])
                continue
            pid = os.fork()
            if not pid:
                _consume(order)
            family[number] = pid, os.pidfd_open(pid)
            events.register(family[number][1], selectors.EVENT_READ, number)
            _report(number=number, pid=pid)


def _consume(order: dict[str, Any]) -> None:
    """Become a consumer: run the program's main with the order's environment; does not return."""
    os.environ.clear()
    os.environ.update(order["environment"])
    log = os.open(Path(order["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if order["point"]:
        points.signal_at(order["point"], order["passage"], order["at_point"])
    if order["missed_after_ms"]:
        points.be_missed_after(order["missed_after_ms"])
    points.commit_in_order(order["commit_order"])
    sys.argv = ["fraud_streaming", *order["arguments"]]
    job.run(SERVICE, main)


def _report(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    serve()
