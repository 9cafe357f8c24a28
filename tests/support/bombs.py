"""Records that are small on the wire and large when unpacked, and the memory a process needs for them."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from config.constants import HEADER_SCHEMA
from tests.support.kafka_wire import WireBatch, WireRecord
from tests.support.waiting import eventually

ROOT: Final = Path(__file__).parents[2]
# Fits into the maximum message size of a broker, one megabyte.
BOMBS: Final = {
    "gzip": 400_000_000,
    "lz4": 200_000_000,
    "zstd": 400_000_000,
    "zstd-sized": 400_000_000,
    "snappy": 20_000_000,
    "xerial": 20_000_000,
}
SCHEMA: Final = (HEADER_SCHEMA.encode(), b"creditcard/1")
PATIENCE: Final = 60.0


@cache
def bomb(codec: str, before: bytes, after: bytes) -> bytes:
    """One packed batch: a record of blanks between two ordinary records. Compressing it takes seconds."""
    blanks = WireRecord(b" " * BOMBS[codec], headers=[SCHEMA])
    good = [WireRecord(value, headers=[SCHEMA]) for value in (before, after)]
    return WireBatch([good[0], blanks, good[1]], codec).packed()


def peak_mib(
    command: Sequence[str], environment: Mapping[str, str], stop_when: Callable[[], bool] | None = None
) -> float:
    """The peak memory of a process; stops the process if it does not end by itself."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, env=dict(environment), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors
        )
        peak = Peak(process.pid)
        assert eventually(lambda: peak.take() and (stop_when is None or stop_when()), PATIENCE)
        if stop_when is not None:
            process.send_signal(signal.SIGTERM)
        assert eventually(lambda: not peak.take() or process.poll() is not None, PATIENCE)
        errors.seek(0)
        assert process.wait(PATIENCE) == 0, errors.read().decode()
    return peak.mib


class Peak:
    """The peak memory of the process alone; `ru_maxrss` would include that of its parent before exec."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self.mib = 0.0

    def take(self) -> bool:
        """Whether it still runs."""
        try:
            lines = self._status.read_text(encoding="ascii").splitlines()
        except OSError:
            return False
        peak = next((line for line in lines if line.startswith("VmHWM:")), None)
        if peak is not None:
            self.mib = max(self.mib, int(peak.split()[1]) / 1024)
        return peak is not None
