"""`python -m fraud_mlflow`: starts MLflow's server, configured from the platform's variables.

Standard library only: its image contains nothing but MLflow and this package.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import quote

DATABASE: Final = "mlflow"  # the name of its database and of the role that owns it
BUCKET: Final = "fraud-mlflow"
_EXIT_CONFIGURATION: Final = 2
_PORT: Final = "5000"
# MLflow finds applications through the metadata of installed packages, but our sources are not installed.
PLUGIN: Final = Path(__file__).parent / "plugin"


class VariableMissing(Exception):
    """A required variable is not set; the message is one sentence."""


def arguments(environ: Mapping[str, str]) -> list[str]:
    """The arguments of MLflow. One worker takes 0.4 GB and 19 s to start, the default of four 1.6 GB and 59
    s.

    Secrets are passed in the environment, because every user can see arguments in the list of processes.
    """
    port = environ.get("MLFLOW_PORT") or _PORT
    hosts = [f"{name}:{port}" for name in ("mlflow", "localhost", "127.0.0.1")]
    hosts += [
        host for host in environ.get("MLFLOW_ALLOWED_HOSTS", "").split(",") if host and host not in hosts
    ]
    return [
        "server",
        "--app-name=fraud",
        f"--host={environ.get('MLFLOW_HOST') or '0.0.0.0'}",  # noqa: S104 - a container's own network
        f"--port={port}",
        "--workers=1",
        f"--allowed-hosts={','.join(hosts)}",
        f"--cors-allowed-origins={','.join(f'http://{host}' for host in hosts)}",
        f"--artifacts-destination=s3://{BUCKET}",
    ]


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the server: job execution, telemetry and unpickling are disabled.

    Raises:
        VariableMissing: a variable is missing.
    """
    region = environ.get("AWS_REGION") or "us-east-1"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        _required(environ, name)
    return {
        **environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(PLUGIN), environ.get("PYTHONPATH")))),
        "MLFLOW_BACKEND_STORE_URI": environ.get("MLFLOW_BACKEND_STORE_URI") or _database(environ),
        "MLFLOW_S3_ENDPOINT_URL": _required(environ, "S3_ENDPOINT_URL"),
        "AWS_DEFAULT_REGION": region,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }


def _database(environ: Mapping[str, str]) -> str:
    password = quote(_required(environ, "MLFLOW_DB_PASSWORD"), safe="")
    host, port = environ.get("DB_HOST") or "localhost", environ.get("DB_PORT") or "5432"
    return f"postgresql+psycopg2://{DATABASE}:{password}@{host}:{port}/{DATABASE}"


def _required(environ: Mapping[str, str], name: str) -> str:
    if not environ.get(name):
        raise VariableMissing(f"configuration: {name} is not set: set it in .env or in the environment.")
    return environ[name]


def main() -> NoReturn:
    try:
        server_environment = environment(os.environ)
    except VariableMissing as error:
        print(error, file=sys.stderr)
        sys.exit(_EXIT_CONFIGURATION)
    command = [sys.executable, "-m", "mlflow", *arguments(os.environ)]
    os.execve(sys.executable, command, server_environment)


if __name__ == "__main__":
    main()
