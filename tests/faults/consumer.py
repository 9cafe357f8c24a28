"""`python -m tests.faults.consumer PLAN …`: `fraud_streaming`, killed or halted at a point of its work.

PLAN is a JSON object with the fields of `points.py`; the other arguments are the program's.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from fraud_adapters import job
from fraud_streaming.__main__ import main
from fraud_streaming.installation import SERVICE
from tests.faults import points


def follow_plan(plan: dict[str, Any]) -> None:
    """Patch this process so that it does what the plan says."""
    if plan["point"]:
        points.signal_at(plan["point"], plan["passage"], plan["at_point"])
    if plan["missed_after_ms"]:
        points.be_missed_after(plan["missed_after_ms"])
    points.commit_in_order(plan["commit_order"])


if __name__ == "__main__":
    follow_plan(json.loads(sys.argv.pop(1)))
    job.run(SERVICE, main)
