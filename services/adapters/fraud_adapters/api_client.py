"""The jobs' client of the scoring API: sends batches and receives predictions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

from fraud_adapters.api_session import RETRY_DELAYS, ApiRefused, ApiSession, ApiUnavailable, detail
from fraud_adapters.columnar import MEDIA_TYPE, ColumnarAnswer, ColumnarError, answer_from_ipc, batch_to_ipc
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.predictions import PredictedRows

__all__ = ["RETRY_DELAYS", "ApiClient", "ApiRefused", "ApiUnavailable"]


class ApiClient(ApiSession):
    """Scores batches over the session's connection; for use by one thread at a time.

    Attributes:
        roles: of the models that may answer; what a shadow says must never be stored as a decision.
    """

    roles: ClassVar[frozenset[str]] = frozenset({"champion", "canary"})

    def score(
        self, contract: Contract, batch: Batch, traceparents: Sequence[str | None] | None = None
    ) -> list[PredictedRows]:
        """Score a batch, of which a canary may have scored some rows; the API stores nothing.

        Args:
            traceparents: per transaction its trace context, which is kept with the prediction.

        Raises:
            ApiUnavailable: no useful answer after several attempts.
            ApiRefused: the batch or the credentials were refused.
        """
        started = time.perf_counter()
        body = self._post_authorised("/predict/batch", batch_to_ipc(contract, batch))
        answer = self._read(contract, batch, body)
        elapsed = (time.perf_counter() - started) * 1000
        traces = traceparents or [None] * len(batch)
        return [
            PredictedRows(part.rows, part.predictions.stamped(elapsed, [traces[row] for row in part.rows]))
            for part in answer.parts
        ]

    def check(self) -> None:
        """Fetch a token: proves that the API answers and knows this client. Raises as `score`."""
        self.renew()

    def require_alive(self) -> None:
        """Ask whether the API answers, without a token.

        Raises:
            ApiUnavailable: no useful answer after several attempts.
        """
        status, response = self.send("GET", "/health/live")
        if status != 200:
            raise ApiUnavailable(f"{self.url} is not the scoring API, it answered {detail(status, response)}")

    def _read(self, contract: Contract, batch: Batch, body: bytes) -> ColumnarAnswer:
        try:
            response = answer_from_ipc(body, len(contract.features), len(batch))
        except ColumnarError as error:
            raise ApiUnavailable(
                f"The API at {self.url} returned a response that cannot be read: {error}"
            ) from None
        if response.ids != batch.ids:
            raise ApiUnavailable(f"The API at {self.url} returned predictions for other transactions.")
        if others := {part.predictions.role for part in response.parts} - self.roles:
            raise ApiUnavailable(f"The API at {self.url} answered as {', '.join(sorted(others))}.")
        return response

    def _post_authorised(self, path: str, body: bytes) -> bytes:
        status, response = self.authorised("POST", path, body=body, headers={"Content-Type": MEDIA_TYPE})
        if status != 200:
            raise ApiRefused(f"The API refuses the request: {detail(status, response)}")
        return response
