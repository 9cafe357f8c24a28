"""Where a file of an option is: a path, or an object of the runs' bucket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from config.constants import BUCKET_RUNS
from config.settings import ConfigurationError
from fraud_adapters.job.failures import LastingFailure
from fraud_adapters.objectstore import ObjectMissing, ObjectStore
from fraud_adapters.objectstore.run_store import ROOT

STORE: Final = f"s3://{BUCKET_RUNS}/"
TABLE: Final = "table"
_SCHEME: Final = "s3://"
_SUFFIXES: Final = (".csv", ".parquet")


def is_local(address: str) -> bool:
    """Whether the file is a path, and not an object."""
    return not address.startswith(STORE)


def check_input(address: str) -> None:
    """Refuse a file that cannot be read.

    Raises:
        ConfigurationError: one sentence naming the option.
    """
    _check_address("--input", address)
    if is_local(address) and not Path(address).is_file():
        raise ConfigurationError(f"--input: there is no file {address}.")


def check_output(address: str) -> None:
    """Refuse an output that cannot be written. Raises as `check_input`."""
    if address == TABLE:
        return
    _check_address("--output", address)
    if address.startswith(f"{STORE}{ROOT}"):
        raise ConfigurationError(f"--output: {STORE}{ROOT} belongs to runs: write to another folder.")
    path = Path(address)
    if is_local(address) and (path.is_dir() or not path.parent.is_dir()):
        raise ConfigurationError(f"--output: {address} must be a file in a folder that exists.")


def _check_address(option: str, address: str) -> None:
    if address.startswith(_SCHEME) and not address.startswith(STORE):
        raise ConfigurationError(f"{option}: of the object store only the bucket {BUCKET_RUNS} is used.")
    if not address.lower().endswith(_SUFFIXES):
        choice = "" if option == "--input" else f"{TABLE}, or "
        raise ConfigurationError(f"{option}: must be {choice}a file that ends in .csv or .parquet.")


@contextmanager
def local_copy(store: ObjectStore, address: str, directory: Path) -> Iterator[Path]:
    """The file at an address; of an object a copy in `directory`, which is removed afterwards.

    Raises:
        LastingFailure: there is no such object.
    """
    if is_local(address):
        yield Path(address)
        return
    key = address.removeprefix(STORE)
    path = directory / Path(key).name
    try:
        store.get_file(key, path)
    except ObjectMissing:
        raise LastingFailure(f"--input: there is no {address}.") from None
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def written_path(address: str, directory: Path) -> Path:
    """Where the file at an address is written; that of an object in `directory`, to be delivered."""
    if is_local(address):
        return Path(address)
    return directory / Path(address).name


def deliver(store: ObjectStore, address: str, path: Path) -> None:
    """Bring the whole file to its address: that of an object is stored, and its copy here removed."""
    if not is_local(address):
        store.put_file(address.removeprefix(STORE), path)
        path.unlink()
