"""Sets up every connection the DAGs use: `python setup_connections.py`. Repeat it to change them.

Airflow keeps them encrypted in its database; a task can read them, not write them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from connections import Wanted, ensure, reported
from setup_api_connection import api_connection
from setup_smtp_connection import alert_connections


def described(environ: Mapping[str, str]) -> list[Wanted]:
    """The connections the environment describes.

    Raises:
        Refused: a variable is missing or wrong.
    """
    return [api_connection(environ), *alert_connections(environ)]


def main() -> int:
    for wanted in described(os.environ):
        print(f"connection {wanted.conn_id}: {ensure(wanted)}")
    return 0


if __name__ == "__main__":
    sys.exit(reported(main))
