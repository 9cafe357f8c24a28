"""The public keys for verifying tokens. A direct route issues the tokens themselves."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel

from fraud_api.access import PUBLIC
from fraud_api.dependencies import ApiService
from fraud_api.openapi import problems
from fraud_api.problems import unavailable

router = APIRouter(tags=["identities"])


class PublicKey(BaseModel):
    """A key on an elliptic curve, as RFC 7517 and RFC 7518 write it."""

    kid: str
    use: str
    alg: str
    kty: str
    crv: str
    x: str
    y: str


class KeySet(BaseModel):
    keys: list[PublicKey]


@router.get(
    "/.well-known/jwks.json",
    dependencies=[PUBLIC],
    summary="The public keys tokens are signed with",
    responses=problems(503),
)
async def list_public_keys(backend: ApiService, response: Response) -> KeySet:
    keyring = backend.identities.keyring
    if keyring.signing is None:
        raise unavailable("The keys of tokens cannot be read at the moment.")
    response.headers["Cache-Control"] = "public, max-age=30"
    return KeySet.model_validate(keyring.jwks())
