"""What both Compose files promise, as far as it can be read; Compose itself reads them in the stack test."""

import re
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.constants import DEVELOPMENT_SECRET_MARK
from fraud_launcher import secret_files

ROOT = Path(__file__).resolve().parents[2]
LOCAL, PRODUCTION = "docker-compose.local.yml", "docker-compose.vm1.yml"
FILES = [LOCAL, PRODUCTION]
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?:(:?[-?])([^}]*))?\}")
ADDRESS = re.compile(r"127\.0\.0\.1|\$\{\w+_BIND:-127\.0\.0\.1\}")
# Set by who calls Compose, or read by it alone; the rest is in .env.example.
OF_THE_CALLER = re.compile(
    r"PUBLISH_\w+|\w+_IMAGE|IMAGE_\w+|\w+_BIND|CA_BUNDLE|SECRETS_DIR|REGISTRY|TAG|AIRFLOW_URL|"
    r"MLFLOW_ALLOWED_HOSTS|PROMETHEUS_KEEP"
)
MAJORS = {"POSTGRES_IMAGE": "17", "REDIS_IMAGE": "8", "KAFKA_IMAGE": "4", "PROMETHEUS_IMAGE": "v2"}


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def document(name: str) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(text(name))
    return parsed


def services() -> list[Any]:
    return [
        pytest.param(name, service, one, id=f"{name.split('.')[1]}-{service}")
        for name in FILES
        for service, one in document(name)["services"].items()
    ]


def ends(one: dict[str, Any]) -> bool:
    return one.get("restart") == "no"


@pytest.mark.parametrize(("name", "service", "one"), services())
def test_a_service(name: str, service: str, one: dict[str, Any]) -> None:
    assert one["container_name"] == f"fraud-{service}"
    assert one["mem_limit"]
    assert one["restart"] in {"no", "unless-stopped"}
    for port in one.get("ports", []):
        assert ADDRESS.match(port), f"{port} is open to everybody"
    command = f"{one.get('command', '')} {one.get('entrypoint', '')}"
    assert not re.search(r"(?<!\$)\$\{?\w*(PASSWORD|SECRET|TOKEN|_KEY)", command), (
        "visible in the list of processes"
    )
    assert not re.search(r"://[^\s/@]*:[^\s/@]*@", str(one)), "a password in an address"
    health = "healthcheck" in one or "HEALTH_URL" in one.get("environment", {})
    assert health != ends(one), "a server has a health check, what ends has none"


@pytest.mark.parametrize("name", FILES)
def test_who_is_waited_for_can_be(name: str) -> None:
    every = document(name)["services"]
    for service, one in every.items():
        for other, how in one.get("depends_on", {}).items():
            expected = "service_completed_successfully" if ends(every[other]) else "service_healthy"
            assert how["condition"] == expected, f"{service} waits for {other}"


@pytest.mark.parametrize("name", FILES)
def test_every_variable_is_described(name: str) -> None:
    described = set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", text(".env.example"), re.MULTILINE))
    read = {match[1] for match in VARIABLE.finditer(text(name))}
    assert {one for one in read - described if not OF_THE_CALLER.fullmatch(one)} == set()


@pytest.mark.parametrize("name", FILES)
def test_every_third_party_image_is_pinned_and_can_be_replaced(name: str) -> None:
    for service, one in document(name)["services"].items():
        if "fraud-detection/" in one["image"]:
            continue
        match = VARIABLE.fullmatch(one["image"])
        assert match, f"{service}: {one['image']}"
        assert re.search(r":v?\d+\.\d+", match[3]), f"{service}: {match[3]} is not pinned"


def test_both_files_have_the_same_third_parties() -> None:
    local, production = (
        dict(re.findall(r"\$\{(\w+_IMAGE):-([^}]+)\}", text(name))) for name in (LOCAL, PRODUCTION)
    )
    assert production.items() <= local.items()
    for variable, major in MAJORS.items():
        assert re.match(rf"{major}(\.|$)", local[variable].rpartition(":")[2]), local[variable]


def test_every_image_of_a_job_is_named_by_a_service() -> None:
    """`up` builds and `pull` fetches only what a service names."""
    for name in FILES:
        every = document(name)["services"]
        allowed = every["docker-proxy"]["environment"]["PROXY_IMAGES"].split(",")
        assert set(allowed) <= {one["image"] for one in every.values()}


def test_production_refuses_what_development_forgives() -> None:
    content = text(PRODUCTION)
    assert DEVELOPMENT_SECRET_MARK in content, "the preflight looks for it"
    secrets = set(document(PRODUCTION)["secrets"])
    for name in re.findall(rf"^(\w+)={DEVELOPMENT_SECRET_MARK}", text(".env.example"), re.MULTILINE):
        assert not re.search(rf"\$\{{{name}[:}}]", content), f"{name} comes from .env"
    checked = set(document(PRODUCTION)["services"]["preflight"]["secrets"])
    assert secrets - checked == set(secret_files.OPTIONAL)


def test_in_production_everything_waits_for_the_preflight() -> None:
    every = document(PRODUCTION)["services"]

    def waits(service: str) -> bool:
        return service == "preflight" or any(waits(other) for other in every[service].get("depends_on", {}))

    assert [service for service in every if not waits(service)] == []


def test_in_production_a_secret_is_a_file_that_the_service_is_given() -> None:
    for service, one in document(PRODUCTION)["services"].items():
        environment = one.get("environment", {})
        named = {
            value.removeprefix("/run/secrets/")
            for key, value in environment.items()
            if key.endswith("_FILE") and str(value).startswith("/run/secrets/")
        }
        used = set(re.findall(r"/run/secrets/(\w+)", str(one))) | named
        granted = set(one.get("secrets", []))
        assert used <= granted, service
        if service not in {"preflight", "objectstore"}:
            assert granted <= used, f"{service} is given what it does not use"
        secret = {key for key in environment if re.search(r"PASSWORD|SECRET|JWT|FERNET", key)}
        assert {key for key in secret if not key.endswith("_FILE")} == set(), service


def test_in_production_no_store_is_published() -> None:
    every = document(PRODUCTION)["services"]
    assert not [name for name in ("postgres", "redis", "kafka") if "ports" in every[name]]
    assert {
        one["environment"]["APP_ENV"] for one in every.values() if "APP_ENV" in one.get("environment", {})
    } == {"production"}
    assert not {"api", "gateway", "prometheus", "grafana", "history", "first-model"} & set(every)


def test_secrets_are_written_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "secrets"
    assert secret_files.main([str(folder)]) == 0
    expected = set(document(PRODUCTION)["secrets"]) | set(secret_files.OF_THE_API)
    files = {path.name: path for path in folder.iterdir()}
    assert set(files) == expected
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700, "only the owner may read the files"
    values = {name: path.read_text(encoding="utf-8") for name, path in files.items()}
    filled = [value for name, value in values.items() if name not in secret_files.OPTIONAL]
    assert len(set(filled)) == len(filled)
    assert min(map(len, filled)) >= 44
    files["db_password"].unlink()
    assert secret_files.main([str(folder)]) == 0
    again = {name: path.read_text(encoding="utf-8") for name, path in files.items()}
    assert {name for name in again if again[name] != values[name]} == {"db_password"}
    output = capsys.readouterr()
    assert not [value for value in filled if value in output.out + output.err]


@pytest.mark.parametrize("arguments", [["--folder"], ["one", "two"]])
def test_secrets_are_not_written_by_accident(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert secret_files.main(arguments) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_release_over_http_has_a_replica_behind_the_gateway() -> None:
    """Jobs score through the gateway, which reaches both replicas and asks the API for their shares."""
    every = document(LOCAL)["services"]
    api, canary, gateway = (every[name] for name in ("api", "api-canary", "gateway"))
    changed = {
        name
        for name in api["environment"].keys() | canary["environment"].keys()
        if api["environment"].get(name) != canary["environment"].get(name)
    }
    assert changed == {"API_REPLICA", "API_METRICS_HOST", "HEALTH_URL"}
    assert canary["environment"]["API_REPLICA"] == "release"
    assert canary["image"] == api["image"]
    assert canary["volumes"] != api["volumes"], "each replica removes old models from its own cache"
    routes, static = (
        yaml.safe_load((ROOT / "services/gateway/traefik" / name).read_text(encoding="utf-8"))
        for name in ("routes.yml", "traefik.yml")
    )
    for name, service in (("api", "api"), ("canary", "api-canary")):
        [server] = routes["http"]["services"][name]["loadBalancer"]["servers"]
        assert server["url"] == f"http://{service}:8000"
        assert set(every[service]["networks"]) & set(gateway["networks"])
    [alias] = api["networks"]["monitoring"]["aliases"]
    endpoint = f"http://{alias}:{api['environment']['API_METRICS_PORT']}/gateway"
    assert static["providers"]["http"]["endpoint"] == endpoint
    assert {"jobs", "monitoring"} <= set(gateway["networks"])
    for service, variable in (
        ("airflow-worker", "JOB_API_URL"),
        ("airflow-scheduler", "JOB_API_URL"),
        ("follower", "API_URL"),
        ("rollout", "API_URL"),
    ):
        assert every[service]["environment"][variable] == "http://gateway:8000"
    assert every["airflow-worker"]["environment"]["API_URL"] == "http://api:8000"
