"""Labels in any order and combination: the database agrees with the plain model of the rules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fraud_adapters.postgres import connect
from fraud_db.upgrade import upgrade
from tests.integration.label_history import (
    TRANSACTIONS,
    Arrive,
    Installations,
    LabelHistory,
    Refresh,
    Report,
    ReportedLabel,
    Step,
    Wait,
)
from tests.integration.store_paths import store_path  # noqa: F401
from tests.support.api_server import cloned
from tests.support.stored_rows import LABELS

REPORTED_LABELS = st.builds(
    ReportedLabel,
    transaction=st.integers(0, TRANSACTIONS - 1),
    rank=st.integers(0, 7),
    label=st.integers(0, 1),
    source=st.sampled_from(["adjudication", "analyst", "random_audit", "chargeback", "simulator"]),
    reporter=st.sampled_from([None, "ann", "bo"]),
    day=st.sampled_from([-70, -50, -47, -8, -6, -6, -1, 1, 4, 50]),
)
ARRIVE = st.builds(
    Arrive,
    transaction=st.integers(0, TRANSACTIONS - 1),
    wire_class=st.sampled_from([None, 0, 1]),
    decision=st.sampled_from([None, "approve", "review", "block"]),
)
STEP = st.one_of(
    ARRIVE,
    st.lists(REPORTED_LABELS, min_size=1, max_size=4).map(lambda labels: Report(tuple(labels))),
    st.builds(Wait, days=st.sampled_from([2, 5, 40])),
    st.just(Refresh()),
)
DAYS = st.lists(st.sampled_from([-60, -46, -44, -4, 3]), min_size=TRANSACTIONS, max_size=TRANSACTIONS)


@pytest.fixture(scope="module")
def installations(template: Any, postgres_admin_url: str) -> Iterator[Installations]:
    with cloned(template, postgres_admin_url, "labels_model") as database:
        upgrade(database.url("owner"), LABELS)
        with (
            closing(connect(database.url("streaming"), "test")) as streaming,
            closing(connect(database.url("admin"), "test")) as admin,
        ):
            with admin, admin.cursor() as cursor:
                # The ledgers refuse changes, and this is how time passes.
                cursor.execute("SET session_replication_role = replica")
            yield Installations(streaming, admin)


TIES = [
    Arrive(0, None, "approve"),
    Report(
        (
            ReportedLabel(0, 1, 1, "simulator", -6),
            ReportedLabel(0, 2, 0, "simulator", -6),
            ReportedLabel(1, 4, 1, "analyst", -6),
        )
    ),
    Report(
        (
            ReportedLabel(1, 3, 0, "analyst", -6),
            ReportedLabel(1, 7, 0, "analyst", -8),
            ReportedLabel(1, 6, 0, "simulator", -1),
        )
    ),
]
BLOCKED_LATER = [Arrive(0, None, None), Arrive(0, None, "block"), Refresh(), Wait(40), Refresh()]
WIRE_CLASS_AND_OLD_REPORT = [Arrive(0, 1, None), Report((ReportedLabel(0, 0, 0, "analyst", 50),))]
SILENT_THEN_CONFIRMED = [
    *(Arrive(0, None, None), Report((ReportedLabel(0, 0, 0, "simulator", -1),)), Arrive(0, None, "block")),
]
WIRE_CLASS_AND_SILENCE = [
    Arrive(0, 1, None),
    Wait(40),
    Refresh(),
    Report((ReportedLabel(0, 0, 0, "simulator", -6),)),
]
REPORTED_AHEAD = [
    Report((ReportedLabel(0, 1, 1, "simulator", 4), ReportedLabel(1, 2, 1, "analyst", 4))),
    *(Arrive(0, 0, "approve"), Wait(5), Arrive(1, None, "block"), Refresh()),
]
SILENT_THEN_AHEAD = [
    *(Arrive(0, None, "approve"), Report((ReportedLabel(0, 0, 1, "chargeback", 50),)), Wait(5), Refresh()),
    *(Wait(40), Refresh(), Wait(40), Refresh()),
]
# Two analysts disagree, one thinks again, and they agree.
TWO_ANALYSTS = [
    Arrive(0, None, "approve"),
    Report((ReportedLabel(0, 1, 1, "analyst", -8, "ann"), ReportedLabel(0, 2, 0, "analyst", -6, "bo"))),
    Report((ReportedLabel(0, 3, 0, "analyst", -1, "ann"),)),
]
# A lead decides; what is reported later is a new contradiction.
ADJUDICATED = [
    Report((ReportedLabel(0, 1, 1, "chargeback", -50), ReportedLabel(0, 2, 0, "analyst", -47, "ann"))),
    Report((ReportedLabel(0, 3, 0, "adjudication", -8, "lea"),)),
    Report((ReportedLabel(0, 4, 1, "chargeback", -1),)),
]
# The report that explains a contradiction away arrives last, and lies before it.
LATE_AND_EARLIER = [
    Report((ReportedLabel(0, 1, 1, "simulator", -50), ReportedLabel(0, 2, 0, "random_audit", -6, "ann"))),
    Report((ReportedLabel(0, 3, 0, "simulator", -8),)),
]


@settings(max_examples=100, deadline=None)
@given(days=DAYS, steps=st.lists(STEP, min_size=6, max_size=16))
@example(days=[-4, -4, -4], steps=TIES)
@example(days=[-60, -60, -60], steps=BLOCKED_LATER)
@example(days=[-60, -60, -60], steps=WIRE_CLASS_AND_OLD_REPORT)
@example(days=[-60, -60, -60], steps=SILENT_THEN_CONFIRMED)
@example(days=[-44, -44, -44], steps=WIRE_CLASS_AND_SILENCE)
@example(days=[-4, -4, -4], steps=REPORTED_AHEAD)
@example(days=[-44, -44, -44], steps=SILENT_THEN_AHEAD)
@example(days=[-60, -60, -60], steps=TWO_ANALYSTS)
@example(days=[-60, -60, -60], steps=ADJUDICATED)
@example(days=[-60, -60, -60], steps=LATE_AND_EARLIER)
def test_classes_and_what_was_known_when_follow_the_rules(
    installations: Installations, days: list[int], steps: list[Step]
) -> None:
    history = LabelHistory(installations, days)
    for step in steps:
        history.do(step)
        history.check_classes()
    history.check_as_of()
    history.refresh()
    history.check_classes()
