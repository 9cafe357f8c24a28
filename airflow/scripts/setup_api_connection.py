"""Sets up the connection `fraud_api` from API_URL, API_CLIENT_ID and API_CLIENT_SECRET; safe to repeat."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from urllib.parse import urlsplit

from connections import ConnectionSpec, ensure, run_script
from environment import SettingError, required

from config.constants import CLIENT_AIRFLOW, CONNECTION_API


def api_connection(environ: Mapping[str, str]) -> ConnectionSpec:
    """The connection to the scoring API.

    Raises:
        SettingError: a variable is missing, or API_URL is not an http address.
    """
    address = urlsplit(
        required(environ, "API_URL", "the address of the scoring API, such as http://api:8000")
    )
    try:
        host, port = address.hostname, address.port
    except ValueError:
        host, port = None, None
    if address.scheme not in {"http", "https"} or not host:
        raise SettingError("API_URL is not an http or https address: set it to one, such as http://api:8000.")
    return ConnectionSpec(
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
    spec = api_connection(os.environ)
    print(f"connection {spec.conn_id}: {ensure(spec)}")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
