"""Checks a data set's file: digest, columns, rows, classes. Standard library only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fraud_launcher.datasets import MIB, DataFailure, DataSet

_PIECE = 4 * MIB
_LONGEST_LINE = 4096


@dataclass(frozen=True, slots=True)
class Shape:
    """What a file holds."""

    rows: int
    frauds: int
    digest: str  # SHA-256 in hexadecimal


def digest_file(path: Path) -> Path:
    """Where the digest of the first fetch is kept, in the format of sha256sum."""
    return path.with_name(f"{path.name}.sha256")


def recorded_digest(path: Path) -> str | None:
    try:
        return digest_file(path).read_text(encoding="ascii").split()[0]
    except (OSError, IndexError, UnicodeDecodeError):
        return None


def record_digest(path: Path, digest: str) -> None:
    target = digest_file(path)
    partial = target.with_name(f".{target.name}.part")
    partial.write_text(f"{digest}  {path.name}\n", encoding="ascii")
    partial.replace(target)


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file(path: Path, data_set: DataSet) -> str:
    """Check a file that is there, and record its digest if there is no record yet; one sentence about it.

    A file with a recorded digest had the right shape when it was recorded, so that its digest is enough.

    Raises:
        DataFailure: it is another file than the recorded one, or does not have the published shape.
    """
    digest = recorded_digest(path)
    if digest is not None:
        if digest_of(path) != digest:
            raise DataFailure(
                f"{path} is not the file whose digest {digest_file(path).name} has: remove both files, "
                f"then ./fraud data {data_set.name} fetches it again."
            )
        return f"{path} is complete: its digest is the recorded one."
    shape = shape_of(path, data_set)
    check_shape(path, shape, data_set)
    record_digest(path, shape.digest)
    return f"{path} is complete: {shape.rows:,} rows, {shape.frauds:,} frauds; its digest is recorded."


def check_shape(path: Path, shape: Shape, data_set: DataSet) -> None:
    """Raise DataFailure if the counts are not the published ones."""
    if (shape.rows, shape.frauds) != (data_set.rows, data_set.frauds):
        raise DataFailure(
            f"{path} has {shape.rows:,} rows with {shape.frauds:,} frauds instead of {data_set.rows:,} with "
            f"{data_set.frauds:,}: remove it, then ./fraud data {data_set.name} fetches it again."
        )


def shape_of(path: Path, data_set: DataSet) -> Shape:
    """Count rows and frauds, and compute the digest, in one pass with flat memory.

    Raises:
        DataFailure: the columns are others, or a row does not have as many.
    """
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        header = _fields(_line(path, file, hashed))
        if header != list(data_set.header):
            raise DataFailure(
                f"{path} does not have the columns {', '.join(data_set.header[:3])}, …, "
                f"{data_set.header[-1]}: it is not the file of {data_set.slug}; remove it."
            )
        rows = frauds = 0
        commas = len(header) - 1
        from_end = len(header) - header.index(data_set.label)
        while line := _line(path, file, hashed):
            rows += 1
            if line.count(b",") != commas:
                raise DataFailure(f"{path}: row {rows} does not have {commas + 1} columns: remove the file.")
            frauds += line.rsplit(b",", from_end)[-from_end].strip(b'"\r\n') == b"1"
    return Shape(rows, frauds, hashed.hexdigest())


def _line(path: Path, file: IO[bytes], hashed: hashlib._Hash) -> bytes:
    line = file.readline(_LONGEST_LINE)
    if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
        raise DataFailure(
            f"{path} has a line of more than {_LONGEST_LINE} bytes: it is not the file; remove it."
        )
    hashed.update(line)
    return line


def _fields(line: bytes) -> list[str]:
    return [field.strip('"\r\n') for field in line.decode("utf-8", "replace").split(",")]
