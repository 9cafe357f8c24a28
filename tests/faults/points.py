"""Where a consumer can be made to die or to halt, and commit orders that are wrong on purpose.

Only ever called in a forked child (`forkserver.py`): it changes that process alone. The program itself knows
nothing of it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from typing import Any, Final

from fraud_adapters.kafka.member import GroupMember
from fraud_adapters.postgres.dead_letters import DeadLetter
from fraud_streaming.consume import commit, job
from fraud_streaming.consume.commit import Committer
from fraud_streaming.consume.transactions import TransactionProcessor
from fraud_streaming.dead_letters.topic import DeadLetterTopic
from fraud_streaming.follow import alerts

AFTER_POLL: Final = "after poll"
AFTER_SCORING: Final = "after scoring"
IN_TRANSACTION: Final = "in the transaction, nothing written"
BEFORE_COMMIT: Final = "in the transaction, all written"
AFTER_COMMIT: Final = "after COMMIT"
BEFORE_KAFKA_COMMIT: Final = "before the Kafka commit"
ALERTS_SENT: Final = "alerts sent, not yet forgotten"

# point → the public functions that are it, and whether it is their beginning or their end
_PLACES: Final[dict[str, tuple[tuple[tuple[Any, str], ...], str]]] = {
    AFTER_POLL: (((TransactionProcessor, "prepare"),), "begin"),
    AFTER_SCORING: (((TransactionProcessor, "decide"),), "end"),
    IN_TRANSACTION: (((TransactionProcessor, "store"),), "begin"),
    BEFORE_COMMIT: (((commit, "move_offset"),), "end"),
    AFTER_COMMIT: (((Committer, "commit"),), "end"),
    BEFORE_KAFKA_COMMIT: (((job, "commit_group_offsets"), (GroupMember, "commit")), "begin"),
    ALERTS_SENT: (((alerts, "delete_alerts"),), "begin"),
}
POINTS: Final = tuple(_PLACES)

RIGHT: Final = "right"
OFFSET_FIRST: Final = "offset-first"
LETTERS_LAST: Final = "letters-last"
ORDERS: Final = (RIGHT, OFFSET_FIRST, LETTERS_LAST)


def signal_at(point: str, passage: int, number: int) -> None:
    """Let this process send itself a signal when it passes the point for the `passage`-th time (from 1).

    SIGKILL ends it there; SIGSTOP halts it there, all its threads, until somebody sends SIGCONT.
    """
    places, when = _PLACES[point]
    passages = itertools.count(1)

    def pass_by() -> None:
        if next(passages) == passage:
            os.kill(os.getpid(), number)

    for owner, name in places:
        _replace(owner, name, _watched(getattr(owner, name), pass_by, when))


def _watched(function: Callable[..., Any], pass_by: Callable[[], None], when: str) -> Callable[..., Any]:
    def watched(*arguments: Any, **named: Any) -> Any:
        if when == "begin":
            pass_by()
        result = function(*arguments, **named)
        if when == "end":
            pass_by()
        return result

    return watched


def be_missed_after(milliseconds: int) -> None:
    """Let the group give a dead member's partitions away so soon, not after the program's six seconds."""
    defaults = GroupMember.__init__.__kwdefaults__
    assert defaults is not None
    defaults.update(session_timeout_ms=milliseconds, heartbeat_interval_ms=milliseconds // 5)


def commit_in_order(order: str) -> None:
    """Commit in another order than the program's; must come after `signal_at`, whose points lie within."""
    {RIGHT: _nothing, OFFSET_FIRST: _offset_first, LETTERS_LAST: _letters_last}[order]()


def _nothing() -> None:
    """As the program does it."""


def _offset_first() -> None:
    """The position in a transaction of its own, before what was read is stored."""
    move, rows_too = getattr(commit, "move_offset"), Committer.commit  # noqa: B009

    def position_then_rows(self: Any, chunk: Any, *rest: Any) -> Any:
        with self._conn, self._conn.cursor() as cur:
            for partition, (expected, new) in chunk.moves.items():
                move(cur, self._topic, partition, self._topic_id, expected, new)
        return rows_too(self, chunk, *rest)

    _replace(commit, "move_offset", lambda *_: None)
    _replace(Committer, "commit", position_then_rows)


def _letters_last() -> None:
    """Dead letters go to their topic once the position has passed them."""
    publish, rows = DeadLetterTopic.publish, Committer.commit
    held: list[tuple[DeadLetterTopic, Sequence[DeadLetter]]] = []

    def rows_then_letters(self: Any, *arguments: Any) -> Any:
        done = rows(self, *arguments)
        while held:
            publish(*held.pop(0))
        return done

    _replace(DeadLetterTopic, "publish", lambda topic, letters: held.append((topic, letters)))
    _replace(Committer, "commit", rows_then_letters)


def _replace(owner: Any, name: str, function: Callable[..., Any]) -> None:
    getattr(owner, name)  # it must be there: a point that nobody passes proves nothing
    setattr(owner, name, function)
