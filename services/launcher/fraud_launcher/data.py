"""`./fraud data`: fetches public data sets from Kaggle, or says what to do. Standard library only."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fraud_launcher import lock_file
from fraud_launcher.bootstrap import ROOT
from fraud_launcher.datasets import DATA_SETS, MIB, DataFailure, DataSet, NotConfigured, kaggle
from fraud_launcher.datasets.checking import check_file, check_shape, record_digest, shape_of

HELP: Final = "fetch public data sets from Kaggle, or check those that are there: data [NAME…]; --help"
FOLDER: Final = ROOT / "data"
_REPORT_S: Final = 2.0


def run(arguments: Sequence[str]) -> int:
    """Fetch or check the data sets; 0: all are there, 2: Kaggle has to be set up, 1: another failure."""
    options = _parser().parse_args(arguments)
    names = options.name or list(DATA_SETS)
    if unknown := [name for name in names if name not in DATA_SETS]:
        _report(f"There is no data set {unknown[0]}: name {' or '.join(DATA_SETS)}.")
        return 2
    codes = [_fetch_one(DATA_SETS[name], options.folder) for name in dict.fromkeys(names)]
    return max(codes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./fraud data",
        description="Fetch public data sets from Kaggle into data/, and check those that are there already. "
        "Credentials: KAGGLE_USERNAME and KAGGLE_KEY, from the environment or .env, or "
        "~/.kaggle/kaggle.json. "
        "Exit code 0: all are there and complete; 2: set up Kaggle first; 1: another failure. docs/data.md.",
    )
    parser.add_argument("name", nargs="*", help=f"{', '.join(DATA_SETS)} (default: all)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the files are (default: data)")
    return parser


def _fetch_one(data_set: DataSet, folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock_file.hold(folder / f".{data_set.name}.lock", f"./fraud data {data_set.name}"):
            print(fetch(data_set, folder), flush=True)
    except NotConfigured as error:
        _report(str(error))
        return 2
    except DataFailure as error:
        _report(str(error))
        return 1
    except lock_file.LockHeld as holder:
        _report(f"{holder} is fetching the same data set: wait for its end.")
        return 1
    except OSError as error:
        _report(
            f"{error.filename or folder}: cannot be written ({error.strerror}): free space, or name --folder."
        )
        return 1
    return 0


def fetch(data_set: DataSet, folder: Path) -> str:
    """Check the file if it is there, else fetch it; one sentence about it.

    The file appears under its name only when it is complete and checked. What a killed run has left is
    removed at the next one.

    Raises:
        DataFailure: the file is wrong, or cannot be fetched.
    """
    path = folder / data_set.file
    archive, unpacked = folder / f".{data_set.name}.zip.part", folder / f".{data_set.file}.part"
    for leftover in (archive, unpacked):
        leftover.unlink(missing_ok=True)
    if path.exists():
        return check_file(path, data_set)
    credentials = kaggle.account(ROOT, Path.home(), os.environ)
    if credentials is None:
        raise NotConfigured(_instructions(data_set, path))
    try:
        kaggle.download(data_set, credentials, archive, _Progress(data_set.name))
        kaggle.unpack(archive, data_set, unpacked)
        shape = shape_of(unpacked, data_set)
        check_shape(unpacked, shape, data_set)
        with unpacked.open("rb") as file:
            os.fsync(file.fileno())
        unpacked.replace(path)
        record_digest(path, shape.digest)
    finally:
        for leftover in (archive, unpacked):
            leftover.unlink(missing_ok=True)
    return f"{path} is fetched: {shape.rows:,} rows, {shape.frauds:,} frauds, SHA-256 {shape.digest}."


def _instructions(data_set: DataSet, path: Path) -> str:
    return (
        f"{path} is not there, and there are no credentials of Kaggle: set KAGGLE_USERNAME and "
        "KAGGLE_KEY in .env "
        f"({kaggle.SITE}/settings makes a key), or download it by hand from {data_set.page(kaggle.SITE)} "
        f"and put {data_set.member} there as {path}."
    )


class _Progress:
    """Reports a download every two seconds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._started = self._reported = time.monotonic()

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._reported < _REPORT_S and done != total:
            return
        self._reported = now
        of = f" of {total / MIB:,.0f}" if total else ""
        rate = done / MIB / max(now - self._started, 0.001)
        _report(f"{self._name}: {done / MIB:,.0f}{of} MiB, {rate:,.1f} MiB/s")


def _report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
