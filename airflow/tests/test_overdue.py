"""When a DAG is overdue, and what is told of it: times go in, messages come out."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, CronDataIntervalTimetable, CronTriggerTimetable, DeltaTriggerTimetable
from airflow.serialization.serialized_objects import DagSerialization

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))
from overdue import ActiveRun, Dag, Kind, Notification, OverdueWatch  # noqa: E402
from schedules import Cron, Every, Schedule, deadline, schedule  # noqa: E402

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)  # a Monday
S, H = timedelta(seconds=1), timedelta(hours=1)
FIVE = Every(5 * S)
DAG_FILES = SCRIPTS.parent / "dags"


def timetable(dag: DAG) -> dict[str, Any]:
    found: dict[str, Any] = DagSerialization.to_dict(dag)["dag"]["timetable"]
    return found


@pytest.mark.parametrize(
    ("given", "known"),
    [
        (timedelta(seconds=5), FIVE),
        (timedelta(milliseconds=1500), Every(1.5 * S)),
        (DeltaTriggerTimetable(H), Every(H)),
        ("0 0 * * *", Cron("0 0 * * *", "UTC")),
        ("@hourly", Cron("0 * * * *", "UTC")),
        (CronTriggerTimetable("0 3 * * *", timezone="Europe/Berlin"), Cron("0 3 * * *", "Europe/Berlin")),
        (CronDataIntervalTimetable("0 3 * * 1-5", timezone="UTC"), Cron("0 3 * * 1-5", "UTC")),
        (None, None),
        ("@once", None),
        ("@continuous", None),
    ],
)
def test_a_schedule_is_read_as_airflow_keeps_it(given: Any, known: Schedule | None) -> None:
    with DAG("one", schedule=given, start_date=NOON, max_active_runs=1) as dag:
        pass
    assert schedule(timetable(dag)) == known


def test_every_dag_that_is_scheduled_is_watched() -> None:
    for dag in DagBag(DAG_FILES).dags.values():
        assert (schedule(timetable(dag)) is None) is (dag.schedule is None), dag.dag_id


@pytest.mark.parametrize(
    ("known", "until"),
    [
        (FIVE, NOON + 50 * S),
        (Every(10 * S), NOON + 100 * S),
        (Cron("* * * * *", "UTC"), NOON + timedelta(minutes=10)),
        (Cron("*/5 * * * *", "UTC"), NOON + timedelta(minutes=50)),
        # Ten of these would be ten hours, and ten days.
        (Every(H), NOON + 2 * H),
        (Cron("0 0 * * *", "UTC"), datetime(2026, 3, 3, 1, tzinfo=UTC)),
        # Friday's run and then Monday's: the weekend is not missed.
        (Cron("0 3 * * 1-5", "UTC"), datetime(2026, 3, 3, 4, tzinfo=UTC)),
        (Cron("30 1 * * *", "Asia/Kolkata"), datetime(2026, 3, 2, 21, tzinfo=UTC)),
    ],
)
def test_until_when_a_run_must_have_succeeded(known: Schedule, until: datetime) -> None:
    assert deadline(known, NOON) == until


def test_a_weekend_without_a_run_is_not_late() -> None:
    friday = datetime(2026, 3, 6, 3, 5, tzinfo=UTC)
    assert deadline(Cron("0 3 * * 1-5", "UTC"), friday) == datetime(2026, 3, 9, 4, tzinfo=UTC)


def dag(**changes: Any) -> Dag:
    made = Dag("one", FIVE, critical=False, unreadable=False, succeeded=None, active=None, has_incident=False)
    return replace(made, **changes)


def messages(
    watch: OverdueWatch, known: list[Dag], now: datetime, *, sent: bool = True
) -> list[Notification]:
    """One look; what it tells is done, and told or not."""
    lateness = watch.check(known, now)
    found = list(watch.notifications(lateness, now))
    for message in found:
        watch.record(message, lateness[message.dag_id][0], now, sent=sent)
    return found


def watched(known: Dag, seconds: range, **options: Any) -> list[tuple[int, Kind]]:
    """A watch's looks so many seconds after noon, and when it told what."""
    watch, found = OverdueWatch(), []
    for second in seconds:
        found += [(second, one.kind) for one in messages(watch, [known], NOON + second * S, **options)]
    return found


def test_it_is_told_when_the_first_ten_periods_are_over_and_then_once_in_five_minutes() -> None:
    assert watched(dag(), range(0, 660, 5)) == [(50, Kind.ALERT), (350, Kind.ALERT), (650, Kind.ALERT)]


def test_where_nobody_could_be_told_it_is_tried_again() -> None:
    hourly = dag(schedule=Every(H))
    looks = range(7200, 15000, 30)
    first = watched(hourly, range(0, 15000, 30))
    assert first == [(7200, Kind.ALERT), (10800, Kind.ALERT), (14400, Kind.ALERT)]
    again = [second for second, _ in watched(hourly, range(0, 15000, 30), sent=False)]
    assert again == list(range(7200, looks.stop, 300))


def test_a_dag_that_succeeds_is_in_time() -> None:
    watch = OverdueWatch()
    for second in range(0, 300, 5):
        now = NOON + second * S
        assert messages(watch, [dag(succeeded=now - 40 * S)], now) == []


def test_what_was_before_the_first_look_does_not_count() -> None:
    """A platform that was off over night is not overdue when it starts, nor a DAG that is unpaused."""
    assert watched(dag(succeeded=NOON - 12 * H), range(0, 60, 5)) == [(50, Kind.ALERT)]


def test_a_paused_dag_begins_anew_when_it_is_unpaused() -> None:
    watch = OverdueWatch()
    for second in range(0, 40, 5):
        assert messages(watch, [dag()], NOON + second * S) == []
    assert messages(watch, [], NOON + 40 * S) == []
    found = [bool(messages(watch, [dag()], NOON + second * S)) for second in range(45, 100, 5)]
    assert found == [False] * 10 + [True]


def test_a_watch_that_could_not_look_begins_anew() -> None:
    watch = OverdueWatch()
    assert messages(watch, [dag()], NOON) == []
    assert messages(watch, [dag()], NOON + H) == []
    assert messages(watch, [dag()], NOON + H + 45 * S) == []
    assert messages(watch, [dag()], NOON + H + 50 * S) != []


def test_its_end_is_told_once_a_run_has_succeeded() -> None:
    watch = OverdueWatch()
    open_incident = dag(has_incident=True, succeeded=NOON - H)
    assert messages(watch, [open_incident], NOON) == [], "of another watch; nothing has succeeded yet"
    [resolved] = messages(watch, [replace(open_incident, succeeded=NOON + S)], NOON + 5 * S)
    assert resolved == Notification(Kind.RESOLVE, "one", "one: overdue")
    assert messages(watch, [dag(succeeded=NOON + S)], NOON + 10 * S) == []


@pytest.mark.parametrize(
    ("changes", "severity", "reason"),
    [
        ({}, "high", "No run is queued or running"),
        ({"critical": True}, "critical", "No run is queued or running"),
        ({"unreadable": True}, "high", "list-import-errors"),
        (
            {"active": ActiveRun("r1", "running", NOON + H)},
            "high",
            "The run r1 is running and dated ahead, 2026-",
        ),
        ({"active": ActiveRun("r1", "queued", NOON - H)}, "high", "The run r1 is queued: look at its tasks"),
        ({"active": ActiveRun("r1", "queued", None)}, "high", "The run r1 is queued: look at its tasks"),
    ],
)
def test_what_is_said(changes: dict[str, Any], severity: str, reason: str) -> None:
    watch, known = OverdueWatch(), dag(succeeded=NOON - S, **changes)
    found = [one for second in range(0, 55, 5) for one in messages(watch, [known], NOON + second * S)]
    assert [(one.kind, one.key, one.severity) for one in found] == [(Kind.ALERT, "one: overdue", severity)]
    assert found[0].title == "one: no run succeeds"
    begun, said = found[0].text.splitlines()
    assert begun == "It should run every 5 s, and no run has succeeded since 2026-03-02 11:59:59 UTC."
    assert reason in said
