"""A TCP proxy between a consumer and Postgres that drops a response."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from fraud_embedded.processes.probes import HOST

_CHUNK: Final = 65536
COMMIT: Final = b"COMMIT\0"  # the end of a simple query
IN_TRANSACTION: Final = b"UPDATE stream_offsets"  # a COMMIT after this statement is that of a chunk


class LosesAnswers:
    """Forwards everything except the responses to the COMMIT of the first `times` chunks.

    It waits for the server's response, so that the transaction is committed, and then closes both sides: the
    client does not learn whether it was committed.
    """

    def __init__(self, server_port: int, times: int) -> None:
        self._server_port = server_port
        self._remaining = times
        self._lock = threading.Lock()
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.lost = 0
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection((HOST, self._server_port)) as server:
            swallow = threading.Event()
            back = threading.Thread(target=self._answer, args=(client, server, swallow), daemon=True)
            back.start()
            moved = False
            with suppress(OSError):
                while data := client.recv(_CHUNK):
                    moved = moved or IN_TRANSACTION in data
                    if moved and data.endswith(COMMIT):
                        moved = False
                        if self._take():
                            swallow.set()
                    server.sendall(data)
            with suppress(OSError):
                server.shutdown(socket.SHUT_WR)
            back.join(10)

    def _answer(self, client: socket.socket, server: socket.socket, swallow: threading.Event) -> None:
        with suppress(OSError):
            while answer := server.recv(_CHUNK):
                if swallow.is_set():
                    self.lost += 1
                    break
                client.sendall(answer)
        for side in (client, server):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def _take(self) -> bool:
        with self._lock:
            self._remaining -= 1
            return self._remaining >= 0


@contextmanager
def losing_answers(server_port: int, times: int) -> Iterator[LosesAnswers]:
    """A proxy in front of Postgres; clients connect to its port."""
    proxy = LosesAnswers(server_port, times)
    try:
        yield proxy
    finally:
        proxy.close()
