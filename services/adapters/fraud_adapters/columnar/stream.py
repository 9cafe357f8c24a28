"""Reads untrusted Arrow IPC streams.

Types are compared before any column is read, compressed and dictionary-encoded bodies are refused (a few
kilobytes could expand to gigabytes), and every buffer is validated before it is used.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import ipc

END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"


class ColumnarError(Exception):
    """A columnar body that is refused; `reason` is a short code, the message one sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def write_stream(batch: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def read_stream(body: bytes, max_rows: int, types: Mapping[str, Any], required: AbstractSet[str]) -> Any:
    """One validated record batch with columns of exactly these types.

    Raises:
        ColumnarError: anything else.
    """
    try:
        messages = _messages(body)
        schema = ipc.read_schema(messages[0]) if messages and messages[0].type == "schema" else None
        if schema is None:
            raise ColumnarError("not_arrow", "The body is not an Arrow IPC stream.")
        _check_columns(schema, types, required)
        batches = [_record_batch(message, schema) for message in messages[1:]]
    except (pa.ArrowException, struct.error, IndexError, OSError, ValueError) as error:
        detail = " ".join(str(error).split())[:200]
        raise ColumnarError("not_arrow", f"The body is not a complete Arrow IPC stream: {detail}") from None
    if sum(batch.num_rows for batch in batches) > max_rows:
        raise ColumnarError("too_large", f"A batch holds at most {max_rows} transactions.")
    if len(batches) == 1:
        return batches[0]
    if not batches:
        return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
    return pa.concat_batches(batches)


def _messages(body: bytes) -> list[Any]:
    # The end mark is required, because a stream truncated between two messages would look complete.
    if not body.endswith(END_OF_STREAM):
        raise ColumnarError("truncated", "The Arrow stream ends without its end-of-stream mark.")
    source = pa.BufferReader(body)
    messages = list(ipc.MessageReader.open_stream(source))
    # The reader stops at the first end mark and ignores data after it.
    if source.tell() != len(body):
        raise ColumnarError("not_arrow", "The body continues after the end of its Arrow stream.")
    return messages


def _record_batch(message: Any, schema: Any) -> Any:
    if message.type != "record batch":
        raise ColumnarError("wrong_type", f"The stream holds a {message.type}, which is not accepted.")
    if _is_compressed(message.metadata.to_pybytes()):
        raise ColumnarError("wrong_type", "Compressed Arrow bodies are not accepted.")
    batch = ipc.read_record_batch(message, schema)
    batch.validate(full=True)
    return batch


def _is_compressed(metadata: bytes) -> bool:
    """Whether a record-batch message names a body compression (Arrow's Message.fbs, RecordBatch.fbs).

    pyarrow decompresses automatically, to the sizes that the body states, and has no limit for them.
    """
    message = struct.unpack_from("<I", metadata, 0)[0]
    header = _flat_field(metadata, message, 2)
    if header is None:
        return False
    record_batch = header + struct.unpack_from("<I", metadata, header)[0]
    return _flat_field(metadata, record_batch, 3) is not None


def _flat_field(buffer: bytes, table: int, index: int) -> int | None:
    """Position of field `index` of the flatbuffer table at `table`; None where it is absent."""
    vtable = table - struct.unpack_from("<i", buffer, table)[0]
    slot = 4 + 2 * index
    if slot >= struct.unpack_from("<H", buffer, vtable)[0]:
        return None
    offset = struct.unpack_from("<H", buffer, vtable + slot)[0]
    return table + offset if offset else None


def _check_columns(schema: Any, types: Mapping[str, Any], required: AbstractSet[str]) -> None:
    names: Sequence[str] = schema.names
    if len(set(names)) < len(names):
        raise ColumnarError("duplicate_key", "Two columns have the same name.")
    if unknown := sorted(set(names) - set(types)):
        raise ColumnarError("unknown_field", f"Unknown column {unknown[0][:60]!r}.")
    if missing := sorted(required - set(names)):
        raise ColumnarError("missing_field", f"The column {missing[0]} is missing.")
    for field in schema:
        if field.type != types[field.name]:
            raise ColumnarError(
                "wrong_type", f"The column {field.name} is {field.type}, not {types[field.name]}."
            )


def numpy(column: Any) -> NDArray[Any]:
    """The values of a column of numbers; zero-copy unless there are nulls, which become NaN."""
    if column.null_count:
        return np.asarray(column.to_numpy(zero_copy_only=False))
    return np.from_dlpack(column)  # to_numpy would import pandas


def refuse_nulls(name: str, column: Any) -> None:
    if column.null_count:
        row = int(np.argmin(column.is_valid().to_numpy(zero_copy_only=False)))
        raise ColumnarError("missing_field", f"{name} is null in row {row}.")


def refuse_where(wrong: NDArray[np.bool_], name: str, reason: str, what: str) -> None:
    if wrong.any():
        raise ColumnarError(reason, f"{name} {what} in row {int(np.argmax(wrong))}.")
