"""Readiness of the service and the state of its dependencies."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Final, Literal

from pydantic import BaseModel

from config.settings import Replica
from fraud_adapters.kafka import KafkaFailure, TopicMissing, topic_ids
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_adapters.postgres.session import Session
from fraud_api.identities import Identities
from fraud_api.model_holder import ModelHolder
from fraud_api.problems import Problem
from fraud_api.releases.watch import ReleaseWatch

# The route is public, so the result is cached: otherwise anybody could make the API query broker and
# database.
DEEP_SECONDS: Final = 2.0


class Part(BaseModel):
    """The state of one dependency."""

    state: Literal["ok", "missing", "unreachable", "unknown"]
    version: str | None = None  # of the model
    name: str | None = None  # of the topic
    detail: str | None = None


class Readiness(BaseModel):
    status: Literal["ready"] = "ready"
    replica: Replica
    parts: dict[str, Part]


class Health:
    """Determines whether the service is ready."""

    def __init__(
        self,
        *,
        holder: ModelHolder,
        identities: Identities,
        releases: ReleaseWatch,
        session: Session,
        replica: Replica,
        bootstrap: Sequence[str],
        topic: str,
    ) -> None:
        self._holder = holder
        self._identities = identities
        self._releases = releases
        self._session = session
        self._replica = replica
        self._bootstrap = list(bootstrap)
        self._topic = topic
        self._last_check: tuple[float, dict[str, Part]] | None = None
        self._checking = asyncio.Lock()

    async def readiness(self, *, deep: bool) -> Readiness:
        """Check the model and the keys; if `deep`, also broker, topic and database.

        Raises:
            Problem: 503 with the state of every part, if one of them is not ok.
        """
        parts = {"model": self._model(), "keys": self._keys()}
        if deep:
            parts |= await self._check_dependencies()
        failing = sorted(name for name, part in parts.items() if part.state != "ok")
        if failing:
            states = {name: part.model_dump(exclude_none=True) for name, part in parts.items()}
            raise Problem(503, f"Not ready: {', '.join(failing)}.", parts=states)
        return Readiness(replica=self._replica, parts=parts)

    def _model(self) -> Part:
        serving = self._holder.current
        if serving is None:
            return Part(state="missing", detail=self._holder.problem)
        if not self._releases.is_known:
            # It would serve with the champion whoever a canary serves elsewhere.
            return Part(state="missing", detail="Whether a release runs is not known yet.")
        if self._replica is Replica.RELEASE:
            return self._released()
        return Part(state="ok", version=serving.version, detail=self._holder.problem)

    def _released(self) -> Part:
        """The version of a release over HTTP: without one, the gateway has nothing to send here."""
        canary = self._releases.canary
        if canary is None or not self._releases.phase.served:
            return Part(state="missing", detail="No release over HTTP runs.")
        return Part(state="ok", version=canary.serving.version)

    def _keys(self) -> Part:
        if self._identities.keyring.signing is None:
            return Part(state="missing", detail=self._identities.problem)
        return Part(state="ok")

    async def _check_dependencies(self) -> dict[str, Part]:
        async with self._checking:
            if self._last_check is None or monotonic() - self._last_check[0] > DEEP_SECONDS:
                database, broker = await asyncio.gather(
                    asyncio.to_thread(self._database), asyncio.to_thread(self._broker)
                )
                self._last_check = (monotonic(), {"database": database, **broker})
            return self._last_check[1]

    def _database(self) -> Part:
        try:
            self._session.run(lambda cursor: cursor.execute("SELECT 1"))
        except DatabaseUnavailable:
            return Part(state="unreachable")
        return Part(state="ok")

    def _broker(self) -> dict[str, Part]:
        try:
            topic_ids(self._bootstrap, [self._topic])
        except TopicMissing:
            return {"broker": Part(state="ok"), "topic": Part(state="missing", name=self._topic)}
        except KafkaFailure:
            return {"broker": Part(state="unreachable"), "topic": Part(state="unknown", name=self._topic)}
        return {"broker": Part(state="ok"), "topic": Part(state="ok", name=self._topic)}
