"""The parts of the Docker runner that need no daemon; tests/stack has the rest."""

from __future__ import annotations

import io
import random
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from docker import APIClient

from fraud_airflow.jobs import RESULT_LIMIT_BYTES
from fraud_airflow.runners import docker_result
from fraud_airflow.runners.docker_api import DockerClient, StreamBroken
from fraud_airflow.runners.docker_logs import LogReader


class Daemon:
    """A log file as the daemon keeps it: frames in the order of writing, stamped a little before it."""

    def __init__(self, frames: list[tuple[float, bytes]]) -> None:
        self.frames = frames

    def answer(self, query: dict[str, str]) -> list[bytes]:
        since = float(query.get("since", BEGIN)) - BEGIN
        return [_stamp(at) + text for at, text in self.frames if at >= since]


def _stamp(at: float) -> bytes:
    seconds, fraction = divmod(at, 1)
    return f"2026-11-21T20:{int(seconds) // 60:02}:{int(seconds) % 60:02}.{int(fraction * 1e9):09}Z ".encode()


BEGIN = 1795291200  # 2026-11-21T20:00:00Z


@pytest.mark.parametrize("seed", range(20))
def test_a_log_read_over_broken_connections_has_each_line_once(seed: int) -> None:
    chance = random.Random(seed)
    clock, frames, expected = 0.0, [], []
    for number in range(400):
        clock += chance.choice([0, 0, 0.001, 0.4])
        text = f"line {number}\n".encode()
        # The other stream is stamped apart: what is written now may be stamped before what was written last.
        frames.append((max(0.0, clock - chance.choice([0, 0, 0.3])), text))
        expected.append(text.decode().rstrip("\n"))
    reader, daemon = LogReader(), Daemon(frames)
    got: list[str] = []
    for _ in range(30):
        answer = daemon.answer(reader.query())
        got += reader.lines(answer[: chance.randrange(len(answer) + 1)])
    got += reader.lines(daemon.answer(reader.query()))
    assert [*got, *reader.rest()] == expected


def test_what_is_asked_for_again_is_not_the_whole_log() -> None:
    reader = LogReader()
    daemon = Daemon([(float(second), b"x\n") for second in range(600)])
    assert len(list(reader.lines(daemon.answer(reader.query())))) == 600
    assert len(daemon.answer(reader.query())) == 2
    assert list(reader.lines(daemon.answer(reader.query()))) == []


def test_a_line_in_several_frames_is_one_and_streams_do_not_mix() -> None:
    frames = [(1.0, b"one, "), (1.1, b"err"), (1.0, b"two\n"), (1.1, b"or\n"), (2.0, b"rest")]
    reader, daemon = LogReader(), Daemon(frames)
    got: list[str] = []
    for cut in range(len(frames)):
        got += reader.lines(daemon.answer(reader.query())[: cut + 1])
    assert (got, list(reader.rest())) == (["one, two", "error"], ["rest"])


class Log(BaseHTTPRequestHandler):
    """A daemon's log of one line, which breaks off before its end where that is asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        frame = b"\1\0\0\0\0\0\0\5hello"
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for byte in frame:
            self.wfile.write(b"1\r\n" + bytes([byte]) + b"\r\n")
        if "broken" not in self.path:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def log() -> Iterator[DockerClient]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Log) as server:
        threading.Thread(target=server.serve_forever).start()
        client = APIClient(f"tcp://127.0.0.1:{server.server_port}", version="1.41")
        yield DockerClient(lambda: client)
        server.shutdown()


def test_a_log_that_breaks_is_told_from_one_that_ends(log: DockerClient) -> None:
    """What is used of the SDK's inner parts does that; its own `logs` does not."""
    assert list(log.frames(log.open("GET", "/whole"))) == [b"hello"]
    broken = log.frames(log.open("GET", "/broken"))
    assert next(broken) == b"hello"
    with pytest.raises(StreamBroken):
        next(broken)


def _archive(content: bytes, **changed: Any) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("result.json")
        member.size = len(content)
        for name, value in changed.items():
            setattr(member, name, value)
        archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@pytest.mark.parametrize(
    ("archive", "expected"),
    [
        (_archive(b'{"a": 1}'), ({"a": 1}, "")),
        (_archive(b"[1]"), (None, "its result is not a JSON object")),
        (_archive(b"", type=tarfile.DIRTYPE), (None, "its result cannot be read (Is a directory)")),
        (_archive(b"", type=tarfile.FIFOTYPE), (None, "its result cannot be read (Is not a regular file)")),
        (
            _archive(b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
            (None, "its result cannot be read (Is not a regular file)"),
        ),
        (
            _archive(b" " * (RESULT_LIMIT_BYTES + 1))[:RESULT_LIMIT_BYTES],
            (None, "its result is larger than 65536 bytes"),
        ),
        (_archive(b'{"a": 1}')[:515], (None, "its result cannot be read (unexpected end of data)")),
        (b"no archive", (None, "its result cannot be read (truncated header)")),
    ],
)
def test_a_result_is_one_plain_file_with_one_json_object(archive: bytes, expected: object) -> None:
    assert docker_result.from_archive(archive) == expected
