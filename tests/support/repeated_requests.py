"""Clients of the API that send requests while something happens to it."""

from __future__ import annotations

import threading
import time

import httpx

from tests.support.api_server import PLAIN, ApiServer, creditcard


class RepeatedRequests:
    """Clients that send requests continuously; every failure is recorded."""

    def __init__(self, server: ApiServer, clients: int = 4) -> None:
        self._url = server.url
        self._headers = {"Authorization": f"Bearer {server.token()}"}
        self._done = threading.Event()
        self._lock = threading.Lock()
        self.failures: list[str] = []
        self.served_versions: list[tuple[float, str]] = []
        self.begun: list[float] = []  # when the request of each of them began
        self._threads = [
            threading.Thread(target=self._send_requests, args=(number,)) for number in range(clients)
        ]

    def __enter__(self) -> RepeatedRequests:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def first(self, version: str, since: float) -> float:
        """Seconds from a moment until the first response of a version."""
        return min(at for at, served in list(self.served_versions) if served == version) - since

    def _send_requests(self, number: int) -> None:
        with httpx.Client(headers=self._headers, **PLAIN, timeout=20) as client:
            while not self._done.is_set():
                began = time.monotonic()
                try:
                    if number % 2:
                        answer = client.post(f"{self._url}/predict", json=creditcard())
                        document = answer.json()
                    else:
                        answer = client.post(
                            f"{self._url}/predict/batch", json={"transactions": [creditcard()] * 5}
                        )
                        document = answer.json()["predictions"][0]
                    with self._lock:
                        self.begun.append(began)
                        self.served_versions.append((time.monotonic(), document["model_version"]))
                except Exception as error:
                    self.failures.append(f"{type(error).__name__}: {error}")
                time.sleep(0.05)  # enough load for a replacement to be noticed
