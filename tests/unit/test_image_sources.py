"""What an image is built from: its packages, how it starts, how it is asked for its health."""

import ast
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from config.services import groups
from fraud_mlflow.__main__ import USERS_FILE
from services.collect_sources import ROOT, collect, projects

ENTRYPOINT = ROOT / "services" / "entrypoint.sh"
IMAGES = [name for name in groups() if name not in {"demo", "test", "browser", "load"}]


@pytest.mark.parametrize("service", IMAGES)
def test_an_image_holds_every_package_of_ours_that_its_code_imports(service: str, tmp_path: Path) -> None:
    held = set(collect(service, tmp_path))
    assert _imported(tmp_path) <= held
    assert not list(tmp_path.rglob("pyproject.toml"))


def test_an_image_holds_no_package_of_another_service(tmp_path: Path) -> None:
    assert set(collect("api", tmp_path)) == {"config", "fraud_adapters", "fraud_api", "fraud_core"}
    assert (tmp_path / "config" / "contracts" / "creditcard.yaml").exists()


def test_the_image_of_mlflow_holds_what_its_server_finds_our_application_by(tmp_path: Path) -> None:
    collect("mlflow", tmp_path)
    assert list((tmp_path / "fraud_mlflow" / "plugin").glob("*.dist-info/entry_points.txt"))
    assert (tmp_path / "fraud_mlflow" / USERS_FILE.name).exists()


def test_what_depends_on_what_is_read_from_the_projects(tmp_path: Path) -> None:
    _project(tmp_path / "a", ["lib-b[x]>=1"], {"lib-b": "../b", "lib-unused": "../c"})
    _project(tmp_path / "b", [], {})
    assert projects(["a"], tmp_path) == [tmp_path / "a", tmp_path / "b"]


def _project(folder: Path, dependencies: list[str], sources: dict[str, str]) -> None:
    folder.mkdir()
    lines = [f'{name} = {{ path = "{path}" }}' for name, path in sources.items()]
    text = f"[project]\ndependencies = {dependencies}\n[tool.uv.sources]\n" + "\n".join(lines)
    (folder / "pyproject.toml").write_text(text)


def _imported(folder: Path) -> set[str]:
    """Names of our own packages that the code below a folder imports."""
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return {name for name in names if name == "config" or name.startswith("fraud_")}


def _start(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(ENTRYPOINT), *command],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_becomes_the_process_itself() -> None:
    done = _start(["sh", "-c", "exit 99"])
    assert (done.returncode, done.stdout, done.stderr) == (99, "", "")


def test_production_refuses_default_secrets_by_name_and_never_by_value() -> None:
    secrets = {"DB_PASSWORD": "change-me-owner", "API_KEYS": "a:change-me-1\nb:c", "LOG_LEVEL": "INFO"}
    done = _start(["true"], APP_ENV="production", **secrets)
    assert done.returncode == 2
    assert "API_KEYS DB_PASSWORD" in done.stderr
    assert "change-me" not in done.stderr and "LOG_LEVEL" not in done.stderr
    assert _start(["true"], APP_ENV="development", **secrets).returncode == 0


def test_a_secret_that_is_not_there_stops_the_start() -> None:
    done = _start(["true"], DB_PASSWORD_FILE="/run/secrets/there-is-none")
    assert done.returncode == 2
    assert "DB_PASSWORD_FILE" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_secret_given_twice_stops_the_start() -> None:
    done = _start(["true"], DB_PASSWORD="s3cret", DB_PASSWORD_FILE="/run/secrets/db")
    assert done.returncode == 2
    assert "DB_PASSWORD and DB_PASSWORD_FILE" in done.stderr and "s3cret" not in done.stderr


def test_a_file_that_is_no_secret_is_left_alone() -> None:
    done = _start(["sh", "-c", 'echo "${LOG-unset}"'], LOG_FILE="/var/log/there-is-none")
    assert (done.returncode, done.stdout) == (0, "unset\n")


@pytest.fixture
def server() -> Iterator[str]:
    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 503)
            self.end_headers()

        def log_request(self, *_arguments: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Pages) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def _healthy(url: str) -> bool:
    command = [sys.executable, "-I", str(ROOT / "services" / "health.py")]
    environment = {"PATH": os.environ["PATH"], "HEALTH_URL": url}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.returncode == 0


def test_a_server_is_healthy_while_it_answers_well(server: str) -> None:
    assert _healthy(f"{server}/health")
    assert not _healthy(f"{server}/other")
    assert not _healthy("http://127.0.0.1:1/health")
    assert not _healthy("")
