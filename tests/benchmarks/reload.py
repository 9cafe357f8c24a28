"""Whether the API follows the champion's alias without a failed request and without growing: real servers.

    ./fraud bench reload [--flips 200] [--write]

Six clients send requests without a pause while the alias is moved between two versions in MLflow, as a person
does. The next move begins once a response named the new version. Exits with 1 if a request failed, a version
was served later than 5 seconds after the move, a move is missing in the audit log, or resident memory grew by
more than 5 %. `--write` puts what it prints into docs/results/reload.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import psutil
import psycopg2

from config import constants
from config.parameters import read_yaml
from config.settings import CONFIG_DIR
from fraud_adapters.models.mlflow_http import MlflowHttp
from fraud_adapters.models.registry import ARTEFACT_PATH, Registry
from fraud_adapters.models.registry_writer import RegistryWriter
from fraud_adapters.models.tracked_runs import TrackedRuns
from fraud_core.contract import Contract
from fraud_db.bootstrap import clone_database
from tests.benchmarks import machine
from tests.benchmarks.servers import TEMPLATE, Servers, grow_model, running, start_registry
from tests.support.api_server import ApiServer, record_version
from tests.support.repeated_requests import RepeatedRequests

FOLLOW_SECONDS: Final = 5.0
MAX_GROWTH: Final = 0.05
SETTLED: Final = 0.1  # share of the flips after which caches and allocators are filled
_PATIENCE_SECONDS: Final = 30.0


@dataclass
class Flips:
    """Seconds from each move to the first response of the version, and memory after it in MiB."""

    seconds: list[float] = field(default_factory=list)
    resident: list[float] = field(default_factory=list)
    requests: int = 0
    failures: list[str] = field(default_factory=list)
    audited: int = 0

    @property
    def growth(self) -> float:
        """From the settled part's beginning to the end, by least squares, as a share."""
        settled = np.array(self.resident[int(len(self.resident) * SETTLED) :])
        slope, start = np.polyfit(np.arange(len(settled)), settled, 1)
        return float(slope * (len(settled) - 1) / start)

    def passed(self, flips: int) -> bool:
        return (
            not self.failures
            and len(self.seconds) == self.audited == flips
            and max(self.seconds) < FOLLOW_SECONDS
            and self.growth < MAX_GROWTH
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--write", action="store_true", help="write docs/results/reload.md")
    options = parser.parse_args()
    os.environ["FRAUD_CONTRACT"] = "creditcard"
    contract = Contract.from_mapping(read_yaml(CONFIG_DIR / "contracts" / "creditcard.yaml"))
    load = machine.load()
    with running(contract) as servers, ExitStack() as until_the_end:
        start_registry(servers, until_the_end)
        servers.api.stop()
        folder = Path(until_the_end.enter_context(tempfile.TemporaryDirectory()))
        result = measure(servers, contract, folder, options.flips)
        origin = machine.origin(servers.stack.postgres.url())
    text = report(result, options.flips, origin, load)
    print(text)
    if options.write:
        (machine.RESULTS / "reload.md").write_text(text + "\n", encoding="utf-8")
    return 0 if result.passed(options.flips) else 1


def measure(servers: Servers, contract: Contract, folder: Path, flips: int) -> Flips:
    postgres, uri = servers.stack.postgres, servers.stack.mlflow.tracking_uri
    clone_database(postgres.url(), TEMPLATE, "benchmark_reload", constants.ROLE_OWNER)
    owner = postgres.url(constants.ROLE_OWNER, servers.passwords.owner, "benchmark_reload")
    versions = [publish(uri, owner, contract, folder / str(seed), seed) for seed in (1, 2)]
    role = constants.SERVICE_ROLES["api"]
    url = postgres.url(role, servers.passwords.services["api"], "benchmark_reload")
    extra = {"MLFLOW_TRACKING_URI": uri}
    server = ApiServer(url, folder / "models", folder / "api.log", contract.name, extra)
    with Registry(uri) as registry:
        registry.set_alias(contract.registered_model, constants.ALIAS_CHAMPION, versions[1])
        server.start()
        try:
            result = flip(server, registry, contract.registered_model, versions, flips)
        finally:
            server.stop()
    with closing(psycopg2.connect(owner)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) - 1 FROM model_alias_history WHERE actor = 'mlflow'")  # the first one
        row = cursor.fetchone()
    result.audited = row[0] if row else 0
    return result


def publish(uri: str, owner: str, contract: Contract, folder: Path, seed: int) -> str:
    """Register a version as large as one in service; returns its number."""
    manifest = grow_model(folder, contract, seed)
    (files,) = (path for path in folder.iterdir() if path.is_dir())
    writer = RegistryWriter(uri)
    with MlflowHttp(uri) as http:
        run_id = TrackedRuns(http).open("reload", f"runs/benchmark/{seed}", f"model {seed}", {})
    writer.log_files(run_id, files, ARTEFACT_PATH)
    version = writer.register(contract.registered_model, run_id, {})
    record_version(owner, contract, version, manifest.digest())
    return version


def flip(server: ApiServer, registry: Registry, name: str, versions: list[str], flips: int) -> Flips:
    result = Flips()
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    with RepeatedRequests(server) as clients:
        for number in range(flips):
            version, moved = versions[number % 2], time.monotonic()
            registry.set_alias(name, constants.ALIAS_CHAMPION, version)
            if (seconds := first_response(clients, version, moved)) is None:
                break
            result.seconds.append(seconds)
            result.resident.append(process.memory_info().rss / 2**20)
    result.requests, result.failures = len(clients.served_versions), clients.failures
    return result


def first_response(clients: RepeatedRequests, version: str, since: float) -> float | None:
    """Seconds until a request that began after the move is answered by the version; None if none is in time.

    A request that began before may be answered later by a version from before.
    """
    seen = len(clients.served_versions)
    while time.monotonic() < since + _PATIENCE_SECONDS:
        while seen < len(clients.served_versions):
            at, served = clients.served_versions[seen]
            if served == version and clients.begun[seen] > since:
                return at - since
            seen += 1
        time.sleep(0.01)
    return None


def report(result: Flips, flips: int, origin: str, load: float) -> str:
    resident, tenth = result.resident, max(1, int(len(result.resident) * SETTLED))
    rows = [
        ["moves followed", f"{len(result.seconds)} of {flips}", "all"],
        ["seconds to the first response of the version, median", f"{np.median(result.seconds):.2f}", ""],
        ["the slowest", f"{max(result.seconds):.2f}", f"< {FOLLOW_SECONDS:g}"],
        ["requests during the moves", f"{result.requests:,}", ""],
        ["of these failed", f"{len(result.failures)}", "0"],
        ["moves in the audit log", f"{result.audited}", "all"],
        ["resident memory after a tenth of the moves, MiB", f"{resident[tenth - 1]:.1f}", ""],
        ["at the end, MiB", f"{resident[-1]:.1f}", ""],
        ["growth since that tenth, fitted", f"{result.growth:+.2%}", f"< {MAX_GROWTH:.0%}"],
    ]
    return f"""# Reload: {flips} moves of the champion's alias under load

`{machine.command()}`

{origin} Load average before: {load:.2f}.

Two versions of 300 trees of depth 6; six clients send single requests and batches of five; the alias is moved
in MLflow.

{machine.table(["", "measured", "aim"], rows)}"""


if __name__ == "__main__":
    raise SystemExit(main())
