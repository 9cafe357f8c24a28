"""The API's application in the test's own process, with a signing key but without its threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response

from config.parameters import read_yaml
from config.settings import CONFIG_DIR, PlatformSettings, parameters
from fraud_adapters.models.registry import Registry
from fraud_api.app import create_app
from fraud_api.keys import KeyState
from fraud_api.service import ScoringService, ServiceSettings
from fraud_api.tokens import issue
from fraud_core.contract import Contract

NOWHERE: Final = "127.0.0.1:1"  # nothing listens on this port
CREDITCARD: Final = Contract.from_mapping(read_yaml(CONFIG_DIR / "contracts" / "creditcard.yaml"))


@dataclass(frozen=True)
class Application:
    app: FastAPI
    service: ScoringService

    @classmethod
    def create(cls, cache: Path, database_url: str = f"postgresql://nobody@{NOWHERE}/none") -> Application:
        """An application without any reachable server except, if given, a database."""
        settings = ServiceSettings(
            contract=CREDITCARD,
            parameters=parameters(PlatformSettings()).serving,
            release=parameters(PlatformSettings()).release,
            database_url=database_url,
            models=Registry(f"http://{NOWHERE}"),
            model_cache=cache,
            client_secrets={},
            key_encryption_secret="a secret of the tests alone",
            kafka_bootstrap=[NOWHERE],
            kafka_topic="transactions",
            show_docs=True,
        )
        service = ScoringService(settings)
        service.identities.keyring.replace(_keys())
        return cls(create_app(settings, service), service)

    def token(self, scopes: Collection[str], client: str = "tests") -> str:
        key = self.service.identities.keyring.signing
        assert key is not None
        return issue(key, client, frozenset(scopes), now=int(time.time()), lifetime=600, token_id="t-1")

    def request(
        self, method: str, path: str, *scopes: str, json: Any = None, client: str = "tests"
    ) -> Response:
        """The response to a request; without scopes it carries no token."""
        headers = {"Authorization": f"Bearer {self.token(scopes, client)}"} if scopes else {}
        transport = ASGITransport(self.app, raise_app_exceptions=False)

        async def exchange() -> Response:
            async with AsyncClient(transport=transport, base_url="http://api", headers=headers) as http:
                return await http.request(method, path, json=json)

        return asyncio.run(exchange())


def _keys() -> KeyState:
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return KeyState(
        public={"key": public},
        signing_kid="key",
        signing_pem=pem,
        revoked_tokens=frozenset(),
        inactive_clients=frozenset(),
    )
