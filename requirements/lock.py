"""Write the hashed locks of `config/services.py`: universal, with one set of versions, without addresses.

Run it by `./fraud lock`; it needs uv. Every lock is compiled under one shared constraint file, so that two
images never run two versions of the same library.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CONSTRAINTS = HERE / "constraints.txt"
LOCAL = ("fraud-core", "fraud-config", "fraud-adapters", "fraud-db")
PINS = HERE / "pins.txt"
AIRFLOW = ROOT / "airflow"
sys.path.insert(0, str(ROOT))

from config import services  # noqa: E402 - found through the line above


def main() -> int:
    """Compile the constraints of all groups together, then each group under them."""
    uv = sys.argv[1] if len(sys.argv) > 1 else "uv"
    groups = services.groups()
    everything = sorted({package for group in groups.values() for package in group.packages})
    all_extras = sorted({extra for group in groups.values() for extra in group.extras})
    _compile(uv, everything, all_extras, CONSTRAINTS, ["--constraint", str(PINS)])
    for name, group in groups.items():
        print(f"requirements/{name}.txt", flush=True)
        options = ["--generate-hashes", "--constraint", str(CONSTRAINTS)]
        _compile(uv, group.packages, group.extras, HERE / f"{name}.txt", options)
    _airflow(uv)
    return 0


def _airflow(uv: str) -> None:
    """Airflow resolves alone: what it runs with, and the same versions with what its tests need."""
    print("airflow/requirements.txt", flush=True)
    runtime = AIRFLOW / "requirements.txt"
    _compile(uv, ["airflow"], [], runtime, ["--generate-hashes"])
    group = f"{AIRFLOW / 'pyproject.toml'}:test"
    options = ["--generate-hashes", "--constraint", str(runtime), "--group", group]
    _compile(uv, ["airflow"], [], AIRFLOW / "requirements-test.txt", options)


def _compile(
    uv: str, packages: Sequence[str], groups: Sequence[str], target: Path, options: list[str]
) -> None:
    sources = [str(ROOT / package / "pyproject.toml") for package in packages]
    command = [uv, "pip", "compile", *sources, "--output-file", str(target), "--quiet", "--upgrade"]
    command += ["--universal", "--python-version", "3.11", "--only-binary", ":all:", "--no-annotate"]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--custom-compile-command", "./fraud lock"]
    for local in LOCAL:
        command += ["--no-emit-package", local]
    for group in groups:
        command += ["--group", f"{ROOT / 'pyproject.toml'}:{group}"]
    subprocess.run([*command, *options], check=True, cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main())
