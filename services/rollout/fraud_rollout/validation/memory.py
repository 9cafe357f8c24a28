"""How much memory a version takes, measured in a process of its own.

What this process freed before would hide what a version takes, and one that takes all there is ends only
that process.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as NotInTime
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np

from config.job_results.rollout import FindingResult
from fraud_adapters.models.loading import Model
from fraud_core.contract import Contract
from fraud_rollout.validation.findings import bounded, failed

SECONDS: Final = 120.0
_MIB: Final = 2**20
_STATM: Final = Path("/proc/self/statm")
_ROWS: Final = 500


def check_memory(directory: Path, digest: str, contract: Contract, bound_mib: float) -> FindingResult:
    """Whether loading a version and scoring a first batch take no more memory than allowed.

    Args:
        directory: holds the version's files, which were checked already.
    """
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            grown = pool.submit(_growth_mib, directory, digest, contract).result(SECONDS)
    except BrokenProcessPool:
        return failed("memory", "The process that loaded the version was killed.", bound=bound_mib)
    except NotInTime:
        return failed("memory", f"Loading the version takes more than {SECONDS:g} seconds.", bound=bound_mib)
    sentence = f"Loading the version takes {grown:.1f} MiB ({bound_mib:g} are allowed)."
    return bounded("memory", sentence, grown, bound_mib)


def _growth_mib(directory: Path, digest: str, contract: Contract) -> float:
    before = _resident_bytes()
    model = Model.load(directory, digest, contract)
    rows = np.zeros((_ROWS, len(model.manifest.features)), dtype=np.float32)
    model.score_single(rows[:1])
    model.score_batch(rows)
    return max(0, _resident_bytes() - before) / _MIB


def _resident_bytes() -> int:
    pages = int(_STATM.read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
