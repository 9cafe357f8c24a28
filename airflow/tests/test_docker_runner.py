"""The parts of the Docker runner that need no daemon; tests/stack has the rest."""

from __future__ import annotations

import io
import itertools
import random
import tarfile
from typing import Any

import pytest

from fraud_airflow.jobs import RESULT_LIMIT_BYTES, JobRefused
from fraud_airflow.runners import docker_result
from fraud_airflow.runners.docker_logs import LogReader
from fraud_airflow.runners.docker_runner import from_environment


@pytest.mark.parametrize(
    "host", [None, "", "unix:///var/run/docker.sock", "tcp://", "tcp://a", "http://a:1", "tcp://a:b@c:1"]
)
def test_a_host_that_is_no_proxy_is_refused(host: str | None) -> None:
    with pytest.raises(JobRefused, match=r"^DOCKER_HOST=.*: name the docker-proxy as tcp://HOST:PORT"):
        from_environment({"DOCKER_HOST": host} if host is not None else {})


class Daemon:
    """A log file as the daemon keeps it: frames in the order of writing, stamped a little before it."""

    def __init__(self, frames: list[tuple[int, float, bytes]]) -> None:
        self.frames = frames

    def answer(self, query: dict[str, str], cut: int | None = None) -> io.BytesIO:
        since = float(query.get("since", 0))
        sent = b"".join(
            bytes([stream, 0, 0, 0]) + (31 + len(text)).to_bytes(4, "big") + _stamp(at) + text
            for stream, at, text in self.frames
            if at >= since
        )
        return io.BytesIO(sent[:cut])


def _stamp(at: float) -> bytes:
    seconds, fraction = divmod(at, 1)
    return f"2026-11-21T20:{int(seconds) // 60:02}:{int(seconds) % 60:02}.{int(fraction * 1e9):09}Z ".encode()


BEGIN = 1795291200  # 2026-11-21T20:00:00Z


class ShiftedDaemon(Daemon):
    def answer(self, query: dict[str, str], cut: int | None = None) -> io.BytesIO:
        shifted = {name: str(float(value) - BEGIN) for name, value in query.items() if name == "since"}
        return super().answer(shifted, cut)


@pytest.mark.parametrize("seed", range(20))
def test_a_log_read_over_broken_connections_has_each_line_once(seed: int) -> None:
    chance = random.Random(seed)
    clock, frames, expected = 0.0, [], []
    for number in range(400):
        clock += chance.choice([0, 0, 0.001, 0.4])
        text = f"line {number}\n".encode()
        # The other stream is stamped apart: what is written now may be stamped before what was written last.
        frames.append((chance.choice([1, 2]), max(0.0, clock - chance.choice([0, 0, 0.3])), text))
        expected.append(text.decode().rstrip("\n"))
    reader, daemon = LogReader(), ShiftedDaemon(frames)
    got: list[str] = []
    for _ in range(30):
        query = reader.query()
        size = len(daemon.answer(query).getvalue())
        got += reader.lines(daemon.answer(query, chance.randrange(size + 1)))
    got += reader.lines(daemon.answer(reader.query()))
    assert [*got, *reader.rest()] == expected


def test_what_is_asked_for_again_is_not_the_whole_log() -> None:
    reader = LogReader()
    daemon = ShiftedDaemon([(1, float(second), b"x\n") for second in range(600)])
    assert len(list(reader.lines(daemon.answer(reader.query())))) == 600
    assert len(daemon.answer(reader.query()).getvalue()) == 2 * (8 + 31 + 2)
    assert list(reader.lines(daemon.answer(reader.query()))) == []


def test_a_line_in_several_frames_is_one_and_streams_do_not_mix() -> None:
    frames = [(1, 1.0, b"one, "), (2, 1.0, b"err"), (1, 1.0, b"two\n"), (2, 1.5, b"or\n"), (1, 2.0, b"rest")]
    reader = LogReader()
    assert list(reader.lines(ShiftedDaemon(frames).answer(reader.query()))) == ["one, two", "error"]
    assert list(reader.rest()) == ["rest"]


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
        (_archive(b"[1]"), (None, "its result is no JSON object")),
        (_archive(b"", type=tarfile.DIRTYPE), (None, "its result cannot be read (Is a directory)")),
        (_archive(b"", type=tarfile.FIFOTYPE), (None, "its result cannot be read (Is no plain file)")),
        (
            _archive(b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
            (None, "its result cannot be read (Is no plain file)"),
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


def test_frames_arrive_in_any_pieces() -> None:
    class Dripping(io.BytesIO):
        def read1(self, n: int | None = -1, /) -> bytes:
            return super().read1(next(sizes))

    sizes = itertools.cycle([1, 7, 3])
    frames = [(1, float(number), f"{number}\n".encode()) for number in range(50)]
    reader = LogReader()
    whole = ShiftedDaemon(frames).answer(reader.query()).getvalue()
    assert list(reader.lines(Dripping(whole))) == [str(number) for number in range(50)]
