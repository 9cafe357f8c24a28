"""A forward reader over the content of a batch that holds only a window of it in memory."""

from __future__ import annotations

from collections.abc import Iterator


class CorruptData(Exception):
    """The content contradicts its own lengths; the message ends a sentence."""


class Source:
    """Reads forward over an iterator of pieces.

    `buffer[pos:]` is the window in memory; `dropped + pos` is the position in the content.
    """

    __slots__ = ("_pieces", "buffer", "dropped", "pos")

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self.buffer = b""
        self.pos = 0
        self.dropped = 0

    def hold(self, size: int) -> int:
        """Load `size` bytes into the window, or all remaining ones; returns how many it holds."""
        held = len(self.buffer) - self.pos
        while held < size and (piece := next(self._pieces, None)) is not None:
            self.dropped += self.pos
            self.buffer = self.buffer[self.pos :] + piece
            self.pos = 0
            held = len(self.buffer)
        return held

    def varint(self) -> int:
        """A zigzag number of up to ten bytes."""
        if not self.hold(10):
            raise CorruptData("the data ends within a number")
        try:
            number, self.pos = varint(self.buffer, self.pos)
        except IndexError:
            raise CorruptData("the data ends within a number") from None
        return number

    def take(self, size: int, keep: int) -> bytes:
        """The first `keep` of the next `size` bytes; the others are skipped piece by piece."""
        kept_size = min(size, keep)
        if self.hold(kept_size) < kept_size:
            raise CorruptData("the data ends within a value")
        start = self.buffer[self.pos : self.pos + kept_size]
        self.pos += kept_size
        self.skip(size - kept_size)
        return start

    def move_to(self, end: int) -> None:
        """Move to a position ahead, or back to before the number that was read last."""
        ahead = end - self.dropped - self.pos
        if ahead < 0:
            self.pos += ahead
        self.skip(ahead)

    def skip(self, size: int) -> None:
        while size > 0:
            held = self.hold(1)
            if not held:
                raise CorruptData("the data ends within a value")
            step = min(held, size)
            self.pos += step
            size -= step


def varint(buffer: bytes, pos: int) -> tuple[int, int]:
    """The zigzag number at `pos`, and where it ends.

    Raises:
        IndexError: the buffer ends before it.
        CorruptData: it has more than ten bytes.
    """
    byte = buffer[pos]
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), pos + 1
    number, shift = byte & 0x7F, 7
    while byte >= 0x80:
        pos += 1
        byte = buffer[pos]
        number |= (byte & 0x7F) << shift
        shift += 7
        if shift > 70:
            raise CorruptData("a number has more than ten bytes")
    return (number >> 1) ^ -(number & 1), pos + 1
