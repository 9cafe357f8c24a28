"""Keeps the keys and clients of this process in sync with the database."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final

from fraud_adapters.job.logs import get_logger
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_adapters.postgres.identities import Client, find_client
from fraud_adapters.postgres.session import Cursor, Session
from fraud_api import clients, keys
from fraud_api.credentials import KeyEncryptionError, KeyVault
from fraud_api.keys import Keyring

POLL_SECONDS: Final = 2.0
# Tokens with an unknown key cause at most one database query in this time.
RELOAD_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class SeedClients:
    """The clients named in the environment, with their secrets and scopes."""

    secrets: Mapping[str, str]
    scopes: Mapping[str, Sequence[str]]
    default_scopes: Sequence[str]

    def apply(self, cursor: Cursor) -> clients.Seeded:
        return clients.seed(cursor, self.secrets, self.scopes, self.default_scopes)


class Identities:
    """Clients and the keys of tokens. `problem` is the reason why there are none, for the readiness
    report."""

    def __init__(
        self,
        session: Session,
        vault: KeyVault,
        seeds: SeedClients,
        monotonic: Callable[[], float],
    ) -> None:
        self.keyring = Keyring()
        self.problem: str | None = "not loaded yet"
        self._session = session
        self._vault = vault
        self._seeds = seeds
        self._monotonic = monotonic
        self._seeded = False
        self._loaded_at = float("-inf")
        self._lock = Lock()

    def find(self, client_id: str) -> Client | None:
        """Raises DatabaseUnavailable."""
        return self._session.run(lambda cursor: find_client(cursor, client_id))

    def poll(self) -> None:
        """Load changes from the database; while it is unavailable, the known state stays in force."""
        with self._lock:
            try:
                self._load()
            except DatabaseUnavailable as error:
                self._record_problem("The database does not answer.", str(error))
            except KeyEncryptionError as error:
                self._record_problem(str(error))

    def load(self) -> None:
        """Like `poll`, but raises on failure.

        Raises:
            DatabaseUnavailable: the database cannot be reached.
            KeyEncryptionError: API_KEY_ENCRYPTION_SECRET is not the secret the keys were stored with.
        """
        with self._lock:
            self._load()

    def reload_for_unknown_key(self) -> None:
        """Look for a key that another replica may just have created."""
        if self._monotonic() - self._loaded_at >= RELOAD_SECONDS:
            self.poll()

    def _load(self) -> None:
        self._loaded_at = self._monotonic()
        if not self._seeded:
            self._session.run(lambda cursor: keys.ensure(cursor, self._vault))
            seeded = self._session.run(self._seeds.apply)
            get_logger(__name__).info("clients_seeded", created=seeded.created, rotated=seeded.rotated)
            self._seeded = True
        state = self._session.run(lambda cursor: keys.load(cursor, self._vault))
        if state is None:
            self._record_problem("there is no signing key")
            return
        if self.keyring.replace(state):
            get_logger(__name__).info("keys_loaded", signing_kid=state.signing_kid, keys=len(state.public))
        self._record_problem(None)

    def _record_problem(self, problem: str | None, detail: str | None = None) -> None:
        """Store the message for the readiness report, which is public; log it with the detail."""
        if problem != self.problem and problem is not None:
            get_logger(__name__).warning("identities_unavailable", reason=detail or problem)
        self.problem = problem
