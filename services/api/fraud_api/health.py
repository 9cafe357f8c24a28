"""Whether the service lives, is ready, and what of what it depends on is there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Any, Final

from fastapi import Request
from fastapi.responses import Response

from fraud_adapters.kafka import KafkaFailure, TopicMissing, topic_ids
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_api.identities import Identities
from fraud_api.model_holder import ModelHolder
from fraud_api.problems import Problem, json_response
from fraud_api.session import Session

Part = dict[str, Any]
# Nobody needs a token to ask, so the answer is kept for a moment instead of asking broker and database again.
DEEP_SECONDS: Final = 2.0


class Health:
    """Answers `/health/live` and `/health/ready`."""

    def __init__(
        self,
        holder: ModelHolder,
        identities: Identities,
        session: Session,
        bootstrap: Sequence[str],
        topic: str,
    ) -> None:
        self._holder = holder
        self._identities = identities
        self._session = session
        self._bootstrap = list(bootstrap)
        self._topic = topic
        self._deep: tuple[float, dict[str, Part]] | None = None
        self._asking = asyncio.Lock()

    async def root(self, _request: Request) -> Response:
        """`GET /`: the service is there."""
        return json_response({"status": "ok", "message": "The fraud scoring API is running."})

    async def live(self, _request: Request) -> Response:
        """The process answers."""
        return json_response({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """There is a model and there are keys; with `deep=1` also broker, topic and database."""
        deep = request.query_params.get("deep", "0")
        if deep not in {"0", "1", "true", "false"}:
            raise Problem(422, "deep must be 0 or 1.")
        parts = {"model": self._model(), "keys": self._keys()}
        if deep in {"1", "true"}:
            parts |= await self._asked()
        wrong = sorted(name for name, part in parts.items() if part["state"] != "ok")
        if wrong:
            raise Problem(503, f"Not ready: {', '.join(wrong)}.", parts=parts)
        return json_response({"status": "ready", "parts": parts})

    def _model(self) -> Part:
        serving = self._holder.current
        if serving is None:
            return {"state": "missing", "detail": self._holder.problem}
        part = {"state": "ok", "version": serving.version}
        return part | ({"detail": self._holder.problem} if self._holder.problem else {})

    def _keys(self) -> Part:
        if self._identities.keyring.signing is None:
            return {"state": "missing", "detail": self._identities.problem}
        return {"state": "ok"}

    async def _asked(self) -> dict[str, Part]:
        async with self._asking:
            if self._deep is None or monotonic() - self._deep[0] > DEEP_SECONDS:
                database, broker = await asyncio.gather(
                    asyncio.to_thread(self._database), asyncio.to_thread(self._broker)
                )
                self._deep = (monotonic(), {"database": database, **broker})
            return self._deep[1]

    def _database(self) -> Part:
        try:
            self._session.run(lambda cursor: cursor.execute("SELECT 1"))
        except DatabaseUnavailable:
            return {"state": "unreachable"}
        return {"state": "ok"}

    def _broker(self) -> dict[str, Part]:
        try:
            topic_ids(self._bootstrap, [self._topic])
        except TopicMissing:
            return {"broker": {"state": "ok"}, "topic": {"state": "missing", "name": self._topic}}
        except KafkaFailure:
            return {"broker": {"state": "unreachable"}, "topic": {"state": "unknown", "name": self._topic}}
        return {"broker": {"state": "ok"}, "topic": {"state": "ok", "name": self._topic}}
