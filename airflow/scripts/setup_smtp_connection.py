"""Sets up the connections for alerts: `fraud_smtp` from SMTP_*, `fraud_slack` from SLACK_WEBHOOK_URL; safe to
repeat.

Connections that are not configured are not created; without any, alerts only appear in the logs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from connections import ConnectionSpec, ensure, run_script
from environment import SettingError, port_number

from config.constants import CONNECTION_SLACK, CONNECTION_SMTP

_SUBMISSION: Final = 587  # the port of mail submission (RFC 6409)


def alert_connections(environ: Mapping[str, str]) -> list[ConnectionSpec]:
    """The connections that are configured.

    Raises:
        SettingError: a variable is invalid.
    """
    specs = []
    if environ.get("SMTP_HOST"):
        specs.append(_smtp(environ))
    if environ.get("SLACK_WEBHOOK_URL"):
        specs.append(_slack(environ["SLACK_WEBHOOK_URL"]))
    return specs


def _smtp(environ: Mapping[str, str]) -> ConnectionSpec:
    security = environ.get("SMTP_SECURITY") or "starttls"
    if security not in {"starttls", "ssl", "none"}:
        raise SettingError(f"SMTP_SECURITY is {security}: set it to starttls, ssl or none.")
    sender = environ.get("ALERT_EMAIL_FROM") or "fraud-platform@localhost"
    return ConnectionSpec(
        conn_id=CONNECTION_SMTP,
        conn_type="smtp",
        host=environ["SMTP_HOST"],
        port=port_number(environ, "SMTP_PORT", _SUBMISSION) or _SUBMISSION,
        login=environ.get("SMTP_USER") or None,
        password=environ.get("SMTP_PASSWORD") or None,
        extra={
            "from_email": sender,
            "disable_ssl": security != "ssl",
            "disable_tls": security != "starttls",
            # A task waits for the mail server; the provider's defaults are six times thirty seconds.
            "timeout": 10,
            "retry_limit": 0,
        },
    )


def _slack(url: str) -> ConnectionSpec:
    address = urlsplit(url)
    if address.scheme not in {"http", "https"} or not address.hostname:
        raise SettingError(
            "SLACK_WEBHOOK_URL is not an http or https address: copy the whole address from Slack."
        )
    # The whole address is the secret; the host is only set to identify the service.
    return ConnectionSpec(conn_id=CONNECTION_SLACK, conn_type="http", host=address.hostname, password=url)


def main() -> int:
    spec = alert_connections(os.environ)
    for one in spec:
        print(f"connection {one.conn_id}: {ensure(one)}")
    if not spec:
        print("Neither SMTP_HOST nor SLACK_WEBHOOK_URL is set: alerts appear in the logs only.")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
