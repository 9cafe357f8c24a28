"""Feedback: files of chargebacks, and the estimates from the random sample."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from fraud_core.feedback.chargebacks import parse_chargebacks
from fraud_core.feedback.estimates import (
    Reviewed,
    Traffic,
    missed_frauds,
    missed_share,
    recall_on_all_traffic,
)
from fraud_core.intervals import clopper_pearson

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HEADER = "transaction_id,label,reported_at\n"


def test_a_file_is_read_whole_and_a_repeated_line_is_one_report() -> None:
    text = HEADER + "a,1,2026-05-01T12:00:00Z\n\nb,0,2026-05-01T12:00:00+02:00\na,1,2026-05-01T12:00:00Z\n"
    read = parse_chargebacks(text.encode(), NOW)
    assert read.errors == []
    assert read.repeated == 1
    assert [(e.transaction_id, e.label, e.source, e.reported_by) for e in read.events] == [
        ("a", 1, "chargeback", None),
        ("b", 0, "chargeback", None),
    ]
    assert read.events[1].reported_at == datetime(2026, 5, 1, 10, tzinfo=UTC)
    again = parse_chargebacks(text.encode(), NOW)
    assert [e.label_id for e in again.events] == [e.label_id for e in read.events]


def test_columns_may_stand_in_any_order_with_a_mark_and_windows_ends() -> None:
    text = "﻿reported_by,reported_at,label,transaction_id\r\nacquirer-7,2026-05-01T12:00:00Z,1,a\r\n"
    read = parse_chargebacks(text.encode(), NOW)
    assert read.errors == []
    assert [(e.transaction_id, e.reported_by) for e in read.events] == [("a", "acquirer-7")]


def test_every_wrong_line_is_named() -> None:
    lines = [
        "a,2,2026-05-01T12:00:00Z",
        "b,1,yesterday",
        "c,1",
        ",1,2026-05-01T12:00:00Z",
        "d d,1,2026-05-01T12:00:00Z",
        "e,1,2026-06-02T00:00:00Z",
        "f,1,1969-01-01T00:00:00Z",
        "g,1,2026-05-01T12:00:00Z",
        "g,0,2026-05-01T12:00:00Z",
        "h," + "1" * 200 + ",2026-05-01T12:00:00Z",
    ]
    read = parse_chargebacks((HEADER + "\n".join(lines)).encode(), NOW)
    assert [str(error) for error in read.errors] == [
        "line 2: label: must be 1 (fraud) or 0 (legitimate).",
        "line 3: reported_at: must be an RFC 3339 time with a zone, such as 2026-01-31T12:00:00Z.",
        "line 4: has 2 fields instead of 3.",
        "line 5: transaction_id: must be 1 to 50 printable ASCII characters without spaces.",
        "line 6: transaction_id: must be 1 to 50 printable ASCII characters without spaces.",
        "line 7: reported_at: lies in the future.",
        "line 8: reported_at: must not lie before 1970.",
        "line 10: contradicts line 9: the same report has both labels.",
        "line 11: label: must be 1 (fraud) or 0 (legitimate).",
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "line 1: the file is empty: begin it with transaction_id,label,reported_at."),
        (b"transaction_id,label\na,1\n", "line 1: the column reported_at is missing"),
        (HEADER.replace("label", "label,card").encode(), "line 1: there is no column 'card'"),
        (HEADER.replace("label", "label,label").encode(), "line 1: a column occurs twice."),
        (HEADER.encode() + b"a,1,\xff\n", "line 2: is not UTF-8."),
        (HEADER.encode() + b'a,"1"x,2026-05-01T12:00:00Z\n', "line 2: is not CSV"),
    ],
)
def test_what_is_not_such_a_file_is_refused_with_its_line(content: bytes, sentence: str) -> None:
    read = parse_chargebacks(content, NOW)
    assert read.events == []
    assert str(read.errors[0]).startswith(sentence)


def test_with_equal_chances_the_interval_is_the_exact_one() -> None:
    reviewed = [Reviewed(0.01, number < 3) for number in range(200)]
    share = missed_share(reviewed, 0.95)
    assert share.value == pytest.approx(3 / 200)
    assert (share.low, share.high) == pytest.approx(clopper_pearson(3, 200, 0.95))


def test_a_rarely_drawn_transaction_stands_for_many() -> None:
    # Half of the approved transactions were drawn at 10 %, half at 1 %.
    reviewed = [Reviewed(0.1, False)] * 100 + [Reviewed(0.01, True)] * 2 + [Reviewed(0.01, False)] * 8
    share = missed_share(reviewed, 0.95)
    assert share.value == pytest.approx(200 / 2000)
    # The few that weigh a lot decide: there is less information than 110 rows would have.
    assert share.high > clopper_pearson(11, 110, 0.95)[1]


def test_recall_counts_what_nobody_has_reported() -> None:
    reviewed = [Reviewed(0.01, number < 2) for number in range(1000)]
    traffic = Traffic(approved=100_000, flagged_frauds=600, reported_frauds=100, reviewed=reviewed)
    assert missed_frauds(traffic, 0.95).value == pytest.approx(200)
    recall = recall_on_all_traffic(traffic, 0.95)
    assert recall.value == pytest.approx(600 / 900)
    assert recall.low < 600 / 900 < recall.high <= 600 / 700
    assert recall.rows == 1000


def test_without_a_review_nothing_is_known_but_the_bounds() -> None:
    traffic = Traffic(approved=1000, flagged_frauds=10, reported_frauds=0, reviewed=[])
    recall = recall_on_all_traffic(traffic, 0.95)
    assert (recall.value, recall.high) == (None, 1.0)
    assert recall.low == pytest.approx(10 / 1010)
    nothing = Traffic(approved=0, flagged_frauds=0, reported_frauds=0, reviewed=[])
    assert recall_on_all_traffic(nothing, 0.95).value is None
    none_missed = [Reviewed(0.5, False)] * 10
    assert recall_on_all_traffic(Traffic(20, 0, 0, none_missed), 0.95).value is None


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Traffic of which the truth is known, with two chances to be drawn; 400 samples of it."""
    random = np.random.default_rng(5)
    approved, missed, flagged = 40_000, 120, 600
    is_missed = np.zeros(approved, dtype=bool)
    is_missed[:missed] = True
    shares = np.where(random.random(approved) < 0.5, 0.05, 0.02)
    truth, held, values = flagged / (flagged + missed), 0, []
    for _ in range(400):
        drawn = random.random(approved) < shares
        reviewed = [
            Reviewed(float(share), bool(one))
            for share, one in zip(shares[drawn], is_missed[drawn], strict=True)
        ]
        estimate = recall_on_all_traffic(Traffic(approved, flagged, 0, reviewed), 0.9)
        held += estimate.low <= truth <= estimate.high
        values.append(estimate.value)
    assert held / 400 >= 0.88
    assert np.mean([value for value in values if value is not None]) == pytest.approx(truth, abs=0.02)
