"""The tasks of `00_token_renewal`. The token goes from the API into the Variable, and nowhere else."""

from __future__ import annotations


def renew() -> dict[str, str]:
    """Fetch a token, see that the API takes it, and store it; who it is for and until when it is good."""
    from hooks.api_hook import FraudApiHook

    return FraudApiHook().renew_token()


def verify() -> int:
    """See that the API takes the token that is stored now; how many models it lets us see."""
    from hooks.api_hook import FraudApiHook

    return len(FraudApiHook(renew=False).get("/models")["models"])
