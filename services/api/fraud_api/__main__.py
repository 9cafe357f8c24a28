"""`python -m fraud_api serve | rotate-keys | seed-clients`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from config.job_results.api import RotateKeysResult, SeedClientsResult
from config.settings import (
    ApiServerSettings,
    ConfigurationError,
    DatabaseSettings,
    PlatformSettings,
    Replica,
    load,
    parameters,
)
from fraud_adapters.job import Result, run
from fraud_adapters.postgres.session import Session
from fraud_api import keys
from fraud_api.credentials import KeyEncryptionError, KeyVault
from fraud_api.identities import SeedClients
from fraud_api.standby import wait_for_release


def main(arguments: Sequence[str]) -> Result:
    parser = argparse.ArgumentParser(prog="fraud_api", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("serve", help="answer requests until stopped")
    verbs.add_parser("rotate-keys", help="sign with a new key; the old one verifies until its tokens expire")
    verbs.add_parser("seed-clients", help="create the clients of the environment, or update their secrets")
    verb = parser.parse_args(arguments).verb
    if verb == "serve":
        if load(ApiServerSettings).api_replica is Replica.RELEASE:
            wait_for_release()
        # xgboost imports scikit-learn if it is installed, which MLflow requires. The import takes two of the
        # three seconds of a start, for classes that the API does not use.
        sys.modules["sklearn"] = None  # type: ignore[assignment]
        # Imported here because it loads the model libraries, which the other verbs do not need.
        from fraud_api.server import serve  # noqa: PLC0415

        return serve()
    try:
        return rotate_keys() if verb == "rotate-keys" else seed_clients()
    except KeyEncryptionError as error:
        raise ConfigurationError(f"API_KEY_ENCRYPTION_SECRET: {error}") from None


def rotate_keys() -> RotateKeysResult:
    """Create a new signing key; running servers load it within seconds."""
    vault = KeyVault(load(ApiServerSettings).api_key_encryption_secret.get_secret_value())
    lifetime = parameters(load(PlatformSettings)).serving.longest_token_lifetime
    session = _session()

    def work(cursor: object) -> str:
        keys.load(cursor, vault)  # fails if the existing keys were encrypted with another secret
        return keys.rotate(cursor, vault, lifetime)

    return {"status": "done", "kid": session.run(work)}


def seed_clients() -> SeedClientsResult:
    """Create or update the clients named in the environment, with the scopes of config.yaml."""
    secrets = load(ApiServerSettings).client_secrets
    if not secrets:
        raise ConfigurationError(
            "No client is configured: set API_CLIENT_SECRET_STREAMING and similar variables, "
            "or API_KEYS=client_id:secret."
        )
    serving = parameters(load(PlatformSettings)).serving
    clear = {name: secret.get_secret_value() for name, secret in secrets.items()}
    seeded = _session().run(SeedClients(clear, serving.client_scopes, serving.default_scopes).apply)
    return {
        "status": "done",
        "created": seeded.created,
        "rotated": seeded.rotated,
        "unchanged": seeded.unchanged,
    }


def _session() -> Session:
    return Session(load(DatabaseSettings).url, "fraud_api command")


if __name__ == "__main__":
    run("api", main)
