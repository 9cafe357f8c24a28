"""Airflow from its own environment, with a metadata database and DAGs of the tests' own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.api_server import ROOT

DAGS: Final = ROOT / "tests" / "integration" / "airflow_dags"


def airflow_python() -> Path:
    """The Python of Airflow's environment; the test is skipped if it was not created."""
    path = Path(os.environ.get("AIRFLOW_PYTHON") or ROOT / ".venv-airflow" / "bin" / "python")
    if not path.exists():
        pytest.skip(f"Airflow's environment is not there: {path}")
    return path


@dataclass
class AirflowInstallation:
    """Commands of Airflow in a home of its own; nothing of the caller's environment but the path."""

    home: Path
    python: Path
    extra: dict[str, str] = field(default_factory=dict)

    def connect(self, conn_id: str, **fields: Any) -> None:
        """Set a connection, as its JSON form in the environment."""
        self.extra[f"AIRFLOW_CONN_{conn_id.upper()}"] = json.dumps(fields)

    def copy_metadata(self, target: AirflowInstallation) -> None:
        """Copy the database of another installation, instead of migrating a new one."""
        shutil.copy(target.home / "airflow.db", self.home)

    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.python.parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.home),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "airflow" / "plugins")]),
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
            "AIRFLOW__CORE__UNIT_TEST_MODE": "false",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home}/airflow.db",
            **self.extra,
        }

    def run(self, *arguments: str, check: bool = True) -> str:
        """Run `airflow …`; returns its stdout and stderr."""
        return self._python(["-m", "airflow", *arguments], check)

    def python_file(self, name: str) -> str:
        """Run one of the DAG files as a program; returns its stdout and stderr."""
        return self._python([str(DAGS / name)], check=True)

    def _python(self, arguments: list[str], check: bool) -> str:
        done = subprocess.run(
            [str(self.python), *arguments],
            env=self.environment(),
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=400,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout[-6000:]
        return done.stdout
