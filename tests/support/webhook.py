"""A local Slack webhook that records the messages posted to it."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

from tests.support.waiting import eventually

_PATIENCE_S: Final = 240.0


@dataclass
class Webhook:
    """`texts` are the accepted messages, in order; the next `refused` ones are answered with 403.

    `received`: when each text was accepted first.
    """

    url: str
    texts: list[str] = field(default_factory=list)
    refused: int = 0
    received: dict[str, datetime] = field(default_factory=dict)

    def about(self, phrase: str) -> list[str]:
        """The messages that contain this phrase."""
        return [text for text in self.texts if phrase in text]

    def wait_for(self, phrase: str) -> str:
        """Wait for a message that contains this phrase; gives the first."""
        assert eventually(lambda: bool(self.about(phrase)), _PATIENCE_S), self.texts
        return self.about(phrase)[0]


@contextmanager
def running_webhook() -> Iterator[Webhook]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if accepted := not webhook.refused and self.path == urlsplit(webhook.url).path:
                document = json.loads(body)  # Alertmanager sends attachments
                text = document.get("text") or json.dumps(document["attachments"])
                webhook.received.setdefault(text, datetime.now(UTC))
                webhook.texts.append(text)
            else:
                webhook.refused = max(0, webhook.refused - 1)
            self.send_response(200 if accepted else 403)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: Any) -> None:
            """Log nothing: tests check `texts`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    webhook = Webhook(f"http://127.0.0.1:{server.server_address[1]}/services/{secrets.token_hex(12)}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
    thread.start()
    try:
        yield webhook
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
