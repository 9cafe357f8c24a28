"""`python -m fraud_mlflow`: starts MLflow's server, configured from the platform's variables.

Standard library only: its image contains nothing but MLflow and this package.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import quote

from fraud_mlflow import users
from fraud_mlflow.users import WrongVariable

DATABASE: Final = "mlflow"  # the name of its database and of the role that owns it
BUCKET: Final = "fraud-mlflow"
_EXIT_CONFIGURATION: Final = 2
_PORT: Final = "5000"
# MLflow finds applications through the metadata of installed packages, but our sources are not installed.
PLUGIN: Final = Path(__file__).parent / "plugin"
USERS_FILE: Final = Path(__file__).parent / "auth.ini"
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
_HOST: Final = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{{1,5}}))?")
_LAST_PORT: Final = 65535


def arguments(environ: Mapping[str, str]) -> list[str]:
    """The arguments of MLflow. One worker takes 0.4 GB and 19 s to start, the default of four 1.6 GB and 59
    s.

    Secrets are passed in the environment, because every user can see arguments in the list of processes.
    """
    port = environ.get("MLFLOW_PORT") or _PORT
    hosts = allowed_hosts(environ, port)
    # A proxy in front may speak TLS.
    origins = [f"{scheme}://{host}" for host in hosts for scheme in ("http", "https")]
    return [
        "server",
        "--app-name=fraud",
        f"--host={environ.get('MLFLOW_HOST') or '0.0.0.0'}",  # noqa: S104 - a container's own network
        f"--port={port}",
        "--workers=1",
        f"--allowed-hosts={','.join(hosts)}",
        f"--cors-allowed-origins={','.join(origins)}",
        f"--artifacts-destination=s3://{BUCKET}",
    ]


def allowed_hosts(environ: Mapping[str, str], port: str) -> list[str]:
    """The values of the Host header that are served: our own names, and those of MLFLOW_ALLOWED_HOSTS.

    Raises:
        WrongVariable: one of them is not a host with or without a port.
    """
    hosts = [f"{name}:{port}" for name in ("mlflow", "localhost", "127.0.0.1")]
    for entry in filter(None, map(str.strip, environ.get("MLFLOW_ALLOWED_HOSTS", "").split(","))):
        match = _HOST.fullmatch(entry)
        if match is None or not 0 < int(match["port"] or port) <= _LAST_PORT:
            raise WrongVariable(
                f"MLFLOW_ALLOWED_HOSTS: {entry!r} is not a host or host:port: "
                "write for example mlflow.example.com,10.0.0.5:5000."
            )
        if entry not in hosts:
            hosts.append(entry)
    return hosts


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the server: everybody logs in; job execution, telemetry and unpickling are disabled.

    Raises:
        WrongVariable: a variable is missing, or the password of a user is unusable.
    """
    [administrator] = [user for user in users.users(environ) if user.is_admin]
    region = environ.get("AWS_REGION") or "us-east-1"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        _required(environ, name)
    return {
        **environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(PLUGIN), environ.get("PYTHONPATH")))),
        "MLFLOW_BACKEND_STORE_URI": environ.get("MLFLOW_BACKEND_STORE_URI") or _database(environ),
        "MLFLOW_S3_ENDPOINT_URL": _required(environ, "S3_ENDPOINT_URL"),
        "AWS_DEFAULT_REGION": region,
        "MLFLOW_AUTH_CONFIG_PATH": str(USERS_FILE),
        "MLFLOW_AUTH_ADMIN_USERNAME": administrator.name,
        "MLFLOW_AUTH_ADMIN_PASSWORD": administrator.password,
        # Protects the form with which an administrator makes users; there is one worker, which lives as long.
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
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
        raise WrongVariable(f"{name} is not set: set it in .env or in the environment.")
    return environ[name]


def main() -> NoReturn:
    try:
        server_environment = environment(os.environ)
        command = [sys.executable, "-m", "mlflow", *arguments(os.environ)]
    except WrongVariable as error:
        print(f"configuration: {error}", file=sys.stderr)
        sys.exit(_EXIT_CONFIGURATION)
    os.execve(sys.executable, command, server_environment)


if __name__ == "__main__":
    main()
