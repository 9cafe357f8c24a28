"""Reads text files that people edit on any system.

Standard library only: `.env` is read before anything is installed.
"""

from __future__ import annotations

import codecs
from pathlib import Path


class NotText(ValueError):
    """The file cannot be read as text; one sentence naming it and, where there is one, the line."""


def read_utf8(path: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark and with unchanged line ends.

    Raises:
        FileNotFoundError: there is no such file.
        NotText: it cannot be read, or is not UTF-8.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise NotText(f"{path}: cannot be read: {error.strerror}.") from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise NotText(f"{path}: is UTF-16: save it as UTF-8.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise NotText(f"{path}: line {line}: is not UTF-8: save the file as UTF-8.") from None
