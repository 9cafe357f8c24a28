"""What MLflow's server is started with, what its page is given, and that nothing is reported."""

import asyncio
import json
import os
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from config.constants import PROCESS_ENVIRONMENT
from fraud_embedded.processes.process import base_environment
from fraud_mlflow.__main__ import PLUGIN, VariableMissing, arguments, environment
from fraud_mlflow.page import DEFAULTS, Message, PageDefaults, Receive, Send

ROOT = Path(__file__).resolve().parents[2]
OFF = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}
PAGE = b"<!doctype html><html><head><title>MLflow</title></head></html>"

SETTINGS = {
    "DB_HOST": "postgres",
    "MLFLOW_DB_PASSWORD": "p@ss/w:rd %#",
    "S3_ENDPOINT_URL": "http://objectstore:8333",
    "AWS_ACCESS_KEY_ID": "fraud-mlflow",
    "AWS_SECRET_ACCESS_KEY": "key of the bucket",
}


def test_a_password_of_any_characters_is_part_of_the_address() -> None:
    parts = urlsplit(environment(SETTINGS)["MLFLOW_BACKEND_STORE_URI"])
    assert unquote(str(parts.password)) == SETTINGS["MLFLOW_DB_PASSWORD"]
    assert (parts.username, parts.hostname, parts.port, parts.path) == ("mlflow", "postgres", 5432, "/mlflow")
    whole = {"MLFLOW_BACKEND_STORE_URI": "postgresql+psycopg2://elsewhere/x"}
    assert environment(SETTINGS | whole)["MLFLOW_BACKEND_STORE_URI"].endswith("elsewhere/x")


def test_no_secret_is_an_argument() -> None:
    command_line = " ".join(arguments(environment(SETTINGS)))
    assert not [
        value
        for name, value in SETTINGS.items()
        if "PASSWORD" in name or "SECRET" in name
        if value in command_line
    ]
    assert "postgres" not in command_line


def test_it_is_reached_by_its_names_and_by_those_one_adds() -> None:
    def hosts(**more: str) -> list[str]:
        options = dict(option.partition("=")[::2] for option in arguments(SETTINGS | more) if "=" in option)
        return options["--allowed-hosts"].split(",")

    assert hosts() == ["mlflow:5000", "localhost:5000", "127.0.0.1:5000"]
    assert hosts(MLFLOW_ALLOWED_HOSTS="localhost:5000,localhost:5100")[3:] == ["localhost:5100"]
    assert hosts(MLFLOW_PORT="5200") == ["mlflow:5200", "localhost:5200", "127.0.0.1:5200"]


def test_what_is_dangerous_stays_off_whatever_the_environment_says() -> None:
    wished = {
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "true",
        "MLFLOW_DISABLE_TELEMETRY": "false",
        "DO_NOT_TRACK": "false",
    }
    variables = environment(SETTINGS | wished)
    assert [variables[name] for name in wished] == ["false", "false", "true", "true"]


def test_every_process_and_every_image_is_told_to_report_nothing_and_to_unpickle_nothing() -> None:
    assert OFF.items() <= PROCESS_ENVIRONMENT.items()
    image = (ROOT / "services" / "Dockerfile").read_text()
    assert all(re.search(rf"^    {name}={value} \\$", image, re.MULTILINE) for name, value in OFF.items())


def test_mlflow_takes_its_telemetry_to_be_off_in_what_the_platform_starts() -> None:
    # Where the variables of a CI service are there it is off as well; those are not passed on.
    code = "from mlflow.telemetry.utils import is_telemetry_disabled as off; print(off())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=base_environment(), capture_output=True, text=True, check=False
    )
    assert done.stdout == "True\n", done.stderr


def page(method: str = "GET", path: str = "/") -> tuple[dict[bytes, bytes], bytes, list[bytes]]:
    """Headers and body that a browser gets, and the names of the headers that MLflow has seen."""
    header_names: list[bytes] = []
    sent: list[Message] = []

    async def mlflow(scope: Message, receive: Receive, send: Send) -> None:
        header_names.extend(name for name, _ in scope["headers"])
        headers = [(b"ETag", b"1"), (b"Content-Length", str(len(PAGE)).encode()), (b"vary", b"Origin")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": PAGE[:20], "more_body": True})
        await send({"type": "http.response.body", "body": PAGE[20:]})

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    request = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(b"host", b"x"), (b"if-none-match", b"1")],
    }
    asyncio.run(PageDefaults(mlflow)(request, receive, send))
    return dict(sent[0]["headers"]), b"".join(message["body"] for message in sent[1:]), header_names


def test_the_page_gets_defaults_that_leave_a_choice_alone_and_loads_as_before() -> None:
    headers, body, seen = page()
    start, script, rest = re.fullmatch(rb"(.*<head>)<script>(.*?)</script>(.*)", body, re.DOTALL).groups()  # type: ignore[union-attr]
    assert start + rest == PAGE
    assert json.dumps(DEFAULTS).encode() in script
    assert b"getItem(key) === null" in script
    # Neither is a browser's copy of MLflow's own page taken for this one.
    assert headers == {b"vary": b"Origin", b"content-length": str(len(body)).encode()}
    assert seen == [b"host"]


@pytest.mark.parametrize(("method", "path"), [("POST", "/"), ("GET", "/api/2.0/mlflow/runs/get")])
def test_nothing_but_the_page_is_changed(method: str, path: str) -> None:
    headers, body, seen = page(method, path)
    assert (body, seen) == (PAGE, [b"host", b"if-none-match"])
    assert headers[b"ETag"] == b"1"


def test_the_server_finds_the_application_that_is_asked_for() -> None:
    (plugin,) = distributions(path=[str(PLUGIN)])
    (entry,) = plugin.entry_points
    assert (entry.group, f"--app-name={entry.name}") == ("mlflow.app", arguments(SETTINGS)[1])
    assert entry.value == "fraud_mlflow.app:app"
    assert environment(SETTINGS)["PYTHONPATH"] == str(PLUGIN)
    assert environment(SETTINGS | {"PYTHONPATH": "/app"})["PYTHONPATH"] == f"{PLUGIN}:/app"


@pytest.mark.parametrize("name", sorted(SETTINGS.keys() - {"DB_HOST"}))
def test_what_is_missing_is_named(name: str) -> None:
    with pytest.raises(VariableMissing, match=name):
        environment({**SETTINGS, name: ""})


def test_the_program_ends_with_the_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fraud_mlflow"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert (
        done.stderr == "configuration: AWS_ACCESS_KEY_ID is not set: set it in .env or in the environment.\n"
    )
