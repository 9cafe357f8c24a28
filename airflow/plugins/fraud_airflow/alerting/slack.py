"""Alerts to Slack, or to another service that accepts incoming webhooks."""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING, Any, Final

from config.constants import CONNECTION_SLACK
from fraud_airflow.alerting.alert import Message
from fraud_airflow.alerting.notifier import ChannelFailed

if TYPE_CHECKING:
    import httpx

SECONDS: Final = 10.0
MAX_WAIT_S: Final = 5.0  # a task waits so long for Slack's limit of one message a second
_REASON: Final = re.compile(r"[a-z_]{1,60}")  # `no_service`, `invalid_payload`, …


class SlackChannel:
    """The webhook's address is a secret, so it is in no message of this class."""

    name = "Slack"

    def __init__(self, webhook: str) -> None:
        self._webhook = webhook

    def send(self, message: Message) -> None:
        """Raises ChannelFailed if Slack cannot be reached or does not accept the message."""
        # httpx logs the address of every request.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        answer = self._post(message)
        if _is_busy(answer) and (wait := _retry_after(answer)) is not None:
            time.sleep(wait)
            answer = self._post(message)
        if _is_busy(answer):
            raise ChannelFailed(f"Slack answered {answer.status_code}; it is tried again in minutes.")
        if answer.status_code != 200:
            reason = f", {answer.text}" if _REASON.fullmatch(answer.text) else ""
            raise ChannelFailed(
                f"Slack answered {answer.status_code}{reason}: correct the webhook's address, the password "
                f"of the connection {CONNECTION_SLACK}."
            )

    def _post(self, message: Message) -> httpx.Response:
        import httpx

        try:
            return httpx.post(self._webhook, json=payload(message), timeout=SECONDS)
        except httpx.TimeoutException:
            raise ChannelFailed(f"Slack did not answer within {SECONDS:g} seconds.") from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise ChannelFailed(
                f"Slack cannot be reached ({type(error).__name__}): the password of the connection "
                f"{CONNECTION_SLACK} must be the webhook's address."
            ) from None


def _is_busy(answer: httpx.Response) -> bool:
    return answer.status_code == 429 or answer.status_code >= 500


def _retry_after(answer: httpx.Response) -> float | None:
    """The seconds that Slack asks to wait; None if a task cannot wait so long: the watch tries later."""
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() and float(text) <= MAX_WAIT_S else None


def payload(message: Message) -> dict[str, Any]:
    """The JSON body of an incoming webhook, https://api.slack.com/messaging/webhooks."""
    parts = [f"*{_escaped(message.subject)}*", _escaped(message.text)]
    if message.link:
        parts.append(f"<{_escaped(message.link).replace('|', '%7C')}|Log>")
    return {"text": "\n".join(parts), "unfurl_links": False, "unfurl_media": False}


def _escaped(text: str) -> str:
    """Without the three characters that begin links, mentions and entities."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
