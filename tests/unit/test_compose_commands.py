"""`./fraud up` and its like: what is refused before Compose is called, and what Compose is called with."""

import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fraud_embedded import addresses
from fraud_embedded.addresses import Addresses
from fraud_launcher import compose, paths
from fraud_launcher.bootstrap import LauncherError
from fraud_launcher.compose import Port, build_environment, refuse_taken
from fraud_launcher.dotenv import parse

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = "compose --file docker-compose.local.yml --env-file .env"
API = {"image": "fraud-detection/api:local", "build": {"context": "."}}
# Records its arguments, and answers as Docker does.
DOCKER = """#!/bin/sh
case "$*" in
    "compose version --short") echo "${FAKE_VERSION-2.40.3}"; exit "${FAKE_COMPOSE:-0}" ;;
    "version --format"*) [ -z "${FAKE_DAEMON:-}" ] || { echo "$FAKE_DAEMON" >&2; exit 1; }; echo 28.0 ;;
    *"config --format json"|*"config --no-interpolate --format json") cat config.json ;;
    *"ps --format json") cat ps.json ;;
    "ps --quiet"*) echo "${FAKE_RUNNING:-}" ;;
    *import-chargebacks*) echo "$*" >> calls; cat > standard-input ;;
    *) echo "$*" >> calls; env >> environment ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own, where Docker is a script."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "docker").write_text(DOCKER)
    (programs / "docker").chmod(0o755)
    monkeypatch.delenv("COMPOSE_ENV_FILES", raising=False)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.delenv("CA_BUNDLE", raising=False)
    monkeypatch.setattr(compose, "ROOT", tmp_path)
    monkeypatch.setattr(compose, "HOST_CERTIFICATES", tmp_path / "certificates.crt")
    (tmp_path / ".env.example").write_text((ROOT / ".env.example").read_text())
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "4.5"\n')
    (tmp_path / "config.json").write_text(json.dumps({"services": {"api": API}}))
    (tmp_path / "ps.json").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def publish(project: Path, port: int) -> None:
    ports = [{"host_ip": "127.0.0.1", "published": str(port), "target": 5432}]
    services = {"postgres": {"ports": ports}, "history": {"ports": [{"target": 1}]}, "topics": {}}
    (project / "config.json").write_text(json.dumps({"services": services}))


def calls(project: Path) -> str:
    return (project / "calls").read_text()


def test_the_first_start_writes_private_secrets_and_calls_compose(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POSTGRES_PASSWORD", "of another project")
    monkeypatch.setenv("APP_ENV", "testing")
    (project / "certificates.crt").write_text("bundle")
    assert compose.run("up", []) == 0
    env_file = project / ".env"
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
    assert "change-me" not in "".join(parse(env_file.read_text()).values())
    assert calls(project) == f"{COMPOSE} up --detach\n"
    environment = (project / "environment").read_text()
    assert f"CA_BUNDLE={project / 'certificates.crt'}\n" in environment
    assert "APP_ENV=testing\n" in environment
    assert "of another project" not in environment
    assert "every generated secret is random" in capsys.readouterr().err
    secrets = env_file.read_text()
    assert compose.run("up", ["--build"]) == 0
    assert calls(project).endswith("up --detach --build\n")
    assert env_file.read_text() == secrets


def test_a_bundle_of_certificates_that_is_not_there_stops_a_build(project: Path) -> None:
    compose.run("build", [])
    with (project / ".env").open("a") as file:
        file.write("CA_BUNDLE=none.pem\n")
    (project / "calls").unlink()
    for command in ("build", "up"):
        with pytest.raises(LauncherError, match=r"CA_BUNDLE names .*none\.pem"):
            compose.run(command, [])
    assert not (project / "calls").exists()


def test_offline_images_come_from_their_own_file(project: Path) -> None:
    with pytest.raises(LauncherError, match="make images-offline"):
        compose.run("up", ["--offline"])
    (project / "images").mkdir()
    (project / "images" / "offline.env").write_text("POSTGRES_IMAGE=x\n")
    compose.run("build", ["--offline", "api"])
    assert calls(project) == f"{COMPOSE} --env-file images/offline.env build api\n"


def test_a_port_of_somebody_else_stops_the_start_before_anything_is_done(
    project: Path, listener: int
) -> None:
    publish(project, listener)
    with pytest.raises(
        LauncherError, match=rf"port {listener} \(postgres\).*stop what listens there.*PUBLISH_"
    ):
        compose.run("up", [])
    assert not (project / "calls").exists()


@pytest.mark.parametrize("as_list", [True, False])
def test_a_port_of_our_own_containers_is_no_clash(project: Path, listener: int, as_list: bool) -> None:
    publish(project, listener)
    entries = [
        {"Service": "postgres", "Publishers": [{"PublishedPort": listener}, {"PublishedPort": 0}]},
        {"Service": "history", "Publishers": None},
    ]
    text = json.dumps(entries) if as_list else "\n".join(map(json.dumps, entries))
    (project / "ps.json").write_text(text)
    assert compose.run("up", []) == 0


@pytest.fixture
def local() -> Iterator[Path]:
    """A path short enough for a socket below it."""
    with tempfile.TemporaryDirectory(prefix="fraud-") as folder:
        yield Path(folder)


def test_a_port_of_the_embedded_platform_is_named_with_what_frees_it(local: Path) -> None:
    paths.run_directory(local).mkdir()
    addresses.keep(paths.state_file(local), Addresses(100))
    published = [Port("postgres", "127.0.0.1", 5532), Port("grafana", "127.0.0.1", 3000)]

    def refused() -> str:
        with pytest.raises(LauncherError) as caught:
            refuse_taken(published, set(), local, lambda port: port.number == 5532)
        return str(caught.value)

    assert "demo-down" not in refused()
    with socket.socket(socket.AF_UNIX) as supervisor:
        supervisor.bind(str(paths.supervisor_socket(local)))
        supervisor.listen()
        assert "port 5532 (postgres)" in refused()
        assert "`make demo-down`" in refused()
        refuse_taken(published, set(), local, lambda port: False)
        refuse_taken(published, {5532}, local, lambda port: port.number == 5532)


def test_what_is_missing_is_said_in_a_sentence(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_DAEMON", "permission denied")
    with pytest.raises(LauncherError, match=r"daemon does not answer.*permission denied"):
        compose.run("up", [])
    monkeypatch.setenv("FAKE_VERSION", "2.20.1")
    with pytest.raises(LauncherError, match=r"2\.20\.1, and 2\.24 or later"):
        compose.run("up", [])
    monkeypatch.setenv("FAKE_COMPOSE", "1")
    with pytest.raises(LauncherError, match="no Compose v2"):
        compose.run("up", [])
    monkeypatch.setenv("PATH", str(project))
    with pytest.raises(LauncherError, match="no docker"):
        compose.run("up", [])


def test_a_bad_env_file_and_none_at_all(project: Path) -> None:
    with pytest.raises(LauncherError, match=r"no \.env.*make up"):
        compose.run("down", [])
    (project / ".env").write_text("DB_PASSWORD=pa$word\n")
    with pytest.raises(LauncherError, match=r"DB_PASSWORD in \.env"):
        compose.run("up", [])


@pytest.mark.parametrize(
    ("arguments", "called"),
    [
        (["down"], "down"),
        (["down", "-v"], "down --volumes"),
        (["ps"], "ps"),
        (["ps", "-a"], "ps --all"),
        (["logs", "api"], "logs --tail 100 api"),
        (["logs", "-f"], "logs --follow"),
    ],
)
def test_the_others_reach_services_of_every_profile(project: Path, arguments: list[str], called: str) -> None:
    (project / ".env").write_text("")
    assert compose.run(arguments[0], arguments[1:]) == 0
    assert calls(project) == f"{COMPOSE} --profile * {called}\n"


def test_a_bundle_of_ones_own_is_kept(tmp_path: Path) -> None:
    host = tmp_path / "host.crt"
    assert build_environment({}, {}, host) == {}
    host.write_text("bundle")
    assert build_environment({}, {}, host) == {"CA_BUNDLE": str(host)}
    assert build_environment({"CA_BUNDLE": "mine"}, {}, host) == {"CA_BUNDLE": "mine"}
    assert build_environment({}, {"CA_BUNDLE": "mine"}, host) == {}


def test_commands_of_both_ways_go_to_the_containers_where_those_run(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not compose.runs_in_container("unpause")
    monkeypatch.setenv("FAKE_RUNNING", "0123456789ab")
    assert compose.runs_in_container("unpause")
    assert not compose.runs_in_container("demo-status")
    assert compose.run_in_container("unpause", []) == 0
    assert calls(project).startswith("exec fraud-airflow-scheduler airflow dags unpause --yes")
    local = project / ".local"
    paths.run_directory(local).mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as supervisor:
        supervisor.bind(str(paths.supervisor_socket(local)))
        supervisor.listen()
        assert not compose.runs_in_container("unpause")


def test_a_command_of_the_producer_runs_in_a_container_of_its_own(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / ".env").write_text("")
    assert not compose.runs_in_container("drift")
    monkeypatch.setenv("FAKE_RUNNING", "0123456789ab")
    assert compose.runs_in_container("drift")
    assert compose.run_in_container("drift", ["amount-scale=1.5"]) == 0
    one_off = "--profile * run --rm --no-deps --no-TTY producer"
    assert calls(project).endswith(f"{one_off} python -m fraud_producer drift amount-scale=1.5\n")


def test_a_container_reads_a_file_of_chargebacks_as_standard_input(project: Path) -> None:
    (project / ".env").write_text("")
    (project / "reports.csv").write_text("transaction_id,label,reported_at\n")
    assert compose.run_in_container("chargebacks", ["--run-id=r", "reports.csv"]) == 0
    assert calls(project).endswith(
        "--no-TTY feedback python -m fraud_feedback import-chargebacks --run-id=r -\n"
    )
    assert (project / "standard-input").read_text() == "transaction_id,label,reported_at\n"
    with pytest.raises(LauncherError, match=r"missing\.csv cannot be read: No such file or directory"):
        compose.run_in_container("chargebacks", ["missing.csv"])


def test_files_that_somebody_names_are_used_instead_of_ours(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPOSE_ENV_FILES", "/elsewhere/a,/elsewhere/b")
    assert compose.run("build", []) == 0
    assert calls(project).endswith("--env-file /elsewhere/a --env-file /elsewhere/b build\n")
    assert not (project / ".env").exists()


def test_it_needs_the_standard_library_alone() -> None:
    command = [sys.executable, "-E", "-S", str(ROOT / "services" / "launcher"), "help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "start the platform on Docker Compose" in done.stdout
