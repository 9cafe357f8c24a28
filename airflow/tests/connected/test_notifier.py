"""What is sent when: first message, counting, reminders, resolve messages, channels that fail."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk._shared.secrets_masker import _secrets_masker
from airflow.sdk.execution_time import comms
from airflow.sdk.log import mask_secret

from fraud_airflow.alerting.alert import Alert, Message, Severity, duration
from fraud_airflow.alerting.incident import Incident, variable_name
from fraud_airflow.alerting.incidents import VariableIncidents
from fraud_airflow.alerting.notifier import ChannelFailed, Notifier
from fraud_airflow.alerting.quiet import quiet_hours

START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
KEY = "00_token_renewal/renew"
ALERT = Alert(KEY, "renew failed", Severity.HIGH, "It was late.", "http://airflow/log")


class Recorder:
    """A channel that remembers; `failure` is raised instead, if there is one."""

    def __init__(self, name: str = "recorder") -> None:
        self.name = name
        self.sent: list[Message] = []
        self.failure: Exception | None = None
        self.tries = 0

    def send(self, message: Message) -> None:
        self.tries += 1
        if self.failure is not None:
            raise self.failure
        self.sent.append(message)

    @property
    def subjects(self) -> list[str]:
        return [message.subject for message in self.sent]


class NotifierSetup:
    """A notifier over real Variables, a clock that is set by hand."""

    def __init__(self, supervisor: Any) -> None:
        self.now = START
        self.quiet = quiet_hours("", "UTC")
        self.supervisor = supervisor
        self.channel = Recorder()
        self.channels: list[Any] = [self.channel]
        self.notifier = Notifier(
            lambda: self.channels,
            VariableIncidents(),
            repeat_after=timedelta(minutes=60),
            clock=lambda: self.now,
            is_quiet=self.is_quiet,
        )

    def is_quiet(self, severity: Severity, now: datetime) -> bool:
        return self.quiet.apply(severity, now)

    def fails(self, after: float = 0, alert: Alert = ALERT) -> list[str]:
        self.now += timedelta(minutes=after)
        return self.notifier.alert(alert)

    def works(self, after: float = 0) -> list[str]:
        self.now += timedelta(minutes=after)
        return self.notifier.resolve(KEY)

    @property
    def incident(self) -> Incident | None:
        return VariableIncidents().read(KEY)


@pytest.fixture
def setup(supervisor: Any) -> NotifierSetup:
    return NotifierSetup(supervisor)


def test_the_first_is_sent_and_repeats_are_counted(setup: NotifierSetup) -> None:
    assert setup.fails() == ["recorder"]
    assert [setup.fails(1) for _ in range(59)] == [[]] * 59
    assert setup.channel.sent == [Message("[high] renew failed", "It was late.", "http://airflow/log")]
    assert setup.incident is not None
    assert setup.incident.count == 60


def test_after_the_window_there_is_one_reminder_with_the_count(setup: NotifierSetup) -> None:
    setup.fails()
    setup.fails(59)
    assert setup.fails(1) == ["recorder"]
    assert setup.channel.subjects[1:] == ["[high] still: renew failed"]
    assert "3 times since 2026-11-21 12:00:00 UTC" in setup.channel.sent[1].text
    assert setup.fails(59) == []
    assert setup.fails(1) == ["recorder"]
    assert "5 times since 2026-11-21 12:00:00 UTC" in setup.channel.sent[2].text


def test_that_it_works_again_is_told_once(setup: NotifierSetup) -> None:
    setup.fails()
    setup.fails(75)
    assert setup.works(15.5) == ["recorder"]
    assert setup.channel.subjects[-1] == "[resolved] renew failed"
    assert "2 times within 1 h 30 min" in setup.channel.sent[-1].text
    assert "worked again at 2026-11-21 13:30:30 UTC" in setup.channel.sent[-1].text
    assert setup.incident is None
    assert setup.works(1) == []
    assert setup.fails(1) == ["recorder"]
    assert setup.channel.subjects[-1] == "[high] renew failed"


def test_what_always_worked_says_nothing(setup: NotifierSetup) -> None:
    assert setup.works() == []
    assert setup.channel.tries == 0


def test_what_comes_and_goes_is_not_told_each_time(setup: NotifierSetup) -> None:
    for _ in range(30):  # over ten minutes
        setup.fails(0.1)
        setup.works(0.2)
    assert setup.channel.subjects == ["[high] renew failed", "[resolved] renew failed"]
    assert setup.fails(2) == ["recorder"]  # by now the ten minutes are over
    assert setup.channel.subjects[-1] == "[high] still: renew failed"
    assert "31 times since" in setup.channel.sent[-1].text
    assert setup.works(11) == ["recorder"]
    assert setup.incident is None


def test_what_was_resolved_quickly_is_forgotten_when_it_goes_on_working(setup: NotifierSetup) -> None:
    setup.fails()
    assert setup.works(1) == ["recorder"]
    assert setup.incident is not None
    assert setup.works(8.9) == []
    assert setup.incident is not None
    assert setup.works(0.1) == []
    assert setup.incident is None


def test_a_channel_that_fails_does_not_keep_the_others_from_it(
    setup: NotifierSetup, caplog: pytest.LogCaptureFixture
) -> None:
    other = Recorder("other")
    setup.channels.insert(0, other)
    other.failure = ChannelFailed("It answered 550.")
    assert setup.fails() == ["recorder"]
    assert "Not sent by other: It answered 550." in caplog.text
    assert setup.fails(1) == []
    assert other.tries == 1


def test_an_unforeseen_failure_is_named_without_its_text(
    setup: NotifierSetup, caplog: pytest.LogCaptureFixture
) -> None:
    setup.channel.failure = RuntimeError("http://hidden.example/webhook")
    assert setup.fails() == []
    assert "Not sent by recorder: RuntimeError" in caplog.text
    assert "hidden" not in caplog.text


def test_what_no_channel_took_is_tried_again_as_the_first(setup: NotifierSetup) -> None:
    setup.channel.failure = ChannelFailed("down")
    assert [setup.fails(1) for _ in range(5)] == [[]] * 5
    assert setup.channel.tries == 1  # not each time: a channel that is down holds the task up
    setup.channel.failure = None
    assert setup.fails(1) == ["recorder"]
    assert setup.channel.subjects == ["[high] renew failed"]


def test_what_nobody_heard_of_needs_no_resolve_message(setup: NotifierSetup) -> None:
    setup.channel.failure = ChannelFailed("down")
    setup.fails()
    setup.channel.failure = None
    assert setup.works(1) == []
    assert setup.channel.sent == []
    assert setup.incident is None


def test_a_resolve_message_that_no_channel_took_is_tried_again(setup: NotifierSetup) -> None:
    setup.fails()
    setup.channel.failure = ChannelFailed("down")
    assert [setup.works(1) for _ in range(5)] == [[]] * 5
    assert setup.channel.tries == 2
    setup.channel.failure = None
    assert setup.works(5) == ["recorder"]
    assert "worked again at 2026-11-21 12:01:00 UTC" in setup.channel.sent[-1].text
    assert setup.incident is None


def test_the_end_is_when_it_last_began_to_work(setup: NotifierSetup) -> None:
    setup.fails()
    setup.channel.failure = ChannelFailed("down")
    setup.works(20)
    setup.channel.failure = None
    setup.fails(1)
    assert setup.works(9) == ["recorder"]
    assert "2 times within 30 min" in setup.channel.sent[-1].text


def test_without_a_channel_it_is_said_and_not_again_each_time(
    setup: NotifierSetup, caplog: pytest.LogCaptureFixture
) -> None:
    setup.channels.clear()
    assert setup.fails() == []
    assert setup.fails(1) == []
    assert caplog.text.count("No alert is sent about '[high] renew failed': set ALERT_EMAIL_RECIPIENTS") == 1
    assert setup.works(1) == []
    assert setup.incident is None


def test_channels_that_were_taken_away_leave_nothing_behind(setup: NotifierSetup) -> None:
    setup.fails()
    setup.channels.clear()
    assert setup.works(60) == []
    assert setup.incident is None


def test_counting_costs_a_read_and_a_write(setup: NotifierSetup) -> None:
    setup.fails()
    setup.supervisor.messages.clear()
    setup.fails(1)
    counts = [setup.supervisor.count(kind) for kind in (comms.GetVariable, comms.PutVariable)]
    assert counts == [1, 1]


def test_the_state_s_name_is_none_that_airflow_masks(setup: NotifierSetup) -> None:
    """As it would one that held the name of this DAG."""
    setup.fails()
    name = next(iter(setup.supervisor.variables))
    assert name == variable_name(KEY) != variable_name("00_token_renewal/other")
    hides = _secrets_masker().should_hide_value_for_key
    assert hides(KEY)  # type: ignore[no-untyped-call]
    assert not hides(name)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("text", ["", "[]", "{}", '"x"', "not JSON", '{"key": 1}'])
def test_a_state_that_cannot_be_read_is_begun_anew(text: str, setup: NotifierSetup) -> None:
    setup.supervisor.variables[variable_name(KEY)] = text
    assert setup.fails() == ["recorder"]
    assert setup.incident is not None
    assert setup.incident.count == 1


def test_secrets_that_airflow_knows_do_not_leave_in_a_message(setup: NotifierSetup) -> None:
    mask_secret("hunter2-hunter2")
    secret = Alert(
        KEY, "login as hunter2-hunter2 failed", Severity.HIGH, "postgresql://u:hunter2-hunter2@h/d"
    )
    setup.fails(alert=secret)
    assert "hunter2" not in str(setup.channel.sent)


def test_a_subject_is_one_short_line(setup: NotifierSetup) -> None:
    setup.fails(alert=Alert(KEY, "a\r\nBcc: x@y.z\0\x1b[31m " + "é" * 500, Severity.CRITICAL, "b" * 9000))
    message = setup.channel.sent[0]
    assert message.subject.startswith("[critical] a Bcc: x@y.z [31m éé")
    assert len(message.subject) == 150
    assert len(message.text) == 3000


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3900, "1 h 5 min"), (183_600, "2 d 3 h"), (86_405, "1 d")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(timedelta(seconds=seconds)) == words


def test_a_worse_alert_of_an_incident_is_sent_at_once(setup: NotifierSetup) -> None:
    setup.fails()
    assert setup.fails(1, replace(ALERT, severity=Severity.CRITICAL)) == ["recorder"]
    assert setup.channel.subjects[-1] == "[critical] still: renew failed"
    assert setup.fails(1, replace(ALERT, severity=Severity.CRITICAL)) == []


def test_the_watch_delivers_what_a_channel_had_refused(setup: NotifierSetup) -> None:
    """As a mail server with greylisting does: the first try is answered 451, a later one is taken."""
    setup.channel.failure = ChannelFailed("451 try again later")
    setup.fails()
    assert setup.incident is not None
    assert setup.incident.is_undelivered
    assert setup.notifier.deliver(KEY) == []
    assert setup.channel.tries == 1, "not before five minutes have passed"
    setup.channel.failure = None
    setup.now += timedelta(minutes=5)
    assert setup.notifier.deliver(KEY) == ["recorder"]
    assert setup.channel.subjects == ["[high] renew failed"]
    assert setup.notifier.deliver(KEY) == []


def test_a_channel_that_refused_is_tried_again_alone(setup: NotifierSetup) -> None:
    other = Recorder("other")
    other.failure = ChannelFailed("451 try again later")
    setup.channels.append(other)
    assert setup.fails() == ["recorder"]
    assert setup.incident is not None
    assert setup.incident.refused_by == ("other",)
    other.failure = None
    setup.now += timedelta(minutes=5)
    assert setup.notifier.deliver(KEY) == ["other"]
    assert setup.channel.subjects == other.subjects == ["[high] renew failed"]
    assert not setup.incident.is_undelivered


def test_quiet_hours_hold_a_message_until_they_end(setup: NotifierSetup) -> None:
    setup.quiet = quiet_hours("high=11:00-13:00", "UTC")
    assert setup.fails() == []
    assert setup.channel.tries == 0
    assert setup.fails(1, replace(ALERT, severity=Severity.CRITICAL)) == ["recorder"], "critical never waits"
    setup.works(10)
    assert setup.channel.subjects == ["[critical] renew failed", "[resolved] renew failed"]
    setup.now = START
    assert setup.fails() == []
    assert setup.notifier.deliver(KEY) == []
    setup.now += timedelta(hours=1)
    assert setup.notifier.deliver(KEY) == ["recorder"]
    assert setup.channel.subjects[-1] == "[high] renew failed"


def test_an_end_in_the_quiet_hours_is_told_after_them(setup: NotifierSetup) -> None:
    setup.fails()
    setup.quiet = quiet_hours("high=12:10-13:00", "UTC")
    assert setup.works(20) == []
    assert setup.notifier.deliver(KEY) == []
    setup.now += timedelta(hours=1)
    assert setup.notifier.deliver(KEY) == ["recorder"]
    assert "worked again at 2026-11-21 12:20:00 UTC" in setup.channel.sent[-1].text
    assert setup.incident is None


def test_what_is_over_stays_stored_until_the_watch_has_recorded_it(setup: NotifierSetup) -> None:
    setup.fails()
    setup.works(20)
    (text,) = setup.supervisor.variables.values()
    closed = Incident.from_json(text)
    assert (closed.closed_at, closed.count) == (START + timedelta(minutes=20), 1)
    assert setup.fails(1) == ["recorder"]
    assert setup.incident is not None
    assert (setup.incident.since, setup.incident.count) == (START + timedelta(minutes=21), 1)
