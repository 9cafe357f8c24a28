"""The jobs' client of the replica that serves a release over HTTP, before it decides anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import urllib3

from fraud_adapters.api_client import ApiClient
from fraud_adapters.api_session import ApiUnavailable
from fraud_core.canary.http_release import RELEASE_REPLICA, REPLICA_HEADER

BATCH: Final = "/predict/batch"
SINGLE: Final = "/predict"


class ReleaseReplica(ApiClient):
    """Requests that the gateway leads to the replica of a release, also for the token.

    Nothing is repeated: a test that passes at the second attempt has failed.
    """

    roles: ClassVar[frozenset[str]] = frozenset({"champion", "canary", "shadow"})

    def send(self, method: str, path: str, **content: Any) -> tuple[int, bytes]:
        """Status and body of the response, whatever the status.

        Raises:
            ApiUnavailable: there was no response.
        """
        headers = {**(content.pop("headers", None) or {}), REPLICA_HEADER: RELEASE_REPLICA}
        try:
            response = self._pool.request(method, self.url + path, headers=headers, **content)
        except urllib3.exceptions.HTTPError as error:
            raise ApiUnavailable(f"{method} {path} got no response: {type(error).__name__}.") from None
        return response.status, response.data

    def ready(self) -> tuple[str, str | None]:
        """Which replica answers, and the version it would score with; ("", None) where none is ready.

        Raises:
            ApiUnavailable: there was no response.
        """
        document = self.document(*self.send("GET", "/health/ready"))
        if document is None or "replica" not in document:
            return "", None
        return str(document["replica"]), document.get("parts", {}).get("model", {}).get("version")

    def post(self, path: str, body: bytes, media_type: str = "application/json") -> tuple[int, bytes]:
        """A scoring request with a token."""
        return self.authorised("POST", path, body=body, headers={"Content-Type": media_type})

    @staticmethod
    def document(status: int, body: bytes) -> Mapping[str, Any] | None:
        """The JSON object of a response with status 200; None for any other."""
        try:
            document = json.loads(body)
        except ValueError:
            return None
        return document if status == 200 and isinstance(document, dict) else None
