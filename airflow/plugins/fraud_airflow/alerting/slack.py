"""Alerts to Slack, or to another service that accepts incoming webhooks."""

from __future__ import annotations

import logging
import re
from typing import Any, Final

from config.constants import CONNECTION_SLACK
from fraud_airflow.alerting.alert import Message
from fraud_airflow.alerting.notifier import ChannelFailed

SECONDS: Final = 10.0
_REASON: Final = re.compile(r"[a-z_]{1,60}")  # `no_service`, `invalid_payload`, …


class SlackChannel:
    """The webhook's address is a secret, so it is in no message of this class."""

    name = "Slack"

    def __init__(self, webhook: str) -> None:
        self._webhook = webhook

    def send(self, message: Message) -> None:
        """Raises ChannelFailed if Slack cannot be reached or does not accept the message."""
        import httpx

        # httpx logs the address of every request.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        try:
            answer = httpx.post(self._webhook, json=payload(message), timeout=SECONDS)
        except httpx.TimeoutException:
            raise ChannelFailed(f"Slack did not answer within {SECONDS:g} seconds.") from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise ChannelFailed(
                f"Slack cannot be reached ({type(error).__name__}): the password of the connection "
                f"{CONNECTION_SLACK} must be the webhook's address."
            ) from None
        if answer.status_code != 200:
            reason = f", {answer.text}" if _REASON.fullmatch(answer.text) else ""
            raise ChannelFailed(
                f"Slack answered {answer.status_code}{reason}: correct the webhook's address, the password "
                f"of the connection {CONNECTION_SLACK}."
            )


def payload(message: Message) -> dict[str, Any]:
    """The JSON body of an incoming webhook, https://api.slack.com/messaging/webhooks."""
    parts = [f"*{_escaped(message.subject)}*", _escaped(message.text)]
    if message.link:
        parts.append(f"<{_escaped(message.link).replace('|', '%7C')}|Log>")
    return {"text": "\n".join(parts), "unfurl_links": False, "unfurl_media": False}


def _escaped(text: str) -> str:
    """Without the three characters that begin links, mentions and entities."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
