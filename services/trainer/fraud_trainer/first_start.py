"""The first start of an installation: creates buckets, and finds out whether a model must be trained."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from config import constants, settings
from config.job_results.trainer import BucketsResult
from fraud_adapters.job.logs import get_logger
from fraud_adapters.models.registry import Registry, RegistryUnavailable
from fraud_adapters.objectstore import ObjectStore, ObjectStoreUnavailable

BUCKETS: Final = (constants.BUCKET_RUNS, constants.BUCKET_MLFLOW)
PATIENCE_S: Final = 60.0
_PROBE: Final = "ready"
_PAUSE_S: Final = 1.0

T = TypeVar("T")


def buckets() -> BucketsResult:
    """Create the platform's buckets with the administrator's key; existing buckets stay unchanged.

    A store that has just started reports that it is healthy some seconds before it accepts objects, so the
    function waits until an object is accepted.

    Raises:
        ObjectStoreUnavailable: the store does not answer, refuses, or accepts no object in time.
    """
    store = settings.load(settings.ObjectStoreSettings)
    created = [name for name in BUCKETS if ObjectStore(store, name).ensure_bucket()]
    runs = ObjectStore(store, constants.BUCKET_RUNS)
    retry_until_available(lambda: runs.put_bytes(_PROBE, b""), ObjectStoreUnavailable, PATIENCE_S)
    return {"status": "done", "buckets": list(BUCKETS), "created": created}


def champion() -> str | None:
    """The champion's version, or None if there is no champion.

    The request is retried, because a machine on which all services start at once may answer late.

    Raises:
        RegistryUnavailable: MLflow does not answer in time.
    """
    name = f"{constants.REGISTERED_MODEL_PREFIX}{settings.load(settings.PlatformSettings).fraud_contract}"
    with Registry(settings.load(settings.MlflowSettings).tracking_uri) as registry:
        return retry_until_available(
            lambda: registry.version_of_alias(name, constants.ALIAS_CHAMPION), RegistryUnavailable, PATIENCE_S
        )


def retry_until_available(request: Callable[[], T], unavailable: type[Exception], patience_s: float) -> T:
    """The result of `request`, retried every second for `patience_s` while it raises `unavailable`."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return request()
        except unavailable as error:
            if time.monotonic() > deadline:
                raise
            get_logger(__name__).info("not_available_yet", reason=str(error))
        time.sleep(_PAUSE_S)
