"""Removes old runs from Airflow's database, and their logs: `python clean_metadata.py [--every 1h]`.

The runs of sub-minute DAGs are kept for AIRFLOW_KEEP_SUB_MINUTE_HOURS (24), others for AIRFLOW_KEEP_DAYS (7).
Airflow's own command does the work in a separate process, so that waiting needs little memory.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from environment import SettingError, complete_environment, number
from heartbeat import beat
from termination import termination_event

from config.constants import DAGS_SUB_MINUTE

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BATCH = 5000
_TABLES_OF_RUNS = ("dag_run", "task_instance", "task_instance_history", "xcom", "log")
# Airflow's command fails at this table because it wrongly expects a DAG id; its rows are deleted with their
# runs.
_CLEANED_WITH_RUNS = {"deadline"}
_MAX_CLEANING_S = 1800
_MAX_RETENTION = 100_000  # hours or days: practically for ever, but still a valid date


def main() -> int:
    options = _parser().parse_args()
    try:
        complete_environment()
    except SettingError as error:
        print(error, file=sys.stderr)
        return 2
    if options.every is None:
        return clean(os.environ)
    ended = termination_event()
    print(f"cleaning every {options.every:.0f} s", flush=True)
    # The next cleaning may make up for a failed one.
    patience = 2 * options.every + _MAX_CLEANING_S
    beat(patience)
    while not ended.wait(options.every):
        if clean(os.environ) == 0:
            beat(patience)
    return 0


def clean(environ: Mapping[str, str]) -> int:
    """Clean once: 0 done, 1 a part failed, which is logged, 2 a setting is invalid."""
    now = datetime.now(UTC)
    started = time.monotonic()
    try:
        short = now - timedelta(hours=number(environ, "AIRFLOW_KEEP_SUB_MINUTE_HOURS", 24, _MAX_RETENTION))
        long = now - timedelta(days=number(environ, "AIRFLOW_KEEP_DAYS", 7, _MAX_RETENTION))
    except SettingError as error:
        print(error, file=sys.stderr, flush=True)
        return 2
    sub_minute_options = ["--dag-ids", ",".join(DAGS_SUB_MINUTE), "--tables", ",".join(_TABLES_OF_RUNS)]
    failed = [_clean_database(short, sub_minute_options), _clean_database(long, [])]
    removed = remove_logs(_log_folder(environ), short, long)
    seconds = time.monotonic() - started
    print(
        f"{now.isoformat(timespec='seconds')} cleaned in {seconds:.1f} s, {removed} logs removed", flush=True
    )
    return 1 if any(failed) else 0


def _clean_database(before: datetime, options: list[str]) -> int:
    command = [sys.executable, "-m", "airflow", "db", "clean", "--yes", "--skip-archive"]
    command += ["--batch-size", str(_BATCH), "--error-on-cleanup-failure"]
    command += ["--clean-before-timestamp", before.isoformat(), *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode and _not_cleaned(done.stderr) == _CLEANED_WITH_RUNS:
        return 0
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
        print(
            f"airflow db clean failed with exit code {done.returncode}:\n{last}", file=sys.stderr, flush=True
        )
    return done.returncode


def _not_cleaned(output: str) -> set[str]:
    """The tables that Airflow's command reports as not cleaned."""
    match = re.search(r"did not clean them: \[([^\]]*)\]", output)
    return set(re.findall(r"'(\w+)'", match[1])) if match else set()


def remove_logs(folder: Path, short: datetime, long: datetime) -> int:
    """Remove the logs of runs older than `short` (sub-minute DAGs) or `long` (others); return how many."""
    removed = 0
    for path in _files(folder):
        dag = re.match(r"dag_id=([^/]+)/", str(path.relative_to(folder)))
        before = short if dag is None or dag[1] in DAGS_SUB_MINUTE else long
        try:
            if path.stat().st_mtime < before.timestamp():
                path.unlink()
                removed += 1
        except FileNotFoundError:
            continue
    _remove_empty(folder)
    return removed


def _log_folder(environ: Mapping[str, str]) -> Path:
    """The log folder, by the same rule as Airflow."""
    folder = environ.get("AIRFLOW__LOGGING__BASE_LOG_FOLDER")
    return Path(folder) if folder else Path(environ["AIRFLOW_HOME"]) / "logs"


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent) / name for name in names)


def _remove_empty(folder: Path) -> None:
    for parent, _, _ in os.walk(folder, topdown=False):
        # A recently created folder may belong to a run that is just starting.
        if parent != str(folder) and time.time() - Path(parent).stat().st_mtime > 3600:
            try:
                Path(parent).rmdir()
            except OSError:
                continue


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d{1,4})([smhd])", text, re.ASCII)
    if match is None or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"must be a span from 1s to 9999d, such as 30m or 1h, not {text!r}")
    return float(int(match[1]) * _UNITS[match[2]])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=_seconds, help="repeat for ever, at this interval: 30m, 1h")
    return parser


if __name__ == "__main__":
    sys.exit(main())
