"""Arrow arrays from the columns of a batch, without `pa.array`.

`pa.array` and `to_numpy` import pandas if it is installed, which takes most of a second at the start of every
job. Numbers are not copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

MOMENT: Final = pa.timestamp("us", tz="UTC")
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)


def numbers(arrow_type: Any, values: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> Any:
    """An array of `arrow_type`, whose memory layout the values must have; null where not `valid`."""
    data = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(arrow_type, len(values), [_bitmap(valid), data])


def doubles(values: NDArray[Any], *, nullable: bool) -> Any:
    """A float64 array; where `nullable`, NaN becomes null."""
    exact = np.ascontiguousarray(values, dtype=np.float64)
    return numbers(pa.float64(), exact, ~np.isnan(exact) if nullable else None)


def flags(values: NDArray[np.bool_]) -> Any:
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, _bits(values)])


def strings(texts: Sequence[str | None] | NDArray[np.object_]) -> Any:
    """A string array, null where None."""
    encoded = [b"" if text is None else text.encode() for text in texts]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int32)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    valid = np.array([text is not None for text in texts], dtype=np.bool_)
    buffers = [_bitmap(valid), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)


def moments(times: Sequence[datetime]) -> Any:
    """A timestamp array in UTC of aware datetimes."""
    return numbers(MOMENT, np.array([(time - EPOCH) // MICROSECOND for time in times], dtype=np.int64))


def _bitmap(valid: NDArray[np.bool_] | None) -> Any:
    return None if valid is None or valid.all() else _bits(valid)


def _bits(values: NDArray[np.bool_]) -> Any:
    return pa.py_buffer(np.packbits(np.asarray(values, dtype=np.bool_), bitorder="little"))
