"""Points at which a consumer can be killed or halted, and commit orders that are wrong on purpose.

Used only by `consumer.py`, because it patches the process it is in. The program itself contains no
code for it.
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

# point → the public functions that mark it, and whether their start or their end does
_HOOKS: Final[dict[str, tuple[tuple[tuple[Any, str], ...], str]]] = {
    AFTER_POLL: (((TransactionProcessor, "prepare"),), "begin"),
    AFTER_SCORING: (((TransactionProcessor, "decide"),), "end"),
    IN_TRANSACTION: (((TransactionProcessor, "store"),), "begin"),
    BEFORE_COMMIT: (((commit, "move_offset"),), "end"),
    AFTER_COMMIT: (((Committer, "commit"),), "end"),
    BEFORE_KAFKA_COMMIT: (((job, "commit_group_offsets"), (GroupMember, "commit")), "begin"),
    ALERTS_SENT: (((alerts, "delete_alerts"),), "begin"),
}
POINTS: Final = tuple(_HOOKS)

RIGHT: Final = "right"
OFFSET_FIRST: Final = "offset-first"
DEAD_LETTERS_LAST: Final = "letters-last"
ORDERS: Final = (RIGHT, OFFSET_FIRST, DEAD_LETTERS_LAST)


def signal_at(point: str, passage: int, number: int) -> None:
    """Make this process send itself a signal on the `passage`-th visit of the point (from 1).

    SIGKILL ends it there; SIGSTOP halts all its threads there until it receives SIGCONT.
    """
    hooks, when = _HOOKS[point]
    passages = itertools.count(1)

    def pass_by() -> None:
        if next(passages) == passage:
            os.kill(os.getpid(), number)

    for owner, name in hooks:
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
    """Use this session timeout instead of the program's six seconds, to replace dead members sooner."""
    defaults = GroupMember.__init__.__kwdefaults__
    assert defaults is not None
    defaults.update(session_timeout_ms=milliseconds, heartbeat_interval_ms=milliseconds // 5)


def commit_in_order(order: str) -> None:
    """Commit in a wrong order; call it after `signal_at`, whose points are inside the patched functions."""
    {RIGHT: _nothing, OFFSET_FIRST: _offset_first, DEAD_LETTERS_LAST: _dead_letters_last}[order]()


def _nothing() -> None:
    """The program's own order."""


def _offset_first() -> None:
    """Commit the position in a separate transaction before the records are stored."""
    move, rows_too = getattr(commit, "move_offset"), Committer.commit  # noqa: B009

    def position_then_rows(self: Any, chunk: Any, *rest: Any) -> Any:
        with self._conn, self._conn.cursor() as cur:
            for partition, (expected, new) in chunk.moves.items():
                move(cur, self._topic, partition, self._topic_id, expected, new)
        return rows_too(self, chunk, *rest)

    _replace(commit, "move_offset", lambda *_: None)
    _replace(Committer, "commit", position_then_rows)


def _dead_letters_last() -> None:
    """Publish dead letters after the position has passed them."""
    publish, rows = DeadLetterTopic.publish, Committer.commit
    held: list[tuple[DeadLetterTopic, Sequence[DeadLetter]]] = []

    def rows_then_dead_letters(self: Any, *arguments: Any) -> Any:
        done = rows(self, *arguments)
        while held:
            publish(*held.pop(0))
        return done

    _replace(DeadLetterTopic, "publish", lambda topic, dead_letters: held.append((topic, dead_letters)))
    _replace(Committer, "commit", rows_then_dead_letters)


def _replace(owner: Any, name: str, function: Callable[..., Any]) -> None:
    getattr(
        owner, name
    )  # fail if the function does not exist, since a point that is never passed proves nothing
    setattr(owner, name, function)
