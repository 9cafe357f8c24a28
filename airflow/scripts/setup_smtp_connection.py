"""Sets up how alerts go out: `fraud_smtp` from SMTP_*, `fraud_slack` from SLACK_WEBHOOK_URL; safe to repeat.

What is not configured is not made; then alerts only appear in the logs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from connections import Wanted, ensure, reported
from environment import Refused, port_number

from config.constants import CONNECTION_SLACK, CONNECTION_SMTP

_SUBMISSION: Final = 587  # the port for mail that is handed in (RFC 6409)


def alert_connections(environ: Mapping[str, str]) -> list[Wanted]:
    """The connections that are configured.

    Raises:
        Refused: a variable is wrong.
    """
    made = []
    if environ.get("SMTP_HOST"):
        made.append(_smtp(environ))
    if environ.get("SLACK_WEBHOOK_URL"):
        made.append(_slack(environ["SLACK_WEBHOOK_URL"]))
    return made


def _smtp(environ: Mapping[str, str]) -> Wanted:
    security = environ.get("SMTP_SECURITY") or "starttls"
    if security not in {"starttls", "ssl", "none"}:
        raise Refused(f"SMTP_SECURITY is {security}: set it to starttls, ssl or none.")
    sender = environ.get("ALERT_EMAIL_FROM") or "fraud-platform@localhost"
    return Wanted(
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
            # A task waits for it: the provider's defaults are six times thirty seconds.
            "timeout": 10,
            "retry_limit": 0,
        },
    )


def _slack(url: str) -> Wanted:
    address = urlsplit(url)
    if address.scheme not in {"http", "https"} or not address.hostname:
        raise Refused("SLACK_WEBHOOK_URL is no http or https address: copy it whole from Slack.")
    # The whole address is the secret; the host beside it only tells people which one it is.
    return Wanted(conn_id=CONNECTION_SLACK, conn_type="http", host=address.hostname, password=url)


def main() -> int:
    wanted = alert_connections(os.environ)
    for one in wanted:
        print(f"connection {one.conn_id}: {ensure(one)}")
    if not wanted:
        print("Neither SMTP_HOST nor SLACK_WEBHOOK_URL is set: alerts appear in the logs only.")
    return 0


if __name__ == "__main__":
    sys.exit(reported(main))
