"""What MLflow's server is started with, what its page is given, and that nothing is reported."""

import asyncio
import configparser
import json
import os
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from config import services
from config.constants import PROCESS_ENVIRONMENT
from fraud_embedded.processes.process import base_environment
from fraud_mlflow import users
from fraud_mlflow.__main__ import PLUGIN, arguments, environment
from fraud_mlflow.page import DEFAULTS, Message, PageDefaults, Receive, Send
from fraud_mlflow.users import WrongVariable

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
    **{users.password_variable(name): f"password of {name}" for name in users.NAMES},
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


def test_pages_behind_a_proxy_with_tls_may_write() -> None:
    (origins,) = (
        option.partition("=")[2].split(",")
        for option in arguments(SETTINGS | {"MLFLOW_ALLOWED_HOSTS": " mlflow.example.com , [fd00::1]:5000,"})
        if option.startswith("--cors-allowed-origins")
    )
    assert {"https://mlflow.example.com", "http://mlflow:5000", "http://[fd00::1]:5000"} <= set(origins)


@pytest.mark.parametrize(
    "hosts",
    [
        "http://mlflow:5000",
        "mlflow:",
        "mlflow:0",
        "mlflow:70000",
        "a b",
        "*",
        "10.0.0.5:5000/x",
        "::1",
        "-a",
        "ü",
    ],
)
def test_a_malformed_host_stops_the_start(hosts: str) -> None:
    with pytest.raises(WrongVariable, match=r"^MLFLOW_ALLOWED_HOSTS: .* is not a host or host:port"):
        arguments(SETTINGS | {"MLFLOW_ALLOWED_HOSTS": f"localhost:5000,{hosts}"})


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
    assert entry.value == "fraud_mlflow.app:create"
    assert environment(SETTINGS)["PYTHONPATH"] == str(PLUGIN)
    assert environment(SETTINGS | {"PYTHONPATH": "/app"})["PYTHONPATH"] == f"{PLUGIN}:/app"


def test_the_users_are_those_of_the_table_of_services() -> None:
    assert users.NAMES == services.mlflow_users() == tuple(user.name for user in users.users(SETTINGS))
    for name in users.NAMES:
        assert users.password_variable(name) == services.mlflow_password(name)


def test_everybody_logs_in_and_an_unknown_user_sees_nothing() -> None:
    variables = environment(SETTINGS)
    file = configparser.ConfigParser()
    file.read(variables["MLFLOW_AUTH_CONFIG_PATH"])
    assert file["mlflow"]["default_permission"] == "NO_PERMISSIONS"
    assert file["mlflow"]["authorization_function"] == "fraud_mlflow.rights:authenticate"
    assert int(file["mlflow"]["auth_cache_ttl_seconds"]) > 0
    assert (variables["MLFLOW_AUTH_ADMIN_USERNAME"], variables["MLFLOW_AUTH_ADMIN_PASSWORD"]) == (
        "admin",
        SETTINGS["MLFLOW_ADMIN_PASSWORD"],
    )
    assert (
        variables["MLFLOW_FLASK_SERVER_SECRET_KEY"] != environment(SETTINGS)["MLFLOW_FLASK_SERVER_SECRET_KEY"]
    )


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"MLFLOW_API_PASSWORD": "elevenchars"}, "^MLFLOW_API_PASSWORD: MLflow asks for at least 12"),
        ({"MLFLOW_PERSON_PASSWORD": "zwölf Zeichen"}, "^MLFLOW_PERSON_PASSWORD: write ASCII"),
        ({"MLFLOW_PERSON_RELEASES": "yes"}, "^MLFLOW_PERSON_RELEASES: write 1, or 0"),
        (
            {"APP_ENV": "production", "MLFLOW_RELEASE_PASSWORD": "change-me-release"},
            "^MLFLOW_RELEASE_PASSWORD still has its development default",
        ),
    ],
)
def test_a_password_that_will_not_do_stops_the_start(changed: dict[str, str], sentence: str) -> None:
    with pytest.raises(WrongVariable, match=sentence):
        environment(SETTINGS | changed)


ALIAS = "/api/2.0/mlflow/registered-models/alias"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/2.0/mlflow/anything", set(users.NAMES)),
        ("POST", "/ajax-api/3.0/mlflow/traces/search", set(users.NAMES)),
        ("POST", ALIAS, {"admin", "trainer", "release"}),
        ("DELETE", f"/ajax-{ALIAS.removeprefix('/')}", {"admin", "trainer", "release"}),
        ("POST", f"{ALIAS}/x", {"admin", "trainer"}),
        ("POST", f"/x{ALIAS}", {"admin"}),
        ("POST", "/api/2.0/mlflow/runs/search/x", {"admin", "trainer", "monitor"}),
        ("DELETE", "/api/2.0/mlflow/runs/search", {"admin", "trainer", "monitor"}),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/1/a/model.ubj", {"admin", "trainer", "monitor"}),
        ("POST", "/api/2.0/mlflow/users/create", {"admin"}),
        ("POST", "/api/2.0/mlflow/webhooks", {"admin"}),
    ],
)
def test_the_requests_with_which_a_user_may_write(method: str, path: str, allowed: set[str]) -> None:
    granted = users.rights({})
    assert {name for name in granted if users.may(granted[name], method, path)} == allowed
    releasing = users.rights({"MLFLOW_PERSON_RELEASES": "1"})
    assert users.may(releasing["person"], method, path) == ("release" in allowed)
    assert users.may(None, method, path), "of a user made by hand, MLflow's permissions decide"


@pytest.mark.parametrize("name", sorted(SETTINGS.keys() - {"DB_HOST"}))
def test_what_is_missing_is_named(name: str) -> None:
    with pytest.raises(WrongVariable, match=name):
        environment({**SETTINGS, name: ""})


def test_the_program_ends_with_the_sentence() -> None:
    passwords = {name: value for name, value in SETTINGS.items() if name.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, "-m", "fraud_mlflow"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **passwords},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert (
        done.stderr == "configuration: AWS_ACCESS_KEY_ID is not set: set it in .env or in the environment.\n"
    )
