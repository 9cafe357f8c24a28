"""The trainer as a process that can be stopped at a step, and a relay to MLflow that can be cut."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
import yaml

from config import constants
from config.parameters import read_yaml
from config.settings import CONFIG_DIR, ObjectStoreSettings
from fraud_adapters.models.registry_writer import RegistryWriter
from fraud_adapters.objectstore import ObjectStore
from tests.integration.training_installation import WIRE, Installation, installed, store_history, wire_rows
from tests.support import forked
from tests.support.stored_rows import Database
from tests.support.waiting import eventually

PATIENCE_S = 120.0


class TrainerJob:
    """`python -m fraud_trainer`, its log is read while it runs."""

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.lines: list[str] = []
        self._process = forked.start(
            "fraud_trainer",
            *arguments,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def step_done(self, step: str) -> None:
        mark = f'"step":"{step}"'
        assert eventually(lambda: self._logged(mark) or self._ended(), PATIENCE_S)
        assert self._logged(mark), self.lines

    def stop(self, number: signal.Signals, seconds: float = 10.0) -> int:
        """Send a signal; returns the exit code."""
        self._process.send_signal(number)
        code = self._process.wait(seconds)
        self._reader.join(5)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if not self._ended():
            self._process.kill()
        self._process.wait()
        self._reader.join(5)

    def _logged(self, mark: str) -> bool:
        return any(mark in line for line in list(self.lines))

    def _ended(self) -> bool:
        return self._process.poll() is not None

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stderr:
            for line in stderr:
                self.lines.append(line.rstrip())


class Relay:
    """Forwards connections to a server, with the server's own Host header, until `cut`."""

    def __init__(self, url: str) -> None:
        self._port = urlsplit(url).port or 80
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        # MLflow refuses requests with a foreign Host header.
        self._own, self._upstream = (urlsplit(name).netloc.encode() for name in (self.url, url))
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        for side in (self._listener, *self._open):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                self._open += [client, server]
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(65536):
                target.sendall(content.replace(self._own, self._upstream))
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@contextmanager
def relayed(url: str) -> Iterator[Relay]:
    relay = Relay(url)
    try:
        yield relay
    finally:
        relay.cut()


def small_configuration(folder: Path, **sections: Mapping[str, Any]) -> Path:
    """The configuration for few rows: 100 frauds are enough, and models have 60 trees at most.

    Whatever passes its gate after the first version is the challenger.
    """
    folder.mkdir()
    content = read_yaml(CONFIG_DIR / "config.yaml")
    content["gates"]["specification"]["min_frauds"] = 100
    content["training"] |= {"rounds": 60, "threads": 1, "label_gap": "PT10M"}
    content["training"] |= {"promotion": "canary", "candidates": ["xgboost"]}
    content["training"]["resamples"] = 100
    for name, section in sections.items():
        content[name] |= section
    content["labels"]["implied_after"] = "PT15M"
    (folder / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


@contextmanager
def small_installation(
    database: Database, mlflow_uri: str, store: ObjectStoreSettings, folder: Path
) -> Iterator[Installation]:
    """An installation with a small history and an empty bucket."""
    bucket = ObjectStore(store, constants.BUCKET_RUNS)
    bucket.delete(bucket.list("runs/"))
    with (
        pytest.MonkeyPatch.context() as patch,
        installed(WIRE, database, mlflow_uri, store, folder) as installation,
    ):
        patch.setenv("FRAUD_CONFIG_DIR", str(small_configuration(folder / "config")))
        rows, labels = wire_rows(3000)
        store_history(installation, rows, labels.tolist(), source="bank", by="chargeback")
        yield installation


def statuses(installation: Installation) -> list[str]:
    """The states of the installation's MLflow runs, earliest first."""
    client = RegistryWriter(installation.mlflow_uri)._client
    experiment = client.get_experiment_by_name(installation.contract.registered_model)
    if experiment is None:
        return []
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    return [run.info.status for run in runs]


def versions(installation: Installation) -> list[str]:
    client = RegistryWriter(installation.mlflow_uri)._client
    return [
        version.version
        for version in client.search_model_versions(f"name='{installation.contract.registered_model}'")
    ]
