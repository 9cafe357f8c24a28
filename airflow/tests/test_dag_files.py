"""What a DAG file does when it is read: it is read for every task anew, so it may do nothing but wire."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[1]
FILES = sorted((FOLDER / "dags").rglob("*.py"))
EACH = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
SECRETS = {
    name: f"geheim-{number}-geheim"
    for number, name in enumerate(
        (
            "DATABASE_URL",
            "DATABASE_URL_PRODUCER",
            "DATABASE_URL_STREAMING",
            "DATABASE_URL_TRAINER",
            "DATABASE_URL_MONITOR",
            "DATABASE_URL_ROLLOUT",
            "DATABASE_URL_FEEDBACK",
            "API_CLIENT_SECRET",
            "API_CLIENT_SECRET_STREAMING",
            "API_CLIENT_SECRET_ROLLOUT",
            "RUNS_AWS_ACCESS_KEY_ID",
            "RUNS_AWS_SECRET_ACCESS_KEY",
            "MLFLOW_TRACKING_PASSWORD",
            "MLFLOW_TRAINER_PASSWORD",
            "MLFLOW_MONITOR_PASSWORD",
            "MLFLOW_ROLLOUT_PASSWORD",
            "SMTP_PASSWORD",
            "SLACK_WEBHOOK_URL",
        )
    )
}
# What our own modules may import while a DAG file is read; the rest is imported where it is used.
# What forks tasks has loaded Airflow's provider for Docker, and so Docker's SDK.
CHEAP = {"airflow", "config", "docker", "fraud_airflow", "hooks", "operators"} | (
    sys.stdlib_module_names - {"asyncio", "email", "http", "smtplib", "socket", "sqlite3", "ssl", "xmlrpc"}
)
# Reads each file in a fork of its own, as a task does, in which nothing can be opened, sent or started.
PROBE = """
import builtins, json, os, runpy, sys
import airflow.providers.docker.operators.docker
from airflow.sdk import DAG, BaseHook, BaseOperator, Connection, Variable
from airflow.sdk.definitions._internal.contextmanager import DagContext
from airflow.serialization.serialized_objects import DagSerialization

FORBIDDEN = {"socket.__new__", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system",
             "os.exec", "os.posix_spawn", "os.mkdir", "os.remove", "os.rename", "sqlite3.connect"}

def forbid(event, arguments):
    if event in FORBIDDEN:
        raise PermissionError(event)
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        mode, flags = arguments[1] or "", arguments[2] or 0
        if set(mode) & set("wxa+") or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise PermissionError(f"open {arguments[0]} to write")

def refuse(*given, **named):
    raise PermissionError("a Variable or Connection is asked for")

def read(path):
    imported, import_as_usual = set(), builtins.__import__

    def watched(name, scope=None, *rest, **more):
        if str((scope or {}).get("__file__", path if scope else "")).startswith(sys.argv[1]):
            imported.add(name)
        return import_as_usual(name, scope, *rest, **more)

    for kind in (Variable, Connection, BaseHook):
        for name in {"get", "set", "delete", "get_connection"} & set(dir(kind)):
            setattr(kind, name, refuse)
    before = set(sys.modules)
    builtins.__import__ = watched
    sys.addaudithook(forbid)
    try:
        DagContext.current_autoregister_module_name = "the_file"
        runpy.run_path(path, run_name="the_file")
        loaded = sorted({name.partition(".")[0] for name in set(sys.modules) - before})
        dags = [dag for dag, _ in DagContext.autoregistered_dags]
        text = [DagSerialization.to_dict(dag) for dag in dags]
    except BaseException as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"dags": len(dags), "serialised": repr(text), "imported": sorted(imported), "loaded": loaded}

for path in sys.argv[2:]:
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, json.dumps(read(path)).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answer:
        print("ANSWER" + json.dumps([path, json.load(answer)]), flush=True)
    os.wait()
"""


def probe(root: Path, paths: list[Path]) -> dict[Path, dict[str, Any]]:
    """What became of each file; modules below `root` are watched."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", PROBE, str(root), *map(str, paths)],
        env={
            **os.environ,
            **SECRETS,
            "PYTHONPATH": os.pathsep.join([str(FOLDER.parent), str(FOLDER / "plugins")]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line[6:] for line in done.stdout.splitlines() if line.startswith("ANSWER")]
    return {Path(path): found for path, found in map(json.loads, lines)}


@pytest.fixture(scope="module")
def probed() -> dict[Path, dict[str, Any]]:
    return probe(FOLDER, FILES)


@EACH
def test_nothing_is_opened_sent_or_asked_when_a_file_is_read(
    probed: dict[Path, dict[str, Any]], path: Path
) -> None:
    assert "error" not in probed[path], probed[path]
    assert probed[path]["dags"] == 1


@EACH
def test_only_what_is_cheap_is_imported(probed: dict[Path, dict[str, Any]], path: Path) -> None:
    imported = {name.partition(".")[0] for name in probed[path]["imported"]}
    assert "airflow" in imported
    assert imported <= CHEAP
    # croniter and packaging are Airflow's, for schedules and its Python operator; asgiref is for the operator
    # that triggers a DAG.
    allowed = CHEAP | {"croniter", "packaging", "dateutil", "pytz", "asgiref"}
    assert set(probed[path]["loaded"]) <= allowed


@EACH
def test_no_secret_of_the_environment_goes_into_a_dag(probed: dict[Path, dict[str, Any]], path: Path) -> None:
    text = probed[path]["serialised"]
    assert path.stem in text
    assert not [name for name, value in SECRETS.items() if value in text]


WRONG = {
    "open('/tmp/never-written', 'w')": "to write",
    "import socket; socket.create_connection(('127.0.0.1', 9))": "socket.",
    "import subprocess; subprocess.run(['true'])": "subprocess.Popen",
    "import os; os.system('true')": "os.system",
    "from airflow.sdk import Variable; Variable.get('x')": "a Variable",
    "from airflow.sdk import BaseHook; BaseHook.get_connection('x')": "a Variable or Connection",
}


def test_what_a_dag_file_must_not_do_is_noticed(tmp_path: Path) -> None:
    files = {}
    for number, line in enumerate(WRONG):
        files[line] = tmp_path / f"wrong_{number}.py"
        files[line].write_text(
            f"{line}\nfrom airflow.sdk import DAG\nwith DAG('d'): pass\n", encoding="utf-8"
        )
    costly, leaky = tmp_path / "costly.py", tmp_path / "leaky.py"
    costly.write_text("import httpx\nfrom airflow.sdk import DAG\nwith DAG('d'): pass\n", encoding="utf-8")
    described = "with DAG('d', description=os.environ['DATABASE_URL']): pass\n"
    leaky.write_text(f"import os\nfrom airflow.sdk import DAG\n{described}", encoding="utf-8")
    found = probe(tmp_path, [*files.values(), costly, leaky])
    for line, part in WRONG.items():
        assert part in found[files[line]].get("error", ""), line
    assert "httpx" in found[costly]["imported"]
    assert SECRETS["DATABASE_URL"] in found[leaky]["serialised"]


@EACH
def test_a_file_only_wires(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.If)
    assert not [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
