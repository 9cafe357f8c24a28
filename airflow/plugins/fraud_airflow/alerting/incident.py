"""An incident: what is known of a problem between its first alert and its end. Nothing here does any I/O."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final, Self

from fraud_airflow.alerting.alert import Severity

VARIABLE_PREFIX: Final = "fraud_alert/"
# A channel that is down delays a task until its timeout; this must not happen in each run of a frequent DAG.
RETRY_AFTER: Final = timedelta(minutes=5)
_TIMES: Final = ("since", "sent_at", "tried_at", "worked_at", "closed_at")


@dataclass(frozen=True, slots=True)
class Incident:
    """A problem that occurred `count` times since `since`; times in UTC.

    `severity`, `title`, `text` and `link` are the latest alert's. `sent_at`: when a channel last took a
    message of it, and `sent_severity` its severity; `tried_at`: when a message was last tried; `worked_at`:
    when it worked again; `resolved`: whether people were told so; `refused_by`: the
    channels that refused the latest message while another one took it; `closed_at`: when it was over and
    forgotten.
    """

    key: str
    title: str
    since: datetime
    count: int
    severity: Severity
    text: str = ""
    link: str = ""
    sent_at: datetime | None = None
    sent_severity: Severity | None = None
    tried_at: datetime | None = None
    worked_at: datetime | None = None
    resolved: bool = False
    refused_by: tuple[str, ...] = ()
    closed_at: datetime | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether a message about it is still to be sent."""
        if self.closed_at is not None:
            return False
        if self.refused_by:
            return True
        if self.worked_at is None:
            return self.sent_at is None
        return self.sent_at is not None and not self.resolved

    @property
    def is_undelivered(self) -> bool:
        """Whether its latest message was tried, and no channel or not every channel took it."""
        return bool(self.refused_by) or (
            self.is_waiting and self.tried_at is not None and self.tried_at != self.sent_at
        )

    def may_be_tried(self, now: datetime) -> bool:
        """Whether its last try is long enough ago."""
        fresh = self.tried_at is None or (self.tried_at == self.sent_at and not self.refused_by)
        return fresh or self.tried_at is None or now - self.tried_at >= RETRY_AFTER

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=datetime.isoformat)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError if the text is not an incident."""
        document = json.loads(text)
        if not isinstance(document, dict) or set(document) != {field.name for field in fields(cls)}:
            raise ValueError("not an incident")
        times = {name: _time(document[name]) for name in _TIMES}
        if times["since"] is None:
            raise ValueError("no beginning")
        sent = document["sent_severity"]
        values: dict[str, Any] = document | times | {"count": int(document["count"])}
        values |= {
            "severity": Severity(document["severity"]),
            "refused_by": tuple(map(str, document["refused_by"])),
            "sent_severity": None if sent is None else Severity(sent),
        }
        return cls(**values)


def variable_name(key: str) -> str:
    """The Variable of a key.

    A digest: Airflow masks the values of Variables whose name holds a word like `token`, as a DAG's id may.
    """
    return VARIABLE_PREFIX + sha256(key.encode()).hexdigest()[:24]


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("a time without zone")
    return time
