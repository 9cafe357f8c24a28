"""What the scripts that set up connections share: what one should be like, and making it so."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from environment import Refused, complete


@dataclass(frozen=True)
class Wanted:
    """One connection as it should be; `extra` is kept as JSON."""

    conn_id: str
    conn_type: str
    host: str
    port: int | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    schema: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict)


def ensure(wanted: Wanted) -> str:
    """Make the connection or change it to what is wanted: `made`, `changed` or `unchanged`."""
    import json

    from airflow.models.connection import Connection
    from airflow.utils.session import create_session
    from cryptography.fernet import InvalidToken
    from sqlalchemy import delete, select

    values: dict[str, Any] = {
        "conn_type": wanted.conn_type,
        "host": wanted.host,
        "port": wanted.port,
        "login": wanted.login,
        "schema": wanted.schema,
        "password": wanted.password,
        "extra": json.dumps(dict(wanted.extra), sort_keys=True) if wanted.extra else None,
    }
    with create_session() as session:
        try:
            found = session.scalar(select(Connection).where(Connection.conn_id == wanted.conn_id))
            known = found is not None
            same = known and {name: getattr(found, name) for name in values} == values
        except InvalidToken:
            # It was encrypted with another key: nobody can read it any more.
            known, same = True, False
        if same:
            return "unchanged"
        session.execute(delete(Connection).where(Connection.conn_id == wanted.conn_id))
        session.add(Connection(conn_id=wanted.conn_id, **values))
        return "changed" if known else "made"


def reported(work: Callable[[], int]) -> int:
    """Run a script's main function; a wrong variable is one sentence and exit code 2."""
    try:
        complete()
        return work()
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 2
