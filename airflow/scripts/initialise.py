"""Run by `init-airflow.sh`, as one process because each start of Airflow's command line takes seconds."""

from __future__ import annotations

import os
import sys
from typing import Any

from connections import ensure, run_script
from environment import SettingError, required
from setup_connections import connections_from

# One slot per sub-minute DAG, and two for manual runs.
_REAL_TIME_SLOTS = 4


def main() -> int:
    """Migrate, then set up log-in and connections; 0 done, 2 a variable is missing or invalid."""
    # Settings are checked before anything is changed.
    password = required(os.environ, "AIRFLOW_PASSWORD", "the password of the web UI")
    train_password = required(
        os.environ, "AIRFLOW_TRAIN_PASSWORD", "the password with which the API starts trainings"
    )
    connections = connections_from(os.environ)
    migrate()
    for line in setup_users(password, train_password):
        print(line, flush=True)
    print(f"pool: {setup_pool()}", flush=True)
    for spec in connections:
        print(f"connection {spec.conn_id}: {ensure(spec)}", flush=True)
    return 0


def migrate() -> None:
    """Migrate the metadata database to this version."""
    from airflow.utils import db

    db.upgradedb()


def setup_users(password: str, train_password: str) -> list[str]:
    """Create the administrator and the API's user, or set their passwords; returns what was done."""
    from airflow.providers.fab.auth_manager.cli_commands.utils import (
        get_application_builder,
    )

    from config.constants import AIRFLOW_TRAIN_USER, AIRFLOW_USER

    with get_application_builder() as builder:
        manager = builder.sm
        manager.sync_roles()
        admin, train = manager.find_role("Admin"), _train_role(manager)
        return [
            f"log-in: {_ensure_user(manager, AIRFLOW_USER, admin, password)}",
            f"log-in of the API: {_ensure_user(manager, AIRFLOW_TRAIN_USER, train, train_password)}",
        ]


def _train_role(manager: Any) -> Any:
    """The role of the API's user: to start and see runs of the training DAG, and nothing else.

    To create a run, Airflow asks for the right to edit the DAG, so the user may pause that DAG, too: see
    docs/training.md.
    """
    from config.constants import DAG_TRAINING

    role = manager.add_role("Train")
    rights = [("can_read", "DAG"), ("can_edit", "DAG"), ("can_read", "DAG Run"), ("can_create", "DAG Run")]
    granted = [manager.create_permission(action, f"{kind}:{DAG_TRAINING}") for action, kind in rights]
    for permission in set(role.permissions) - set(granted):
        manager.remove_permission_from_role(role, permission)
    for permission in granted:
        manager.add_permission_to_role(role, permission)
    return role


def _ensure_user(manager: Any, name: str, role: Any, password: str) -> str:
    user = manager.find_user(username=name)
    if user is None:
        if not manager.add_user(name, "Airflow", role.name, f"{name}@localhost", role, password):
            raise SettingError(f"Airflow did not accept the user {name}: its log says why.")
        return f"{name} made"
    if _password_is(user.password, password):
        return f"{name} unchanged"
    manager.reset_password(user.id, password)
    return f"{name} has a new password"


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
