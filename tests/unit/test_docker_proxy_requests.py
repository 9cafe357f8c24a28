"""What the docker-proxy reads of a request, without a daemon behind it."""

from __future__ import annotations

import asyncio
import codecs
from typing import Any, cast

import httpx
import pytest

from fraud_docker_proxy.app import Proxy
from fraud_docker_proxy.proxied_request import parse_json_object
from fraud_docker_proxy.refusals import RequestRefused
from fraud_docker_proxy.settings import from_environment


class Daemon:
    """One that answers a ping and nothing else."""

    async def ping(self) -> str:
        return "1.52"


def send_request(method: str, path: str, **options: Any) -> httpx.Response:
    daemon = cast(Any, Daemon())
    proxy = Proxy(from_environment({"PROXY_IMAGES": "jobs:1"}), daemon, cast(Any, None), cast(Any, None))

    async def exchange() -> httpx.Response:
        transport = httpx.ASGITransport(proxy)
        async with httpx.AsyncClient(transport=transport, base_url="http://docker") as client:
            return await client.request(method, path, **options)

    return asyncio.run(exchange())


def test_a_ping_may_be_asked_by_head() -> None:
    assert send_request("GET", "/_ping").status_code == 200
    response = send_request("HEAD", "/_ping")
    assert (response.status_code, response.headers["content-length"]) == (200, "2")
    assert send_request("HEAD", "/containers/json").status_code == 403


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "identity, br"])
def test_a_compressed_body_is_refused(coding: str) -> None:
    answer = send_request(
        "POST", "/containers/create?name=fraud-job-x", content=b"{}", headers={"Content-Encoding": coding}
    )
    assert answer.status_code == 415
    assert answer.json()["message"].startswith("Content-Encoding: ")


def test_a_body_is_utf_8() -> None:
    assert parse_json_object(codecs.BOM_UTF8 + b'{"Image": "jobs:1"}') == {"Image": "jobs:1"}
    for code in ("utf-16", "utf-16-le", "utf-32"):
        with pytest.raises(RequestRefused, match="not JSON"):
            parse_json_object('{"Image": "jobs:1"}'.encode(code))
