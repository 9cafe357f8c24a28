"""The tasks of `00_token_renewal`. The token is stored in the Variable and nowhere else."""

from __future__ import annotations


def renew() -> dict[str, str]:
    """Fetch a token, verify that the API accepts it, and store it; return its client, key and expiry."""
    from hooks.api_hook import FraudApiHook

    return FraudApiHook().renew_token()


def verify() -> int:
    """Verify that the API accepts the stored token; return how many models it lists."""
    from hooks.api_hook import FraudApiHook

    return len(FraudApiHook(renew=False).get("/models")["models"])
