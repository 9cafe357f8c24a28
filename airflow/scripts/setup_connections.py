"""Sets up every connection the DAGs use: `python setup_connections.py`. Repeat it to change them.

Airflow keeps them encrypted in its database; a task can read them, not write them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from connections import ConnectionSpec, ensure, run_script
from setup_api_connection import api_connection
from setup_smtp_connection import alert_connections


def connections_from(environ: Mapping[str, str]) -> list[ConnectionSpec]:
    """The connections the environment describes.

    Raises:
        SettingError: a variable is missing or wrong.
    """
    return [api_connection(environ), *alert_connections(environ)]


def main() -> int:
    for spec in connections_from(os.environ):
        print(f"connection {spec.conn_id}: {ensure(spec)}")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
