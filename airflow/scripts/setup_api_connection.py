"""Sets up the connection `fraud_api` from API_URL, API_CLIENT_ID and API_CLIENT_SECRET; safe to repeat."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from urllib.parse import urlsplit

from connections import Wanted, ensure, reported
from environment import Refused, required

from config.constants import CLIENT_AIRFLOW, CONNECTION_API


def api_connection(environ: Mapping[str, str]) -> Wanted:
    """The connection to the scoring API.

    Raises:
        Refused: a variable is missing, or API_URL is no http address.
    """
    address = urlsplit(required(environ, "API_URL", "the address of the scoring API, as http://api:8000"))
    try:
        host, port = address.hostname, address.port
    except ValueError:
        host, port = None, None
    if address.scheme not in {"http", "https"} or not host:
        raise Refused("API_URL is no http or https address: set it to one, as http://api:8000.")
    return Wanted(
        conn_id=CONNECTION_API,
        conn_type="http",
        host=host,
        port=port or (443 if address.scheme == "https" else 80),
        schema=address.scheme,
        login=environ.get("API_CLIENT_ID") or CLIENT_AIRFLOW,
        password=required(
            environ, "API_CLIENT_SECRET", "the secret of that client, API_CLIENT_SECRET_AIRFLOW in .env"
        ),
    )


def main() -> int:
    wanted = api_connection(os.environ)
    print(f"connection {wanted.conn_id}: {ensure(wanted)}")
    return 0


if __name__ == "__main__":
    sys.exit(reported(main))
