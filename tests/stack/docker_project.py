"""A docker-proxy in front of the real daemon, with its own network and image."""

from __future__ import annotations

import http.client
import io
import json
import os
import secrets
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import docker
import pytest
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from tests.support.waiting import eventually

ROOT: Final = Path(__file__).resolve().parents[2]
SOCKET: Final = os.environ.get("DOCKER_SOCKET", "/var/run/docker.sock")
BASE_IMAGE: Final = "fraud-detection/jobs:local"
LIMITS: Final = {"Memory": 64 * 2**20, "NanoCpus": 500_000_000, "PidsLimit": 20}
# A test passes the code of a job in this variable.
JOB: Final = "import os\nexec(compile(os.environ['JOB_SOURCE'], 'job', 'exec'))\n"


def daemon() -> Any:
    """A client of the daemon itself; without a daemon the test is skipped."""
    try:
        client = docker.APIClient(base_url=f"unix://{SOCKET}", version="auto", timeout=120)
        client.ping()
    except DockerException as error:
        pytest.skip(f"no Docker daemon answers: {error}")
    return client


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Wait:
    """A wait call, which lasts as long as a container runs or until `give_up`."""

    def __init__(self, port: int, path: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._connection.request("POST", path)
        self._response = self._connection.getresponse()
        assert self._response.status == 200, self._response.read()

    def status(self) -> int:
        try:
            return int(json.loads(self._response.read())["StatusCode"])
        finally:
            self.give_up()

    def give_up(self) -> None:
        self._response.close()
        self._connection.close()


class Proxy:
    """The proxy as a process that can be stopped and started again."""

    def __init__(self, log: Path, **settings: str) -> None:
        self.port = free_port()
        self._log = log
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start the proxy and wait until it answers."""
        settings = {"PROXY_HOST": "127.0.0.1", "PROXY_PORT": str(self.port), "DOCKER_SOCKET": SOCKET}
        paths = os.pathsep.join([str(ROOT / "services" / "docker-proxy"), *sys.path])
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fraud_docker_proxy"],
                env={**os.environ, "PYTHONPATH": paths, **settings, **self._settings},
                stderr=log,
            )
        assert eventually(self.answers, 60), self._log.read_text("utf-8")

    def answers(self) -> bool:
        with suppress(OSError, http.client.HTTPException):
            return self.call("GET", "/_ping")[0] in (200, 502)
        return False

    def end(self, *, kill: bool = False) -> None:
        if self._process is not None:
            self._process.kill() if kill else self._process.terminate()
            self._process.wait(60)
            self._process = None

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and document of one call."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, content, dict(headers or {}))
            response = connection.getresponse()
            return response.status, _document(response.read())
        finally:
            connection.close()

    def wait(self, container: str) -> Wait:
        """Begin to wait for a container."""
        return Wait(self.port, f"/containers/{container}/wait?condition=next-exit")

    def remove(self, container: str) -> None:
        """Remove a container, as a runner does."""
        assert self.call("DELETE", f"/containers/{container}?force=True&v=True&link=False")[0] == 204

    def log_is_json(self) -> bool:
        return all(line.startswith("{") for line in self._log.read_text("utf-8").splitlines())

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text("utf-8").splitlines() if line[:1] == "{"]


def _document(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode("latin-1")


class DockerProject:
    """A project with its network, image and proxy; `close` removes all of it."""

    def __init__(self, folder: Path, image: str, grace_s: float) -> None:
        self.daemon = daemon()
        self.project = f"fraud-test-{secrets.token_hex(4)}"
        self.image = image
        self.network = f"{self.project}-jobs"
        self.daemon.create_network(self.network)
        self.proxy = Proxy(
            folder / "proxy.log",
            PROXY_PROJECT=self.project,
            PROXY_IMAGES=image,
            PROXY_NETWORK=self.network,
            PROXY_GRACE_S=str(grace_s),
        )

    def body(self, source: str, **changed: Any) -> dict[str, Any]:
        """The request body by which a runner creates a container that runs this source."""
        request = {
            "Image": self.image,
            "Cmd": ["python", "-m", "fraud_job"],
            "Env": [f"JOB_SOURCE={source}"],
            "Labels": {"fraud.dag_id": "the_dag"},
            "HostConfig": LIMITS,
        }
        return request | changed

    def containers(self) -> list[dict[str, Any]]:
        """All containers of this project that the daemon lists."""
        listed = self.daemon.containers(all=True, filters={"label": f"fraud.project={self.project}"})
        return list(listed)

    def close(self) -> None:
        self.proxy.end()
        for container in self.containers():
            with suppress(NotFound, APIError):
                self.daemon.remove_container(container["Id"], force=True, v=True)
        self.daemon.remove_network(self.network)


@contextmanager
def docker_project(folder: Path, image: str, grace_s: float = 3) -> Iterator[DockerProject]:
    project = DockerProject(folder, image, grace_s)
    try:
        yield project
    finally:
        project.close()


@contextmanager
def job_image() -> Iterator[str]:
    """The jobs' image with one more module, which executes the code in a variable."""
    client = daemon()
    try:
        client.inspect_image(BASE_IMAGE)
    except ImageNotFound:
        pytest.skip(f"not run: there is no image {BASE_IMAGE}: make build")
    name = f"fraud-test-job:{secrets.token_hex(4)}"
    context = _archive({"Dockerfile": f"FROM {BASE_IMAGE}\nCOPY fraud_job.py /app/\n", "fraud_job.py": JOB})
    for step in client.build(fileobj=context, custom_context=True, tag=name, decode=True, rm=True):
        assert "error" not in step, step
    try:
        yield name
    finally:
        client.remove_image(name, force=True)


def _archive(files: Mapping[str, str]) -> io.BytesIO:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text.encode()), 0o644
            archive.addfile(member, io.BytesIO(text.encode()))
    packed.seek(0)
    return packed
