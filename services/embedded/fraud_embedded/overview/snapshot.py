"""Everything the page shows, collected when somebody looks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Generic, TypeVar

import psycopg2

from fraud_adapters.job.logs import get_logger
from fraud_adapters.kafka import PartitionReader
from fraud_adapters.kafka.errors import KafkaFailure
from fraud_adapters.postgres import connect
from fraud_embedded.overview import queries
from fraud_embedded.overview.verdict import verdict
from fraud_embedded.processes.process import StartFailed
from fraud_embedded.servers.airflow_api import AirflowApi

CLIENT: Final = "fraud-overview"
_FETCH_SECONDS: Final = 2.0
_STATEMENT_MS: Final = 5000
_SNAPSHOT_SECONDS: Final = 1.0
_DAGS_SECONDS: Final = 15.0  # each answer costs Airflow three requests a DAG

T = TypeVar("T")

Probe = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the figures come from; `parts` are the probes of the servers, `links` lead to other pages."""

    database_url: str = field(repr=False)
    bootstrap: str
    topic: str
    registered_model: str
    airflow: AirflowApi
    dags: tuple[str, ...]
    parts: Mapping[str, Probe]
    links: Mapping[str, str] = field(default_factory=dict)


class Cached(Generic[T]):
    """The result of a function, made anew when somebody asks and it is older than `seconds`."""

    def __init__(self, function: Callable[[], T], seconds: float) -> None:
        self._function = function
        self._seconds = seconds
        self._lock = threading.Lock()
        self._expires: float | None = None

    def __call__(self) -> T:
        with self._lock:
            if self._expires is None or time.monotonic() >= self._expires:
                self._result = self._function()
                self._expires = time.monotonic() + self._seconds
            return self._result


class Snapshots:
    """Collects what the page shows; however many people look, each source is asked at most so often."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="overview")
        self._runs = Cached(self._dags, _DAGS_SECONDS)
        self.current = Cached(self._collect, _SNAPSHOT_SECONDS)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _collect(self) -> dict[str, Any]:
        sources = self._sources
        probes = {name: self._pool.submit(probe) for name, probe in sources.parts.items()}
        dags = self._pool.submit(self._runs)
        figures = self._figures()
        lag = self._lag(figures.pop("positions", {}))
        parts = {name: probe.result() for name, probe in probes.items()}
        decided = figures.get("seconds_since_decision")
        outcome = verdict(parts, decided, lag, figures.get("alerts", []), figures.get("quality", []))
        return {
            "at": int(time.time()),
            "verdict": asdict(outcome),
            "parts": parts,
            "links": dict(sources.links),
            "lag": lag,
            "dags": dags.result(),
            **figures,
        }

    def _figures(self) -> dict[str, Any]:
        sources = self._sources
        try:
            with (
                closing(connect(sources.database_url, CLIENT)) as connection,
                connection,
                connection.cursor() as cur,
            ):
                cur.execute("SELECT set_config('statement_timeout', %s, true)", (str(_STATEMENT_MS),))
                return _read(cur, sources.topic, sources.registered_model)
        except psycopg2.Error as error:
            get_logger(__name__).warning("no_figures", reason=str(error).strip())
            return {}

    def _lag(self, positions: dict[int, int]) -> int | None:
        """Records between the stored positions and the end of the topic; None if the broker does not say."""
        sources = self._sources
        try:
            with PartitionReader(sources.bootstrap, sources.topic, CLIENT) as reader:
                start = {partition: positions.get(partition, 0) for partition in reader.partitions()}
                ends = reader.ends(start, _FETCH_SECONDS)
        except KafkaFailure:
            return None
        if len(ends) < len(start):
            return None
        return sum(max(0, end - start[partition]) for partition, end in ends.items())

    def _dags(self) -> list[dict[str, Any]]:
        """The latest run of each DAG; empty if Airflow does not answer."""
        airflow = self._sources.airflow
        found: list[dict[str, Any]] = []
        try:
            for dag_id in self._sources.dags:
                if not airflow.known(dag_id):
                    continue
                run = next(iter(airflow.runs(dag_id, limit=1)), None)
                ended = run.ended if run else None
                seconds = (ended - run.started).total_seconds() if run and ended and run.started else None
                found.append(
                    {
                        "dag": dag_id,
                        "paused": airflow.paused(dag_id),
                        "state": run.state if run else None,
                        "started": int(run.started.timestamp()) if run and run.started else None,
                        "seconds": seconds,
                    }
                )
        except StartFailed:
            return []
        return found


def _read(cur: Any, topic: str, registered_model: str) -> dict[str, Any]:
    latest = queries.latest_decision(cur)
    return {
        "seconds_since_decision": latest[0] if latest else None,
        "model": queries.model(cur, registered_model, latest[1]) if latest else None,
        "minutes": queries.per_minute(cur),
        "decisions": queries.decisions(cur),
        "drift": queries.drift(cur),
        "performance": queries.performance(cur),
        "quality": queries.quality(cur),
        "alerts": queries.alerts(cur),
        "releases": queries.releases(cur, registered_model),
        "positions": queries.positions(cur, topic),
    }
