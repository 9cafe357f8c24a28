"""`./fraud doctor`: the machine's checks are each seen to fail, and what the command prints."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jsonschema_rs
import pytest

from fraud_adapters.preflight.together import TimedOut, run_together
from fraud_embedded.doctor.examination import Check, examine
from fraud_embedded.doctor.listeners import ports_of_family
from fraud_embedded.doctor.ports import check_ports
from fraud_embedded.doctor.target import Target, compose_ports
from fraud_embedded.doctor.versions import check_packages, pins
from fraud_embedded.processes.ports import is_free
from fraud_launcher import bootstrap, dotenv, machine_checks
from fraud_launcher import commands as launch
from fraud_launcher.findings import Finding, Problem, State, document, has_problem, render

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "docs" / "doctor.schema.json").read_text(encoding="utf-8"))
NOWHERE = Target("demo", True, {}, {"postgres": 1, "kafka": 1})


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server


def port_of(server: socket.socket) -> int:
    return int(server.getsockname()[1])


def test_checks_run_side_by_side_and_one_that_hangs_is_a_failure(listener: socket.socket) -> None:
    def hang() -> str:
        with socket.create_connection(listener.getsockname()) as connection:
            return connection.recv(1).decode()

    def fail() -> str:
        raise ValueError("wrong")

    started = time.monotonic()
    outcomes = run_together({"hangs": hang, "too": hang, "works": lambda: "fine", "fails": fail}, 0.4)
    assert time.monotonic() - started < 5  # not the sum of what they take, nor for ever
    assert outcomes["works"] == "fine"
    assert isinstance(outcomes["hangs"], TimedOut)
    assert isinstance(outcomes["too"], TimedOut)
    assert str(outcomes["fails"]) == "wrong"


def test_every_outcome_becomes_a_finding_with_a_fix(listener: socket.socket) -> None:
    def refuse() -> str:
        raise Problem("The password is wrong.", "Restore DB_PASSWORD.")

    def closed() -> str:
        raise ConnectionRefusedError

    skipped = (State.NOT_RUNNING, "Not started.")
    findings = examine(
        [
            Check("postgres", "log-ins", lambda: "Fine."),
            Check("postgres", "rights", refuse),
            Check("kafka", "broker", closed),
            Check("kafka", "topics", lambda: str(listener.accept())),
            Check("mlflow", "health", lambda: "", skipped),
        ],
        NOWHERE,
        0.3,
    )
    assert [finding.state for finding in findings] == ["ok", "problem", "problem", "problem", "not running"]
    assert findings[1] == Finding(
        "postgres", "rights", State.PROBLEM, "The password is wrong.", "Restore DB_PASSWORD."
    )
    assert "on port 1 does not answer (ConnectionRefusedError)" in findings[2].detail
    assert "demo-logs broker" in findings[2].fix
    assert "did not answer within 0.3 s" in findings[3].detail
    jsonschema_rs.validate(SCHEMA, document("demo", True, findings, 0.3))


def test_the_table_has_a_line_for_each_check_and_counts_the_problems() -> None:
    findings = [
        Finding("machine", "python", State.OK, "Python 3.13."),
        Finding("machine", "disk", State.PROBLEM, "5 MiB are free.", "Free some."),
    ]
    lines = render(findings, 100).splitlines()
    assert lines[0].split(maxsplit=3)[:3] == ["machine:", "python", "ok"]
    assert lines[1].endswith("5 MiB are free. Fix: Free some.")
    assert lines[-1] == "1 problem found."
    assert has_problem(findings)
    assert max(map(len, render(findings * 3, 60).splitlines())) <= 90
    assert render([findings[0]]).endswith("No problem found.")


@pytest.mark.parametrize("version", [(3, 10), (3, 15), (2, 7)])
def test_a_wrong_python_is_named(version: tuple[int, int]) -> None:
    with pytest.raises(Problem, match=rf"Python is {version[0]}\.{version[1]}") as found:
        machine_checks.python(version)
    assert "PYTHON" in found.value.fix
    assert machine_checks.python().startswith("Python 3.")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(full)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.decode().strip()}")
    try:
        (full / "data").write_bytes(bytes(5 * 2**20))
        with pytest.raises(Problem, match=rf"3 MiB are free on the disk of {full}, 500 MiB") as found:
            machine_checks.disk(full, installed=True, running=True)
        assert str(full) in found.value.fix
    finally:
        subprocess.run(["umount", str(full)], check=True)


def test_too_little_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks, "available_memory_mib", lambda: 100)
    with pytest.raises(Problem, match="100 MiB of memory are available, 3000 MiB are needed"):
        machine_checks.memory(running=False)
    assert machine_checks.memory(running=True)


def installed(folder: Path, **versions: str) -> Path:
    for name, version in versions.items():
        metadata = folder / f"{name}-{version}.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return folder


def test_a_package_of_another_version_is_named(tmp_path: Path) -> None:
    lock = tmp_path / "demo.txt"
    lock.write_text(
        "# made by uv\nnum_py==2.1.0 \\\n    --hash=sha256:00\nother[extra]==3.0\n"
        "windows==1.0 ; sys_platform == 'win32' \\\n    --hash=sha256:11\n"
    )
    assert pins(lock.read_text()) == {"num-py": "2.1.0", "other": "3.0"}
    right = installed(tmp_path / "right", num_py="2.1.0", other="3.0", more="9")
    assert "2 packages" in check_packages(lock, right)
    wrong = installed(tmp_path / "wrong", num_py="2.0.0")
    with pytest.raises(
        Problem, match=r"num-py is 2\.0\.0 instead of 2\.1\.0, other is missing instead of 3\.0"
    ):
        check_packages(lock, wrong)


def test_the_packages_of_this_run_are_the_locked_ones() -> None:
    assert len(pins((ROOT / "requirements" / "demo.txt").read_text())) > 100


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a complete `.env` of random secrets."""
    shutil.copy(ROOT / ".env.example", tmp_path / ".env.example")
    dotenv.ensure(tmp_path / ".env", tmp_path / ".env.example")
    return tmp_path


def edit(project: Path, before: str, after: str) -> None:
    file = project / ".env"
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


def test_a_complete_env_file_is_fine(project: Path) -> None:
    assert "no secret is a default" in machine_checks.variables(project, {})


def test_a_missing_variable_is_named(project: Path) -> None:
    edit(project, "DB_PASSWORD_API=", "SOMETHING_ELSE=")
    with pytest.raises(Problem, match=r"DB_PASSWORD_API is not set in \.env") as found:
        machine_checks.variables(project, {})
    assert "DB_PASSWORD_API" in found.value.fix


def test_a_default_secret_in_production_is_named(project: Path) -> None:
    secret = dotenv.read(project / ".env")["REDIS_PASSWORD"]
    edit(project, secret, "change-me-redis")
    assert "1 secrets have development defaults" in machine_checks.variables(project, {})
    with pytest.raises(Problem, match="APP_ENV is production, and REDIS_PASSWORD still has"):
        machine_checks.variables(project, {"APP_ENV": "production"})


def test_a_wrong_line_and_an_open_file_are_named(project: Path) -> None:
    (project / ".env").chmod(0o644)
    with pytest.raises(Problem, match=r"can be read by others \(mode 644\)"):
        machine_checks.variables(project, {})
    edit(project, "REDIS_PASSWORD=", "REDIS_PASSWORD='")
    with pytest.raises(Problem, match=r"REDIS_PASSWORD in \.env: the single quotes do not end"):
        machine_checks.variables(project, {})


def test_a_taken_port_is_named_unless_the_platform_holds_it(listener: socket.socket) -> None:
    port = port_of(listener)
    demo = Target("demo", True, {}, {"postgres": port})
    with pytest.raises(Problem, match=rf"Another program holds port {port} \(postgres\)") as found:
        check_ports(demo, is_free)
    assert "PORT_OFFSET" in found.value.fix
    with pytest.raises(Problem) as found:
        check_ports(Target("compose", False, {}, demo.ports), is_free)
    assert "PUBLISH_" in found.value.fix
    held = ports_of_family(os.getpid())
    assert port in held
    assert "the platform's own" in check_ports(demo, is_free, held)


def test_a_child_s_port_belongs_to_the_family() -> None:
    program = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); "
        "print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        assert port in ports_of_family(os.getpid())
        assert port in ports_of_family(child.pid)
        child.kill()


def test_compose_s_ports_are_those_that_the_file_publishes() -> None:
    text = (ROOT / "docker-compose.local.yml").read_text(encoding="utf-8")
    for name, port in compose_ports({}).items():
        assert f"PUBLISH_{name.upper()}:-{port}" in text
    assert compose_ports({"PUBLISH_API": "8100"})["api"] == 8100


def test_before_anything_is_installed_the_machine_alone_is_examined(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = bootstrap.PackageSet(
        locks=ROOT / "requirements", venv=tmp_path / ".venv", target=tmp_path / "site-packages", sources=()
    )
    monkeypatch.setattr(
        launch, "installed_environment", lambda group: bootstrap.installed_environment(group, nothing)
    )
    monkeypatch.setattr(launch, "ROOT", tmp_path)
    code = launch.main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    jsonschema_rs.validate(SCHEMA, found)
    states = {one["check"]: one["state"] for one in found["checks"]}
    assert (states["python"], states["packages"], states["variables"]) == ("ok", "not running", "not running")
    assert code == (0 if found["ok"] else 1)
    assert not (tmp_path / ".venv").exists()
    with pytest.raises(SystemExit) as ended:
        launch.main(["doctor", "--help"])
    assert ended.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_for_compose_the_packages_of_the_examination_are_installed_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The machine's part alone would look as if the platform were well."""
    groups: list[str] = []
    executed: list[list[str]] = []

    def environment(group: str, _report: object) -> bootstrap.Environment:
        groups.append(group)
        return bootstrap.Environment(Path("python"), {})

    monkeypatch.setattr(launch, "installed_environment", lambda _group: None)
    monkeypatch.setattr(launch, "environment", environment)
    monkeypatch.setattr(launch, "_exec_python", lambda _python, words: executed.append(words))
    assert launch.main(["doctor", "--json", "--target", "compose"]) == 0
    assert groups == ["demo"]
    assert executed == [["-m", "fraud_embedded.doctor", "--json", "--target", "compose"]]


def test_the_whole_examination_matches_its_schema() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fraud_embedded.doctor", "--json", "--target", "demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    found = json.loads(done.stdout)
    jsonschema_rs.validate(SCHEMA, found)
    assert done.returncode == (0 if found["ok"] else 1)
    parts = {one["part"] for one in found["checks"]}
    assert parts == {"machine", "postgres", "kafka", "object store", "mlflow", "api", "airflow", "docker"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"checks": []},
        {"ok": "yes"},
        {"target": "cloud"},
        {"checks": [{"part": "api", "check": "ready", "state": "problem", "detail": "x", "fix": ""}]},
    ],
)
def test_the_schema_refuses_another_document(wrong: dict[str, object]) -> None:
    right = document("demo", False, [Finding("api", "ready", State.OK, "x")], 1.0)
    jsonschema_rs.validate(SCHEMA, right)
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(SCHEMA, right | wrong)
