"""Run by `init-airflow.sh`, as one process because each start of Airflow's command line takes seconds."""

from __future__ import annotations

import os
import sys

from connections import ensure, run_script
from environment import SettingError, required
from setup_connections import connections_from

# One slot per sub-minute DAG, and two for manual runs.
_REAL_TIME_SLOTS = 4


def main() -> int:
    """Migrate, then set up log-in and connections; 0 done, 2 a variable is missing or invalid."""
    # Settings are checked before anything is changed.
    password = required(os.environ, "AIRFLOW_PASSWORD", "the password of the web UI")
    connections = connections_from(os.environ)
    migrate()
    print(f"log-in: {setup_user(password)}", flush=True)
    print(f"pool: {setup_pool()}", flush=True)
    for spec in connections:
        print(f"connection {spec.conn_id}: {ensure(spec)}", flush=True)
    return 0


def migrate() -> None:
    """Migrate the metadata database to this version."""
    from airflow.utils import db

    db.upgradedb()


def setup_user(password: str) -> str:
    """Create the administrator who logs in, or set their password; returns what was done."""
    from airflow.providers.fab.auth_manager.cli_commands.utils import (
        get_application_builder,
    )

    from config.constants import AIRFLOW_USER

    with get_application_builder() as builder:
        manager = builder.sm
        manager.sync_roles()
        user = manager.find_user(username=AIRFLOW_USER)
        if user is None:
            role = manager.find_role("Admin")
            mail = f"{AIRFLOW_USER}@localhost"
            if not manager.add_user(AIRFLOW_USER, "Airflow", "Administrator", mail, role, password):
                raise SettingError(f"Airflow did not accept the user {AIRFLOW_USER}: its log says why.")
            return f"{AIRFLOW_USER} made"
        if _password_is(user.password, password):
            return f"{AIRFLOW_USER} unchanged"
        manager.reset_password(user.id, password)
        return f"{AIRFLOW_USER} has a new password"


def setup_pool() -> str:
    """Create the pool of the sub-minute DAGs."""
    from airflow.models.pool import Pool

    from config.constants import POOL_REAL_TIME

    text = "Slots of the sub-minute DAGs, so that nothing that takes long holds them up"
    Pool.create_or_update_pool(POOL_REAL_TIME, _REAL_TIME_SLOTS, text, include_deferred=False)
    return f"{POOL_REAL_TIME} with {_REAL_TIME_SLOTS} slots"


def _password_is(hashed: str, password: str) -> bool:
    from werkzeug.security import check_password_hash

    return check_password_hash(hashed, password)


if __name__ == "__main__":
    sys.exit(run_script(main))
