"""What the stack on Docker Compose needs and how fast it is.

    ./fraud bench compose stats --minutes 5      CPU and memory of each container, as a table
    ./fraud bench compose runs --minutes 5       periods and durations of the real-time DAGs
    ./fraud bench compose decision -- COMMAND    seconds from COMMAND (an `up -d`) to the first
                                                 stored decision

The first two observe a running stack without changing it.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

JOBS: Final = "job containers"
_PSQL: Final = ("docker", "exec", "fraud-postgres", "psql", "-U", "postgres", "-At", "-c")
_UNITS: Final = {"B": 1 / 2**20, "KiB": 1 / 2**10, "MiB": 1.0, "GiB": 2.0**10}
_RUNS: Final = """
    SELECT json_agg(json_build_array(
        dag_id, extract(epoch FROM start_date), extract(epoch FROM end_date), state) ORDER BY start_date)
    FROM dag_run WHERE start_date > now() - make_interval(secs => {seconds}) AND dag_id LIKE '00\\_%'
"""
_STORED: Final = "SELECT count(*) FROM predictions WHERE prediction_time > now() - make_interval(secs => {})"


@dataclass
class Use:
    """One container's samples: CPU in per cent of a core, memory in MiB."""

    cpu: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("stats", "runs"):
        verbs.add_parser(verb).add_argument("--minutes", type=float, default=5)
    verbs.add_parser("decision").add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    if options.verb == "decision":
        return decision(options.command)
    return {"stats": stats, "runs": runs}[options.verb](options.minutes * 60)


def stats(seconds: float) -> int:
    """Sample for this time, then print a Markdown table."""
    uses: dict[str, Use] = defaultdict(Use)
    end = time.monotonic() + seconds
    looks = 0
    while time.monotonic() < end:
        looks += 1
        for name, (cpu, memory) in _look().items():
            uses[name].cpu.append(cpu)
            uses[name].memory.append(memory)
    print("| container | CPU, % of a core | memory, MiB (most) |\n|---|---|---|")
    for name, use in sorted(uses.items(), key=lambda one: -max(one[1].memory)):
        # Averaged over all samples: one without the job counts as zero.
        print(f"| {name} | {sum(use.cpu) / looks:.1f} | {max(use.memory):.0f} |")
    together = sum(sum(use.cpu) for use in uses.values()) / looks
    print(f"| **all** | **{together:.0f}** | **{sum(max(use.memory) for use in uses.values()):.0f}** |")
    return 0


def _look() -> dict[str, tuple[float, float]]:
    """One sample of every container of the platform; its jobs are summed."""
    answer = _output(["docker", "stats", "--no-stream", "--format", "{{json .}}"])
    samples: dict[str, tuple[float, float]] = {}
    for line in answer.splitlines():
        sample = json.loads(line)
        name = str(sample["Name"])
        if not name.startswith("fraud-") or sample["CPUPerc"] == "--":
            continue
        if name.startswith(("fraud-job-", "fraud-single-")):
            name = JOBS
        cpu, memory = float(sample["CPUPerc"].rstrip("%")), _mib(sample["MemUsage"].split(" / ")[0])
        before = samples.get(name, (0.0, 0.0))
        samples[name] = (before[0] + cpu, before[1] + memory)
    return samples


def _mib(text: str) -> float:
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]+)", text)
    assert match, text
    return float(match[1]) * _UNITS[match[2]]


def runs(seconds: float) -> int:
    """Wait for this time, then print how the real-time DAGs ran."""
    threading.Event().wait(seconds)
    rows: list[list[Any]] = json.loads(_sql("airflow", _RUNS.format(seconds=seconds)) or "[]")
    for dag in sorted({row[0] for row in rows}):
        own = [row for row in rows if row[0] == dag]
        print(json.dumps({"dag": dag, **_figures(own)}))
    stored = int(_sql("fraud_detection", _STORED.format(seconds)))
    print(json.dumps({"transactions stored a minute": round(stored / seconds * 60, 1)}))
    return 0


def _figures(own: list[list[Any]]) -> dict[str, Any]:
    starts = [float(row[1]) for row in own]
    lasted = [float(row[2]) - float(row[1]) for row in own if row[2] is not None]
    states: dict[str, int] = defaultdict(int)
    for row in own:
        states[row[3]] += 1
    return {
        "runs": dict(states),
        "period_s": _spread([b - a for a, b in pairwise(starts)]),
        "duration_s": _spread(lasted),
    }


def _spread(values: Iterable[float]) -> dict[str, float]:
    known = list(values)
    if not known:
        return {}
    return {"median": round(statistics.median(known), 2), "worst": round(max(known), 2)}


def decision(command: Sequence[str]) -> int:
    """Run the command; returns the seconds until it returned, and until a later decision was stored."""
    since, started = datetime.now().astimezone(), time.monotonic()
    returned: list[float] = []

    def bring_up() -> None:
        done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        returned.append(time.monotonic() - started if done.returncode == 0 else -1)

    up = threading.Thread(target=bring_up)
    up.start()
    question = f"SELECT count(*) FROM predictions WHERE prediction_time > '{since.isoformat()}'"
    while not (stored := _sql("fraud_detection", question, check=False)) or stored == "0":
        if returned and returned[0] < 0:
            print(f"{' '.join(command)} failed.", file=sys.stderr)
            return 1
        time.sleep(0.5)
    first = time.monotonic() - started
    up.join()
    print(json.dumps({"up_returned_s": round(returned[0], 1), "first_decision_s": round(first, 1)}))
    return 0


def _sql(database: str, statement: str, *, check: bool = True) -> str:
    return _output([*_PSQL, statement, database], check=check).strip()


def _output(command: Sequence[str], *, check: bool = True) -> str:
    return subprocess.run(command, check=check, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
