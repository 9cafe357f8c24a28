"""`./fraud help` and `./fraud bench`: what is listed, and what is run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fraud_launcher import benchmarks, load_test
from fraud_launcher import commands as launch
from fraud_launcher.bootstrap import AIRFLOW, Environment, PackageSet

ROOT = Path(__file__).resolve().parents[2]


def test_each_line_of_the_help_shows_a_command_apart_from_its_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert launch.main(["help"]) == 0
    shown = dict(re.findall(r"^  (\S+)  +(\S.*)$", capsys.readouterr().out, re.MULTILINE))
    assert shown == launch.HELP


@pytest.mark.parametrize("buffered", ["", "1"])
def test_help_of_which_only_the_beginning_is_read_ends_quietly(buffered: str) -> None:
    command = [sys.executable, str(ROOT / "services" / "launcher"), "help"]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(
            command,
            stdout=closed,
            stderr=subprocess.PIPE,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": buffered},
        )
    assert (done.returncode, done.stderr) == (0, b"")


def test_every_command_of_the_help_is_a_target_of_make() -> None:
    targets = set(re.findall(r"^TARGETS \S?= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    # These two take a command line of their own.
    assert set(" ".join(targets).split()) == launch.HELP.keys() - {"exec", "airflow"}


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_airflow_s_own_makefile_has_its_commands_and_each_is_one_of_ours() -> None:
    targets = ["build", "up", "logs", "unpause"]
    command = ["make", "--no-print-directory", "-C", str(ROOT / "airflow"), "-n", *targets]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [program for program, *_ in lines] == ["../fraud"] * len(targets)
    assert [name for _, name, *_ in lines] == targets
    assert lines[0][2:] == ["airflow"]
    services = yaml.safe_load((ROOT / "docker-compose.local.yml").read_text())["services"]
    assert set(lines[2][2:]) <= services.keys()


def test_a_benchmark_runs_with_the_packages_of_the_tests(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    groups = []

    def environment(group: str, say: object, home: PackageSet = AIRFLOW) -> Environment:
        groups.append(group)
        return Environment(Path(sys.executable), {})

    monkeypatch.setattr(launch, "environment", environment)
    assert launch.main(["bench", "store", "--help"]) == 0
    assert groups == ["test"]
    assert "--rows" in capfd.readouterr().out


def test_quick_without_a_name_runs_those_with_a_floor(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch, "environment", lambda *_: Environment(Path(sys.executable), {}))
    assert launch.main(["bench", "--quick", "--help"]) == 0
    assert "--json FILE" in capfd.readouterr().out


def test_the_load_test_of_the_running_demo_is_run_with_its_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    groups: list[str] = []
    run: list[str] = []

    def environment(group: str, _say: object) -> Environment:
        groups.append(group)
        return Environment(Path("python"), {})

    monkeypatch.setattr(launch, "environment", environment)
    monkeypatch.setattr(load_test, "variables", lambda *_: None)

    def python(_here: Environment, words: list[str]) -> int:
        run.extend(words)
        return 0

    monkeypatch.setattr(launch, "_run_python", python)
    assert launch.main(["load", "--headless", "--users", "50"]) == 0
    assert groups == ["load", "demo"]
    assert run[:7] == ["-m", "fraud_embedded", "exec", "--role", "streaming", "--", "python"]
    assert run[7:9] == ["-m", "locust"]
    assert run[-3:] == ["--headless", "--users", "50"]


def test_without_a_name_or_with_a_wrong_one_the_benchmarks_are_listed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = benchmarks.names()
    assert {"stream", "latency", "dags"} <= known.keys()
    assert "floor" not in known
    assert launch.main(["bench"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in known)
    assert launch.main(["bench", "speed"]) == 2
    refused = capsys.readouterr().err
    assert "There is no benchmark 'speed'" in refused
    assert all(f"  {name} " in refused for name in known)


def test_every_benchmark_that_a_document_names_is_there() -> None:
    texts = [
        path.read_text()
        for folder, pattern in (("docs", "**/*.md"), ("tests/benchmarks", "*.py"))
        for path in (ROOT / folder).glob(pattern)
    ]
    named = {name for text in texts for name in re.findall(r"\./fraud bench ([a-z_]+)", text)}
    assert named == benchmarks.names().keys()
    assert not [text for text in texts if re.search(r"python \S*benchmarks/", text)]
