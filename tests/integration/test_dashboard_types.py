"""The dashboards against the types that Grafana publishes of them on npm, by the TypeScript compiler."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from monitoring.grafana.generate import FOLDER
from tests.support.programs import program

TYPES = Path(__file__).parents[1] / "support" / "grafana_types"
HEAD = """\
import type { Dashboard } from "./node_modules/@grafana/schema/dist/esm/raw/dashboard/x/dashboard_types.gen";
import type { Plain } from "./plain";
export const board: Plain<Dashboard> = """
OPTIONS = ("--noEmit", "--strict", "--skipLibCheck", "--module", "esnext", "--moduleResolution", "bundler")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the compiler, the published types, and every dashboard as a constant of them."""
    folder = tmp_path_factory.mktemp("grafana") / "types"
    shutil.copytree(TYPES, folder)
    installed = subprocess.run(
        [program("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert installed.returncode == 0, installed.stderr
    for path in FOLDER.glob("*.json"):
        (folder / f"{path.stem}.ts").write_text(f"{HEAD}{path.read_text('utf-8').strip()};\n", "utf-8")
    return folder


def complaints(place: Path) -> list[tuple[str, str]]:
    """What the compiler says of the constants, each with the file's name and what is wrong."""
    compiler = place / "node_modules" / ".bin" / "tsc"
    names = sorted(path.name for path in place.glob("*.ts"))
    done = subprocess.run(
        [compiler, *OPTIONS, *names], cwd=place, capture_output=True, text=True, timeout=120, check=False
    )
    return re.findall(r"^(\S+\.ts)\(\d+,\d+\): error \w+: (.*)$", done.stdout, re.MULTILINE)


def test_every_dashboard_has_the_published_types(place: Path) -> None:
    assert complaints(place) == []
    # The same check finds a field that Grafana does not know, and a value that its enumerations do not have.
    board = place / "alerts.ts"
    good = board.read_text("utf-8")
    board.write_text(
        good.replace('"skipUrlSync"', '"skipUrl"', 1).replace('"absolute"', '"relative"', 1), "utf-8"
    )
    found = complaints(place)
    board.write_text(good, "utf-8")
    assert {name for name, _ in found} == {"alerts.ts"}
    assert any("skipUrl" in text for _, text in found)
    assert any('"relative"' in text for _, text in found)
