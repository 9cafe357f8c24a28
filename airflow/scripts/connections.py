"""Creates and updates connections, for the scripts that set them up."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from environment import SettingError, complete_environment


@dataclass(frozen=True)
class ConnectionSpec:
    """The desired state of a connection; `extra` is stored as JSON."""

    conn_id: str
    conn_type: str
    host: str
    port: int | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    schema: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict)


def ensure(spec: ConnectionSpec) -> str:
    """Create the connection or update it; returns `made`, `changed` or `unchanged`."""
    import json

    from airflow.models.connection import Connection
    from airflow.utils.session import create_session
    from cryptography.fernet import InvalidToken
    from sqlalchemy import delete, select

    values: dict[str, Any] = {
        "conn_type": spec.conn_type,
        "host": spec.host,
        "port": spec.port,
        "login": spec.login,
        "schema": spec.schema,
        "password": spec.password,
        "extra": json.dumps(dict(spec.extra), sort_keys=True) if spec.extra else None,
    }
    with create_session() as session:
        try:
            existing = session.scalar(select(Connection).where(Connection.conn_id == spec.conn_id))
            exists = existing is not None
            same = exists and {name: getattr(existing, name) for name in values} == values
        except InvalidToken:
            # It was encrypted with another key, so nobody can read it any more.
            exists, same = True, False
        if same:
            return "unchanged"
        session.execute(delete(Connection).where(Connection.conn_id == spec.conn_id))
        session.add(Connection(conn_id=spec.conn_id, **values))
        return "changed" if exists else "made"


def run_script(work: Callable[[], int]) -> int:
    """Run a script's main function; an invalid variable leads to one sentence and exit code 2."""
    try:
        complete_environment()
        return work()
    except SettingError as error:
        print(error, file=sys.stderr)
        return 2
