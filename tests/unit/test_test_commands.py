"""How `./fraud test` shares the tests out: what runs beside what, and on which worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraud_launcher import commands as launch
from fraud_launcher.bootstrap import PLATFORM, Environment, PackageSet
from tests.conftest import SHARED, scope

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("group", sorted(set(SHARED.values())))
def test_one_worker_runs_all_files_that_need_a_large_server(group: str) -> None:
    fixtures = [fixture for fixture, name in SHARED.items() if name == group]
    files = ROOT.glob("tests/integration/test_*.py")
    naming = [path for path in files if any(fixture in path.read_text() for fixture in fixtures)]
    assert len(naming) > 1
    assert {scope(ROOT, str(path.relative_to(ROOT))) for path in naming} == {group}


def test_every_other_file_goes_where_a_worker_is_free_but_one_airflow_is_enough() -> None:
    alone = ("tests/integration/test_objectstore.py", "tests/integration/test_database.py")
    assert [scope(ROOT, file) for file in alone] == list(alone)
    assert scope(ROOT, "tests/dags/test_runs.py") == scope(ROOT, "tests/dags/test_halted.py")


@pytest.mark.parametrize("ends", [(0, 0), (3, 0), (0, 4)])
def test_what_airflow_s_tests_print_is_shown_after_the_others_and_either_can_fail(
    ends: tuple[int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    airflow, others = ends
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *airflow/tests) echo "inside Airflow"; exit {airflow};; esac\n'
        f'echo "the others"; exit {others}\n'
    )
    python.chmod(0o755)

    def environment(_group: str, _say: object, _home: PackageSet = PLATFORM) -> Environment:
        return Environment(python, {})

    monkeypatch.setattr(launch, "environment", environment)
    assert launch.main(["test"]) == max(ends)
    assert capfd.readouterr().out == "the others\ninside Airflow\n"
