"""Brings the users that MLflow has stored into line with their variables, before the server listens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

from fraud_mlflow.users import User

_EVERYTHING: Final = "*"


class UserStore(Protocol):
    """What is needed of `mlflow.server.auth.store`."""

    def has_user(self, username: str) -> bool: ...
    def create_user(self, username: str, password: str, is_admin: bool) -> Any: ...
    def authenticate_user(self, username: str, password: str) -> bool: ...
    def update_user(self, username: str, password: str | None, is_admin: bool | None) -> Any: ...
    def get_user(self, username: str) -> Any: ...
    def list_user_roles(self, user_id: int) -> Sequence[Any]: ...
    def remove_role_permission(self, role_permission_id: int) -> None: ...
    def grant_user_permission(
        self, username: str, resource_type: str, resource_pattern: str, permission: str
    ) -> None: ...


def prepare(store: UserStore, users: Iterable[User]) -> None:
    """Create missing users, change passwords that differ, and set each user's grants on all resources.

    What a user holds on a single experiment or model stays: it created that, or an administrator granted it.
    """
    for user in users:
        _ensure(store, user)
        _set_grants(store, user)


def _ensure(store: UserStore, user: User) -> None:
    if not store.has_user(user.name):
        store.create_user(user.name, user.password, is_admin=user.is_admin)
        return
    is_same = store.authenticate_user(user.name, user.password)
    store.update_user(user.name, password=None if is_same else user.password, is_admin=user.is_admin)


def _set_grants(store: UserStore, user: User) -> None:
    user_id = store.get_user(user.name).id
    # MLflow keeps what is granted to a user in a role of this name.
    own = [role for role in store.list_user_roles(user_id) if role.name == f"__user_{user_id}__"]
    for stored in [permission for role in own for permission in role.permissions]:
        if stored.resource_pattern == _EVERYTHING and stored.resource_type not in user.rights.grants:
            store.remove_role_permission(stored.id)
    for resource_type, permission in user.rights.grants.items():
        store.grant_user_permission(user.name, resource_type, _EVERYTHING, permission)
