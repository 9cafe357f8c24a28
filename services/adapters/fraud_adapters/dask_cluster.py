"""A Dask cluster that exists: connects to its scheduler, checks it, and says in one sentence what is wrong.

Dask is imported when a cluster is connected to, never where `DASK_SCHEDULER` is not set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fraud_adapters.job.failures import LastingFailure, PassingFailure
from fraud_adapters.job.logs import get_logger

if TYPE_CHECKING:
    from distributed import Client, Future

Item = TypeVar("Item")
Output = TypeVar("Output")

CONNECT_SECONDS: Final = 10
WORKERS_SECONDS: Final = 60
# Of our own results and of what computes them; Dask compares Python and its own parts itself.
_COMPARED: Final = ("numpy", "pandas", "pyarrow", "xgboost")
_RETRIES: Final = 3  # of a task that failed; a task whose worker died is run again by Dask itself


class ClusterUnavailable(PassingFailure):
    """The scheduler or its workers cannot be reached; one sentence naming DASK_SCHEDULER."""


class ClusterUnfit(LastingFailure):
    """Client and workers do not fit together; one sentence naming DASK_SCHEDULER."""


class DaskCluster:
    """The workers behind one scheduler.

    Args:
        address: of the scheduler, `tcp://host:port` or `tls://host:port`.
        seconds: how long to wait for the first worker.
        connect_seconds: how long to wait for the scheduler.
    """

    def __init__(
        self, address: str, seconds: float = WORKERS_SECONDS, connect_seconds: float = CONNECT_SECONDS
    ) -> None:
        self.address = address
        self._seconds = seconds
        self._connect_seconds = connect_seconds

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A connection to the scheduler, with at least one worker that has the same versions as this process.

        Raises:
            ClusterUnavailable: the scheduler does not answer, or no worker came in time.
            ClusterUnfit: versions differ.
        """
        client = self._connected()
        try:
            self._wait_for_a_worker(client)
            self._compare_versions(client)
            yield client
        finally:
            client.close(timeout=self._connect_seconds)

    def map(self, client: Client, work: Callable[[Item], Output], items: Iterable[Item]) -> list[Output]:
        """The result of `work` for each item, in their order; a worker that dies is replaced by the others.

        Raises:
            ClusterUnavailable: the same task lost its worker again and again.
        """
        futures = client.map(work, list(items), pure=False, retries=_RETRIES)
        try:
            return [self.result(future) for future in futures]
        finally:
            client.cancel(futures, force=True)

    def result(self, future: Future[Any]) -> Any:
        """The result of a task.

        Raises:
            ClusterUnavailable: the task lost its worker again and again.
        """
        from distributed import KilledWorker  # noqa: PLC0415

        try:
            return future.result()
        except KilledWorker:
            raise ClusterUnavailable(
                f"DASK_SCHEDULER={self.address}: a task lost every worker that tried it: give the workers "
                "more memory, and look into their logs."
            ) from None

    def _connected(self) -> Client:
        from distributed import Client as DaskClient  # noqa: PLC0415

        try:
            # XGBoost looks for the default client.
            return DaskClient(self.address, timeout=self._connect_seconds, name="fraud")
        except (OSError, TimeoutError, ValueError) as error:
            raise ClusterUnavailable(
                f"DASK_SCHEDULER={self.address}: no scheduler answers there ({type(error).__name__}): "
                "start it, or unset the variable to work on this machine alone."
            ) from None

    def _wait_for_a_worker(self, client: Client) -> None:
        try:
            client.wait_for_workers(1, timeout=self._seconds)
        except TimeoutError:
            raise ClusterUnavailable(
                f"DASK_SCHEDULER={self.address}: no worker joined the scheduler within {self._seconds:g} "
                "seconds: start some, or unset the variable to work on this machine alone."
            ) from None
        get_logger(__name__).info("dask_connected", scheduler=self.address, workers=len(workers_of(client)))

    def _compare_versions(self, client: Client) -> None:
        # It returns a coroutine to asynchronous clients alone.
        versions: Any = client.get_versions(packages=list(_COMPARED))
        own = _versions(versions["client"])
        others = {f"the worker {name}": info for name, info in versions["workers"].items()}
        for who, info in others.items():
            for package, version in _versions(info).items():
                if own.get(package) != version:
                    raise ClusterUnfit(
                        f"DASK_SCHEDULER={self.address}: {who} has {package} {version or 'not'}, this job "
                        f"{own.get(package)}: run all of them from the same image."
                    )


def workers_of(client: Client) -> set[str]:
    """The addresses of the workers that are there now."""
    return set(client.scheduler_info(n_workers=-1)["workers"])


def _versions(info: Mapping[str, Any] | None) -> dict[str, str | None]:
    """Versions by package; Python's without its patch level, since pickles of a minor version agree."""
    packages = dict((info or {}).get("packages", {}))
    python = ".".join(str(packages.get("python")).split(".")[:2])
    return {"python": python, **{name: packages.get(name) for name in ("dask", "distributed", *_COMPARED)}}
