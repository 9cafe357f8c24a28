"""Alerts by e-mail, over the connection `fraud_smtp`."""

from __future__ import annotations

import re
from email.errors import MessageError
from html import escape
from typing import Final

from airflow.sdk.exceptions import AirflowException

from config.constants import CONNECTION_SMTP
from fraud_airflow.alerting.alert import Message
from fraud_airflow.alerting.notifier import ChannelFailed

_ADDRESS: Final = re.compile(r"[^\s,;<>\"@]+@[^\s,;<>\"@]+")
_SHOWN: Final = 200  # characters of a server's reply


def recipients(text: str) -> list[str]:
    """The addresses of ALERT_EMAIL_RECIPIENTS, separated by commas or semicolons.

    Raises:
        ChannelFailed: one of them is not an address.
    """
    parts = [part.strip() for part in re.split("[,;]", text)]
    addresses = [part for part in parts if part]
    for address in addresses:
        if _ADDRESS.fullmatch(address) is None:
            raise ChannelFailed(f"ALERT_EMAIL_RECIPIENTS: {address!r} is not an e-mail address.")
    return addresses


class EmailChannel:
    """Uses the provider's hook, which logs in, uses TLS according to the connection's extras, and sends HTML
    only."""

    name = "e-mail"

    def __init__(self, addresses: str, conn_id: str = CONNECTION_SMTP) -> None:
        self._addresses = addresses
        self._conn_id = conn_id

    def send(self, message: Message) -> None:
        """Raises ChannelFailed if an address is malformed or the server did not accept the mail for all
        recipients."""
        import smtplib

        from airflow.providers.smtp.hooks.smtp import SmtpHook

        to = recipients(self._addresses)
        try:
            with SmtpHook(smtp_conn_id=self._conn_id) as hook:
                hook.send_email_smtp(to=to, subject=message.subject, html_content=html(message))
        except smtplib.SMTPResponseException as error:
            raise self._failed(f"{error.smtp_code} {_text(error.smtp_error)}") from None
        except smtplib.SMTPRecipientsRefused:
            raise self._failed("it refuses all of ALERT_EMAIL_RECIPIENTS") from None
        except MessageError:
            raise self._failed(
                "a header of the mail is malformed; is the connection's from_email an address?"
            ) from None
        except (AirflowException, OSError) as error:  # OSError: sockets, TLS and all of smtplib
            raise self._failed(_text(str(error)) or type(error).__name__) from None

    def _failed(self, reason: str) -> ChannelFailed:
        return ChannelFailed(f"The mail server of the connection {self._conn_id}: {reason}.")


def html(message: Message) -> str:
    """The body of a mail."""
    link = f'<p><a href="{escape(message.link)}">Log</a></p>' if message.link else ""
    return f'<div style="white-space: pre-wrap">{escape(message.text)}</div>{link}'


def _text(reply: bytes | str) -> str:
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply
    return " ".join(text.split())[:_SHOWN].rstrip(".")
