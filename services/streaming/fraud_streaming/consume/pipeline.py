"""The two threads behind a reader: one scores chunks, one stores them; both overlap with reading.

Chunks are scored and stored in the order in which they were read. The first failure ends the pipeline: no
chunk after the failed one is stored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Final, Generic

from fraud_adapters.postgres.dead_letters import DeadLetter
from fraud_streaming.consume.chunk import Chunk
from fraud_streaming.consume.commit import Committed, Committer
from fraud_streaming.consume.processor import PreparedT, RecordProcessor

AHEAD: Final = 3  # chunks in flight: one is scored, one is stored, one waits


class Pipeline(Generic[PreparedT]):
    """Accepts chunks from one thread and returns the committed ones to it."""

    def __init__(self, processor: RecordProcessor[PreparedT], committer: Committer[PreparedT]) -> None:
        self._processor = processor
        self._committer = committer
        self._changed = Condition()
        self._to_decide: deque[_Item[PreparedT]] = deque()
        self._to_store: deque[_Item[PreparedT]] = deque()
        self._committed: list[Committed] = []
        self._in_flight = 0
        self._failure: BaseException | None = None
        self._closed = False
        # Daemon threads, because a server that never answers must not keep the process alive.
        self._threads = [
            Thread(target=self._loop, args=step, name=name, daemon=True)
            for name, step in (
                ("decide", (self._to_decide, self._decide)),
                ("store", (self._to_store, self._store)),
            )
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, chunk: Chunk) -> None:
        """Parse a chunk in the caller's thread, and queue it for scoring."""
        prepared, dead_letters = self._processor.prepare(chunk.records)
        with self._changed:
            self._in_flight += 1
            self._to_decide.append(_Item(chunk, prepared, dead_letters))
            self._changed.notify_all()

    def wait(self, below: int, timeout_s: float | None = None) -> bool:
        """Wait until fewer than `below` chunks are in flight or one has failed; False after the timeout."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._failure is not None or self._in_flight < below, timeout_s
            )

    def finished(self) -> list[Committed]:
        """The chunks committed since the last call, in order."""
        with self._changed:
            done, self._committed = self._committed, []
        return done

    def raise_failure(self) -> None:
        """Raise the exception of the failed chunk, if one has failed."""
        if self._failure is not None:
            raise self._failure

    def close(self, patience_s: float | None = None) -> bool:
        """Finish the current steps and drop the waiting chunks; False if a step did not end in time."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(patience_s)
        return not any(thread.is_alive() for thread in self._threads)

    def _loop(self, waiting: deque[_Item[PreparedT]], step: Callable[[_Item[PreparedT]], None]) -> None:
        while (item := self._next(waiting)) is not None:
            step(item)

    def _next(self, waiting: deque[_Item[PreparedT]]) -> _Item[PreparedT] | None:
        with self._changed:
            self._changed.wait_for(lambda: waiting or self._ended())
            return None if self._ended() else waiting.popleft()

    def _ended(self) -> bool:
        return self._closed or self._failure is not None

    def _decide(self, item: _Item[PreparedT]) -> None:
        try:
            item.prepared = self._processor.decide(item.prepared)
        except BaseException as error:
            # The failure is queued like a chunk, so that the chunks before it are stored first.
            item.failure = error
        with self._changed:
            self._to_store.append(item)
            self._changed.notify_all()

    def _store(self, item: _Item[PreparedT]) -> None:
        try:
            if item.failure is not None:
                raise item.failure
            committed = self._committer.commit(item.chunk, item.prepared, item.dead_letters)
        except BaseException as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()
            return
        with self._changed:
            self._committed.append(committed)
            self._in_flight -= 1
            self._changed.notify_all()


@dataclass(slots=True)
class _Item(Generic[PreparedT]):
    chunk: Chunk
    prepared: PreparedT
    dead_letters: Sequence[DeadLetter]
    failure: BaseException | None = None
