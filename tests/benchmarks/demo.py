"""How long `make demo` takes from a fresh clone, and what it needs of memory and disk.

    ./fraud bench demo [--keep-cache]

Clones the repository into a temporary folder, runs `./fraud demo --json` there with an empty package cache,
samples the memory of every process of that clone twice a second, runs the demo again (warm), and again after
`demo-down`, prints one JSON document and removes everything. Memory is the sum of proportional set sizes:
shared memory is counted once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Measure a cold and a warm demo."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keep-cache", action="store_true", help="use the package cache there is")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fraud-demo-", dir="/var/tmp"))
    folder.chmod(0o755)
    clone = folder / "platform"
    environment = dict(os.environ)
    if not options.keep_cache:
        environment |= {"PIP_CACHE_DIR": str(folder / "pip"), "UV_CACHE_DIR": str(folder / "uv")}
    try:
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        figures = {"cold": _run(clone, environment), "warm": _run(clone, environment)}
        subprocess.run([str(clone / "fraud"), "demo-down"], check=True, capture_output=True, env=environment)
        figures["restarted"] = _run(clone, environment)
    finally:
        subprocess.run(
            [str(clone / "fraud"), "demo-clean"], check=False, capture_output=True, env=environment
        )
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(figures, indent=2))
    return 0


def _run(clone: Path, environment: dict[str, str]) -> dict[str, Any]:
    started = time.monotonic()
    peak, over = [0], threading.Event()
    sampler = threading.Thread(target=_sample, args=(clone, peak, over))
    sampler.start()
    try:
        done = subprocess.run(
            [str(clone / "fraud"), "demo", "--json"],
            check=False,
            capture_output=True,
            text=True,
            env=environment,
        )
    finally:
        over.set()
        sampler.join()
    if done.returncode:
        sys.exit(f"the demo failed ({done.returncode}):\n{done.stderr[-3000:]}")
    total = time.monotonic() - started
    summary = json.loads(done.stdout)
    installed = total - summary["seconds"]["summary"]
    return {
        "first_decision_s": round(installed + summary["seconds"]["first_decision"], 1),
        "summary_s": round(total, 1),
        "peak_memory_mib": peak[0] // 1024,
        "disk_mib": {name: _mib(clone / name) for name in (".venv", ".venv-airflow", ".local")},
        "production_to_stored_ms": summary["latency_ms"],
        "live": summary["live"],
    }


def _mib(folder: Path) -> int:
    answer = subprocess.run(["du", "-sm", str(folder)], check=False, capture_output=True, text=True)
    return int(answer.stdout.split()[0])


def _sample(clone: Path, peak: list[int], over: threading.Event) -> None:
    while not over.wait(0.5):
        peak[0] = max(peak[0], sum(_pss_kib(pid) for pid in _processes(str(clone))))


def _processes(clone: str) -> Iterator[int]:
    """Processes started from the clone, and their descendants."""
    parents, pids = {}, set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "stat").read_text()
            parents[int(entry.name)] = int(status.rpartition(")")[2].split()[1])
            if clone in (entry / "cmdline").read_bytes().decode(errors="replace"):
                pids.add(int(entry.name))
        except OSError:
            continue
    for pid in parents:
        ancestor = pid
        while ancestor not in pids and ancestor in parents:
            ancestor = parents[ancestor]
        if ancestor in pids:
            yield pid


def _pss_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


if __name__ == "__main__":
    sys.exit(main())
