"""`GET /models`: what serves."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import Response

from fraud_api.auth import Gatekeeper
from fraud_api.model_holder import ModelHolder, describe
from fraud_api.problems import json_response


class Models:
    """Shows the model that serves."""

    def __init__(self, name: str, gatekeeper: Gatekeeper, holder: ModelHolder) -> None:
        self._name = name
        self._gatekeeper = gatekeeper
        self._holder = holder

    async def list(self, request: Request) -> Response:
        """The champion that serves: version, thresholds, digest and gate. Empty while there is none."""
        await self._gatekeeper.admit(request, "read")
        serving = self._holder.current
        return json_response({"models": [describe(self._name, serving)] if serving else []})
