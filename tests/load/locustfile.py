"""The load of `./fraud load`: users of the scoring API who send transactions of the contract in force.

It reads the API's address and a client's credentials from the environment, as a job does: `API_URL`,
`API_CLIENT_ID`, `API_CLIENT_SECRET`; the contract from `FRAUD_CONTRACT`. An answer counts as failed unless it
is 200 and about the transactions that were sent.
"""

from __future__ import annotations

import time
import uuid
from typing import Any, Final

import orjson
from gevent.lock import Semaphore
from locust import FastHttpUser, constant_throughput, task

from config.settings import ApiClientSettings, PlatformSettings, contract, load
from tests.load.records import RecordSource

REQUESTS_PER_USER: Final = 10.0  # a second, at most; more users make more load
LIST_RECORDS: Final = 10
BATCH_RECORDS: Final = 100
RENEW_BEFORE: Final = 60.0  # seconds a token must still be valid when it is sent

CLIENT: Final = load(ApiClientSettings)
RECORDS: Final = RecordSource(contract(load(PlatformSettings)))


class Token:
    """The access token that all users of a process share: issuing one is made expensive on purpose."""

    def __init__(self) -> None:
        self._value = ""
        self._renew_at = float("-inf")
        self._one_at_a_time = Semaphore()

    def headers(self, user: FastHttpUser) -> dict[str, str]:
        """What authorises a request; fetches a token where there is none or it expires soon."""
        with self._one_at_a_time:
            if time.monotonic() >= self._renew_at:
                self._fetch(user)
        return {"Authorization": f"Bearer {self._value}", "Content-Type": "application/json"}

    def _fetch(self, user: FastHttpUser) -> None:
        form = {
            "grant_type": "client_credentials",
            "client_id": CLIENT.api_client_id,
            "client_secret": CLIENT.api_client_secret.get_secret_value(),
            "scope": "predict",
        }
        with user.client.post("/auth/token", data=form, catch_response=True) as answer:
            if answer.status_code != 200:
                answer.failure(reason(answer))
                return
            document = answer.json()
            self._value = document["access_token"]
            self._renew_at = time.monotonic() + max(document["expires_in"] - RENEW_BEFORE, 1.0)


TOKEN: Final = Token()


class ApiUser(FastHttpUser):
    """Sends mostly single transactions, now and then a list or a batch."""

    host = CLIENT.url
    wait_time = constant_throughput(REQUESTS_PER_USER)

    @task(18)
    def predict(self) -> None:
        """One transaction, which is stored."""
        record = RECORDS.record() | {"transaction_id": str(uuid.uuid4())}
        self._send("/predict", record, [record])

    @task(1)
    def predict_list(self) -> None:
        """A list, which is stored."""
        records = identified(LIST_RECORDS)
        self._send("/predict", {"new_data": records}, records, name=f"/predict, list of {LIST_RECORDS}")

    @task(1)
    def predict_batch(self) -> None:
        """A batch, which is only scored."""
        records = identified(BATCH_RECORDS)
        name = f"/predict/batch of {BATCH_RECORDS}"
        self._send("/predict/batch", {"transactions": records}, records, name=name)

    def _send(
        self, path: str, document: Any, records: list[dict[str, Any]], *, name: str | None = None
    ) -> None:
        with self.client.post(
            path,
            data=orjson.dumps(document).decode(),
            headers=TOKEN.headers(self),
            name=name or path,
            catch_response=True,
        ) as answer:
            if answer.status_code != 200:
                answer.failure(reason(answer))
                return
            decided = answer.json()
            answers = decided.get("predictions", [decided])
            if [one["transaction_id"] for one in answers] != [one["transaction_id"] for one in records]:
                answer.failure("the answer is about other transactions")


def identified(count: int) -> list[dict[str, Any]]:
    """Records with ids of their own."""
    return [{"transaction_id": str(uuid.uuid4()), **record} for record in RECORDS.records(count)]


def reason(answer: Any) -> str:
    """Why a request failed: the problem's own sentence, where there is one."""
    try:
        detail = orjson.loads(answer.content)["detail"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        detail = answer.error or "no problem document"
    return f"{answer.status_code}: {detail}"
