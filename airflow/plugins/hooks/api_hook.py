"""Access to the scoring API from a task; the token is kept in a Variable and renewed when the API rejects
it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

from airflow.sdk import BaseHook, Variable
from airflow.sdk.exceptions import AirflowException
from airflow.sdk.log import mask_secret

from config.constants import CONNECTION_API, VARIABLE_API_TOKEN
from fraud_airflow.http import ANSWER_SECONDS, HttpAnswer, HttpService

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


class FraudApiHook(BaseHook):
    """Requests to the scoring API as the client of the connection.

    A missing token, or one that is refused, is replaced through the client credentials and the request is
    repeated once. No token is ever logged or returned.

    Args:
        conn_id: a connection of type http: host, port, login (client id), password (client secret).
        seconds: the time limit of a response.
        renew: whether a token that is missing or refused is replaced.
    """

    conn_name_attr = "conn_id"
    default_conn_name = CONNECTION_API
    conn_type = "http"
    hook_name = "Fraud scoring API"

    def __init__(
        self, conn_id: str = CONNECTION_API, *, seconds: float = ANSWER_SECONDS, renew: bool = True
    ) -> None:
        super().__init__()
        self.conn_id = conn_id
        self._renew = renew
        self._seconds = seconds

    def get(self, path: str, **params: Any) -> Any:
        """The JSON document at a path. Raises AirflowException, as all methods do: one sentence."""
        return self._authorised("GET", path, params=params)

    def post(self, path: str, document: Any) -> Any:
        """Send a JSON document and return the one in the response."""
        return self._authorised("POST", path, json=document)

    def ready(self, names: Collection[str] | None = None, *, deep: bool = True) -> dict[str, Any]:
        """The parts of the API, all ready; with `deep` also database, broker and topic.

        Args:
            names: only these parts have to be ready.

        Raises:
            AirflowException: a part is not ready, or not reported; the sentence names it.
        """
        answer = self._service.request(
            "GET", "/health/ready", params={"deep": int(deep)}, seconds=self._seconds
        )
        match answer:
            case HttpAnswer(200 | 503, {"parts": dict(parts)}):
                needed = {name: parts.get(name) for name in names or sorted(parts)}
                wrong = "; ".join(_part_state(name, part) for name, part in needed.items() if _not_ok(part))
                if not wrong:
                    return parts
                raise AirflowException(f"{self._service.title} is not ready: {wrong}.")
        raise self._error("GET", "/health/ready", answer)

    def renew_token(self) -> dict[str, str]:
        """Fetch a token, verify that the API accepts it, and only then store it.

        Returns:
            `client_id`, `key_id` (of the key that signed it) and `expires_at` (RFC 3339, UTC).
        """
        token = self._fetch_token()
        answer = self._send("GET", "/models", token, {})
        if answer.status != 200:
            raise AirflowException(
                f"{self._service.title} issued the client {self._client_id} a token that it does not accept: "
                f"GET /models: {answer.detail}. The token stored before stays in force."
            )
        Variable.set(VARIABLE_API_TOKEN, token, description="Of the scoring API; renewed by 00_token_renewal")
        return {"client_id": self._client_id, **self._describe_token(token)}

    def _authorised(self, method: str, path: str, **options: Any) -> Any:
        token = self._stored_token()
        answer = self._send(method, path, token, options) if token else None
        if self._renew and (answer is None or answer.status == 401):
            token = self._fetch_token()
            answer = self._send(method, path, token, options)
            if answer.status != 401:
                Variable.set(VARIABLE_API_TOKEN, token)
        if answer is None:
            raise AirflowException(f"The Variable {VARIABLE_API_TOKEN} holds no token: run 00_token_renewal.")
        if answer.status == 401 and not self._renew:
            raise self._error(method, path, answer)
        if answer.status == 401:
            raise AirflowException(
                f"{self._service.title} refuses a fresh token of the client {self._client_id}: "
                f"{answer.detail}. {self._fix_client}"
            )
        if not 200 <= answer.status < 300:
            raise self._error(method, path, answer)
        if answer.document is None:
            raise self._service.unexpected_answer(f"no JSON for {method} {path}")
        return answer.document

    def _send(self, method: str, path: str, token: str, options: Mapping[str, Any]) -> HttpAnswer:
        headers = {"Authorization": f"Bearer {token}"}
        return self._service.request(method, path, headers=headers, seconds=self._seconds, **options)

    def _stored_token(self) -> str | None:
        token = Variable.get(VARIABLE_API_TOKEN, default=None)
        # An invalid token must not be sent: the HTTP library's error message would repeat the header.
        return token if isinstance(token, str) and _TOKEN.fullmatch(token) else None

    def _fetch_token(self) -> str:
        """A new token by the client credentials grant of OAuth 2 (RFC 6749, section 4.4)."""
        form = {
            "grant_type": "client_credentials",
            "client_id": self._client_id,
            "client_secret": self._secret,
        }
        answer = self._service.request("POST", "/auth/token", form=form, seconds=self._seconds)
        if answer.status in {400, 401}:
            raise AirflowException(
                f"{self._service.title} gives the client {self._client_id} no token: {answer.detail}. "
                f"{self._fix_client}"
            )
        if answer.status != 200:
            raise self._error("POST", "/auth/token", answer)
        match answer.document:
            case {"access_token": str(token)} if _TOKEN.fullmatch(token):
                mask_secret(token)
                return token
        raise self._service.unexpected_answer("no token for POST /auth/token")

    def _describe_token(self, token: str) -> dict[str, str]:
        try:
            header, claims = (_segment(part) for part in token.split(".")[:2])
            expires = datetime.fromtimestamp(claims["exp"], UTC)
            return {"key_id": str(header["kid"]), "expires_at": expires.isoformat().replace("+00:00", "Z")}
        except (ValueError, KeyError, TypeError, OverflowError, OSError):
            raise self._service.unexpected_answer("a token without key id or expiry") from None

    def _error(self, method: str, path: str, answer: HttpAnswer) -> AirflowException:
        verb = "cannot serve" if answer.status >= 500 else "refuses"
        return AirflowException(f"{self._service.title} {verb} {method} {path}: {answer.detail}.")

    @cached_property
    def _connection(self) -> Any:
        return self.get_connection(self.conn_id)

    @cached_property
    def _service(self) -> HttpService:
        fix = f"correct host and port of the connection {self.conn_id}, or start the API."
        connection = self._connection
        if not connection.host:
            raise AirflowException(f"The connection {self.conn_id} has no host: set it to the API's.")
        if "://" in connection.host:
            address = connection.host.rstrip("/")
        else:
            address = f"{connection.schema or 'http'}://{connection.host}"
        port = f":{connection.port}" if connection.port else ""
        return HttpService("The scoring API", address + port, fix)

    @property
    def _client_id(self) -> str:
        return self._required("login", "the API's client id")

    @property
    def _secret(self) -> str:
        return self._required("password", "that client's secret")

    def _required(self, field: str, meaning: str) -> str:
        value = getattr(self._connection, field)
        if not value:
            raise AirflowException(f"The connection {self.conn_id} has no {field}: set it to {meaning}.")
        return str(value)

    @property
    def _fix_client(self) -> str:
        return (
            f"Correct login and password of the connection {self.conn_id} so that they are a client of the "
            "API and its secret (API_CLIENT_SECRET_AIRFLOW in .env), and see that the client is active."
        )


def _segment(text: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return document


def _not_ok(part: object) -> bool:
    return not (isinstance(part, dict) and part.get("state") == "ok")


def _part_state(name: str, part: object) -> str:
    """`topic fraud-detection-transactions missing`"""
    if not isinstance(part, dict):
        return name
    parts = [name, part.get("name"), part.get("state")]
    text = " ".join(str(word) for word in parts if word)
    return f"{text} ({str(part['detail']).rstrip('.')})" if part.get("detail") else text
