"""The table of services: a row is found everywhere, and what is written by hand agrees with the rows."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from config import constants, services
from config.services import Backend, Jobs, Service

ROOT = Path(__file__).resolve().parents[2]
LOCAL, PRODUCTION = "docker-compose.local.yml", "docker-compose.vm1.yml"
EACH_FILE = pytest.mark.parametrize("name", [LOCAL, PRODUCTION])
# The containers that start jobs, and therefore have the jobs' variables.
WORKERS = ("airflow-scheduler", "airflow-worker")
MADE_UP = Service(
    "night-watch", "watch", Jobs.SCHEDULED, frozenset({Backend.POSTGRES}), ("read",), ("WATCH_SECRET",)
)


def test_one_more_row_is_found_everywhere(tmp_path: Path) -> None:
    path = [ROOT, *map(ROOT.joinpath, services.sources()), ROOT / "airflow" / "plugins"]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("made_up_service.py")), str(tmp_path)],
        env={"PYTHONPATH": ":".join(map(str, path)), "PATH": "/usr/bin:/bin"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "role": "fraud_night_watch",
        "password": "of-its-role",
        "secret": "of-its-client",
        "scopes": ["read"],
        "locks": ["demo", "test", "browser", "watch"],
        "imported": True,
        "typed": True,
        "embedded": [
            "API_CLIENT_ID",
            "API_CLIENT_SECRET",
            "API_URL",
            "APP_ENV",
            "AWS_ACCESS_KEY_ID",
            "AWS_DEFAULT_REGION",
            "AWS_REGION",
            "AWS_SECRET_ACCESS_KEY",
            "DATABASE_URL",
            "FRAUD_CONTRACT",
            "KAFKA_BOOTSTRAP_SERVERS",
            "KAFKA_TOPIC",
            "S3_ENDPOINT_URL",
            "WATCH_SECRET",
        ],
        "bootstrap": "of-its-role",
        "api": "of-its-client",
        "workers": [
            "API_CLIENT_SECRET_NIGHT_WATCH",
            "DATABASE_URL_NIGHT_WATCH",
            "RUNS_AWS_ACCESS_KEY_ID",
            "RUNS_AWS_SECRET_ACCESS_KEY",
            "WATCH_SECRET",
        ],
        "image": "fraud-detection/watch:local",
        "private": {
            "DATABASE_URL": "postgresql://fraud_night_watch:of-its-role@db:5432/fraud_detection",
            "API_CLIENT_SECRET": "of-its-client",
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "key",
            "WATCH_SECRET": "its-own",
        },
        "fixed": {"API_CLIENT_ID": "night-watch"},
        "dags cannot set": ["WATCH_SECRET", "API_CLIENT_ID"],
    }


def document(name: str) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return parsed


def declared_variables(service: dict[str, Any]) -> set[str]:
    """The variables of a Compose service, those of files by the name they get."""
    return {name.removesuffix("_FILE") for name in service.get("environment", {})}


def disagreements(name: str, rows: Sequence[Service] = services.SERVICES) -> list[str]:
    """What a Compose file lacks or has too much, compared with the rows of the table."""
    every = document(name)["services"]
    differences = [
        f"db-migrate: {services.role_password(one.name)}"
        for one in rows
        if one.role and services.role_password(one.name) not in declared_variables(every["db-migrate"])
    ]
    needed = {source: one for one in rows for source in in_parts(one)}
    for worker in WORKERS:
        held = declared_variables(every[worker])
        differences += [
            f"{worker}: {source}"
            for source, one in needed.items()
            if (source in held) != any(source in in_parts(other) for other in rows if scheduled(other))
        ]
    allowed = {image(one) for one in every["docker-proxy"]["environment"]["PROXY_IMAGES"].split(",")}
    differences += [
        f"docker-proxy: {one.image}" for one in rows if scheduled(one) and one.image not in allowed
    ]
    named = {image(one["image"]) for one in every.values()}
    # The API of a production installation runs on another machine.
    elsewhere = {"api"} if name == PRODUCTION else set()
    differences += [
        f"no service has the image {one}" for one in sorted({row.image for row in rows} - named - elsewhere)
    ]
    if "api" in every:
        secrets = [services.client_secret(one.name) for one in rows if one.scopes]
        differences += [
            f"api: {secret}" for secret in secrets if secret not in declared_variables(every["api"])
        ]
    return differences


def scheduled(row: Service) -> bool:
    return row.jobs is Jobs.SCHEDULED


def in_parts(row: Service) -> set[str]:
    """A worker's variables for a row; on Compose the password of its role instead of the address."""
    return {source.replace("DATABASE_URL_", "DB_PASSWORD_") for source in row.private.values()}


def image(address: str) -> str:
    """`ml` of `${REGISTRY}/fraud-detection/ml:${TAG}`."""
    match = re.search(r"fraud-detection/([\w-]+):", address)
    return match[1] if match else ""


@EACH_FILE
def test_the_compose_files_agree_with_the_table(name: str) -> None:
    assert disagreements(name) == []


@EACH_FILE
def test_a_row_that_a_compose_file_does_not_know_is_noticed(name: str) -> None:
    expected = [
        "db-migrate: DB_PASSWORD_NIGHT_WATCH",
        "docker-proxy: watch",
        "no service has the image watch",
    ]
    expected += [f"{worker}: {source}" for worker in WORKERS for source in in_parts(MADE_UP)]
    expected += ["api: API_CLIENT_SECRET_NIGHT_WATCH"] if name == LOCAL else []
    assert sorted(disagreements(name, (*services.SERVICES, MADE_UP))) == sorted(expected)


@EACH_FILE
def test_a_container_of_a_service_has_its_image_and_its_role(name: str) -> None:
    rows = {one.module: one for one in services.SERVICES}
    for one in document(name)["services"].values():
        command = one.get("command", "")
        row = rows.get(command[2]) if command[:2] == ["python", "-m"] else None
        if row is None:
            continue
        environment = one.get("environment", {})
        assert image(one["image"]) == row.image
        assert environment.get("DB_USER", row.role) == row.role
        assert environment.get("API_CLIENT_ID", row.name) == row.name


def test_the_api_knows_every_client() -> None:
    held = declared_variables(document(LOCAL)["services"]["api"])
    assert set(map(services.client_secret, services.clients())) <= held


def test_every_secret_of_a_row_is_described() -> None:
    described = set(re.findall(r"^([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    expected = {services.role_password(name) for name in services.roles()}
    expected |= set(map(services.client_secret, services.clients()))
    expected |= {name for one in services.SERVICES for name in one.secrets}
    assert expected - described == set()


def test_every_package_below_services_is_in_the_table() -> None:
    folders = {f"services/{path.parent.name}" for path in (ROOT / "services").glob("*/pyproject.toml")}
    assert folders == set(services.sources()) - {".", services.MIGRATIONS, services.LAUNCHER}
    assert [path for path in services.typed() if not (ROOT / path / "__init__.py").exists()] == []


def test_the_type_checker_started_by_hand_finds_every_package() -> None:
    paths = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["mypy_path"].split(":")
    assert set(paths) == {*services.sources(), "airflow/plugins"} - {"."}


def test_every_group_has_its_lock_and_every_lock_its_group() -> None:
    locks = {path.stem for path in (ROOT / "requirements").glob("*.txt")} - {"constraints", "pins"}
    assert locks == services.groups().keys()


def test_scopes_are_those_that_there_are() -> None:
    assert {scope for scopes in services.clients().values() for scope in scopes} <= set(constants.SCOPES)


def test_names_do_not_collide() -> None:
    names = [one.name for one in services.SERVICES]
    assert len(set(names)) == len(names)
    assert len(set(services.roles().values())) == len(services.roles())
    assert not {"owner", "readonly", "admin", "airflow"} & set(names)


def test_airflow_s_image_holds_what_its_constants_need(tmp_path: Path) -> None:
    match = re.search(
        r"^COPY ((?:config/\S+\.py )+)/opt/fraud/config/$", (ROOT / "airflow/Dockerfile").read_text(), re.M
    )
    assert match
    (tmp_path / "config").mkdir()
    for file in match[1].split():
        shutil.copy(ROOT / file, tmp_path / "config")
    program = "from config import constants; print(constants.SERVICE_ROLES['trainer'])"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "fraud_trainer\n", done.stderr


def test_airflow_s_image_holds_every_module_of_ours_that_its_code_imports() -> None:
    sources = [
        path
        for folder in ("dags", "plugins", "scripts")
        for path in (ROOT / "airflow" / folder).rglob("*.py")
    ]
    imported = {
        name
        for path in sources
        for line in re.findall(r"^ *from config(?:\.(\w+)\S*)? import (\w+)", path.read_text(), re.M)
        for name in [line[0] or line[1]]
    }
    assert "metrics" in imported
    copied = set(re.findall(r"config/(\w+)", (ROOT / "airflow/Dockerfile").read_text()))
    assert imported - copied == set()
