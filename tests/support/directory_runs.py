"""A run's files in a directory, which several processes of a test see without an object store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg2.extensions import connection as Connection  # noqa: N812

from fraud_adapters.objectstore import ObjectMissing
from fraud_adapters.objectstore.run_store import RunStore
from fraud_core.contract import Contract
from fraud_trainer.engines.engine import Engine


@dataclass(frozen=True)
class DirectoryStore:
    """A bucket that is a directory."""

    folder: Path

    def put_bytes(self, key: str, content: bytes) -> None:
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def get_bytes(self, key: str) -> bytes:
        try:
            return (self.folder / key).read_bytes()
        except FileNotFoundError:
            raise ObjectMissing(f"There is no {key}.") from None


@dataclass(frozen=True)
class DirectoryAccess:
    """What tasks work with, where no database is asked."""

    folder: Path
    run_id: str

    @property
    def run(self) -> RunStore:
        return RunStore(DirectoryStore(self.folder), "a_dag", self.run_id, ("load", "features"))

    @property
    def database(self) -> Callable[[], Connection]:
        raise AssertionError("no task of these tests asks the database")


@dataclass(frozen=True)
class DirectoryContext(DirectoryAccess):
    """As much of a run's context as the features need."""

    contract: Contract
    engine: Engine

    def step(self, name: str) -> Any:
        return self.run.step(name)
