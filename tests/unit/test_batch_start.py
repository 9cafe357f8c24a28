"""What the start of a batch prediction costs, and what is known of its input by then."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from fraud_batch.input_file import digest_ahead


def test_starting_a_job_imports_neither_pandas_nor_scikit_learn() -> None:
    """Both take a third of a second, and neither is used."""
    program = "import sys, fraud_batch.__main__; print({'pandas', 'sklearn', 'dask'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, timeout=60, capture_output=True)
    assert done.stdout.strip() == b"set()"


def test_a_digest_is_computed_beside_the_start(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"amount\n1\n" * 100_000)
    assert digest_ahead(path).result(30) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_vanishes_is_named_when_the_digest_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        digest_ahead(tmp_path / "none.csv").result(30)
