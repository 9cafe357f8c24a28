"""The audit log's verification: chain, heads, and what each kind of tampering leads to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from fraud_core.audit_chain import (
    GENESIS,
    BrokenChain,
    End,
    Entry,
    Head,
    follow,
    hash_of,
    next_head,
    problems_of_heads,
    problems_of_log,
    staleness,
)

KEY: Final = b"a key of the tests alone"
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE: Final = timedelta(minutes=1)


def chain(actors: Sequence[str], before: End = End()) -> list[Entry]:  # noqa: B008
    """Entries by these actors, a minute apart."""
    entries, previous = [], before.entry_hash
    for number, actor in enumerate(actors, start=before.entry_id + 1):
        entry = Entry(number, START + number * MINUTE, actor, "role", "a", "s", "{}", previous, b"")
        entries.append(replace(entry, entry_hash=hash_of(entry)))
        previous = entries[-1].entry_hash
    return entries


def heads_of(entries: Sequence[Entry], every: int = 2) -> list[Head]:
    """A head after every so many entries."""
    heads: list[Head] = []
    for entry in entries[every - 1 :: every]:
        end = End(entry.entry_id, entry.entry_hash)
        heads.append(next_head(KEY, end, heads[-1] if heads else None, entry.recorded_at))
    return heads


@pytest.fixture
def log() -> list[Entry]:
    return chain([f"person-{number}" for number in range(6)])


def test_a_whole_log_has_no_problem(log: list[Entry]) -> None:
    heads = heads_of(log)
    assert problems_of_heads(KEY, heads) == []
    assert problems_of_log(log, heads) == ([], End(6, log[-1].entry_hash))
    assert problems_of_log([], []) == ([], End(0, GENESIS))


def recomputed(log: list[Entry]) -> list[Entry]:
    return chain(["person-0", "somebody-else", *(entry.actor for entry in log[2:])])


@pytest.mark.parametrize(
    ("name", "tampered", "sentence"),
    [
        ("edit", lambda log: [*log[:2], replace(log[2], actor="x"), *log[3:]], "entry 3: its content"),
        ("reorder", lambda log: [log[0], replace(log[2], entry_id=2), replace(log[1], entry_id=3), *log[3:]],
         "entry 2: it does not follow"),
        ("removal", lambda log: [*log[:2], *log[3:]], "entry 4: entries before it are missing"),
        ("repetition", lambda log: [*log[:3], *log[2:]], "entry 3: the number occurs twice"),
        ("cut tail", lambda log: log[:5], "ends at entry 5, but head 3 of"),
        ("cut all", lambda log: [], "ends at entry 0, but head 3 of"),
        ("recomputed", recomputed, "entry 2 is not the one that head 1 of"),
        ("recomputed and cut", lambda log: recomputed(log)[:3], "entry 2 is not the one that head 1 of"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else "",
)  # fmt: skip
def test_tampering_is_found(log: list[Entry], name: str, tampered: object, sentence: str) -> None:
    assert callable(tampered)
    problems, _ = problems_of_log(tampered(log), heads_of(log))
    assert any(sentence in problem for problem in problems), (name, problems)


def test_without_heads_a_recomputed_chain_is_not_found(log: list[Entry]) -> None:
    assert problems_of_log(recomputed(log), [])[0] == []  # which is why there are heads


@pytest.mark.parametrize(
    ("tampered", "sentence"),
    [
        (lambda heads: [replace(heads[0], entry_hash="00"), *heads[1:]], "head 1 is not signed"),
        (lambda heads: [*heads[:2], heads[2].signed(b"another key than theirs")], "head 3 is not signed"),
        (lambda heads: [heads[0], heads[2]], "heads before head 3 are missing"),
        (lambda heads: heads[1:], "heads before head 2 are missing"),
        (lambda heads: [*heads[:2], replace(heads[2], previous="").signed(KEY)], "does not follow head 2"),
        (lambda heads: [*heads[:2], replace(heads[2], entry_id=1).signed(KEY)], "vouches for less"),
        (lambda heads: [replace(heads[0], previous="ab").signed(KEY)], "names a head before it"),
    ],
)  # fmt: skip
def test_tampered_heads_are_found(log: list[Entry], tampered: object, sentence: str) -> None:
    assert callable(tampered)
    assert any(sentence in problem for problem in problems_of_heads(KEY, tampered(heads_of(log))))


def test_heads_survive_their_file_and_others_are_refused(log: list[Entry]) -> None:
    for head in heads_of(log):
        assert Head.from_json(head.to_json()) == head
    whole = json.loads(heads_of(log)[0].to_json())
    for content in (b"", b"[]", b"{}", json.dumps(whole | {"more": 1}).encode(),
                    json.dumps(whole | {"number": "1"}).encode()):  # fmt: skip
        with pytest.raises(ValueError, match="not a head"):
            Head.from_json(content)


def test_a_chain_goes_on_from_its_end(log: list[Entry]) -> None:
    end = End(3, log[2].entry_hash)
    assert [one.entry_id for one in follow(log[3:], end)] == [4, 5, 6]
    with pytest.raises(BrokenChain, match="entry 5: entries before it are missing"):
        list(follow(log[4:], end))


@pytest.mark.parametrize(
    ("ended", "minutes", "sentence"),
    [
        (6, 1, None),
        (6, 30, None),
        (6, 71, "71 minutes old: the publisher"),
        (8, 9, None),
        (8, 11, "11 minutes old, and 2 entries came after it"),
    ],
)
def test_a_log_that_nobody_vouches_for_is_said(
    log: list[Entry], ended: int, minutes: int, sentence: str | None
) -> None:
    heads = heads_of(log)
    now = heads[-1].published_at + minutes * MINUTE
    found = staleness(heads, End(ended, b""), now, most=timedelta(minutes=10), heartbeat=timedelta(hours=1))
    assert (sentence in found) if sentence and found else found is sentence
    limits = {"most": MINUTE, "heartbeat": MINUTE}
    assert "no head is published" in (staleness([], End(3, b""), now, **limits) or "")
    assert staleness([], End(), now, **limits) is None
