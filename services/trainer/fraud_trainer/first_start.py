"""What a new installation needs once: buckets, and a model to score with."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from config import constants, settings
from config.job_results import BucketsResult
from fraud_adapters.job.logs import get_logger
from fraud_adapters.models.registry import Registry, RegistryUnavailable
from fraud_adapters.objectstore import ObjectStore, ObjectStoreUnavailable

BUCKETS: Final = (constants.BUCKET_RUNS, constants.BUCKET_MLFLOW)
PATIENCE_S: Final = 60.0
_PROBE: Final = "ready"
_PAUSE_S: Final = 1.0

T = TypeVar("T")


def buckets() -> BucketsResult:
    """Make the platform's buckets with the administrator's key; those that exist stay as they are.

    A store that has just started says it is healthy some seconds before it takes the first object: the answer
    comes once it does.

    Raises:
        ObjectStoreUnavailable: the store does not answer, refuses, or takes no object in time.
    """
    store = settings.load(settings.ObjectStoreSettings)
    made = [name for name in BUCKETS if ObjectStore(store, name).ensure_bucket()]
    runs = ObjectStore(store, constants.BUCKET_RUNS)
    patiently(lambda: runs.put_bytes(_PROBE, b""), ObjectStoreUnavailable, PATIENCE_S)
    return {"status": "done", "buckets": list(BUCKETS), "created": made}


def champion() -> str | None:
    """The version that decides in this installation, if there is one.

    A machine on which everything starts at once may take long over one answer: it is asked again.

    Raises:
        RegistryUnavailable: MLflow does not answer in time.
    """
    name = f"{constants.REGISTERED_MODEL_PREFIX}{settings.load(settings.PlatformSettings).fraud_contract}"
    with Registry(settings.load(settings.MlflowSettings).tracking_uri) as registry:
        return patiently(
            lambda: registry.version_of_alias(name, constants.ALIAS_CHAMPION), RegistryUnavailable, PATIENCE_S
        )


def patiently(ask: Callable[[], T], unavailable: type[Exception], patience_s: float) -> T:
    """What `ask` gives, asked again every second while it raises `unavailable`, for so many seconds."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return ask()
        except unavailable as error:
            if time.monotonic() > deadline:
                raise
            get_logger(__name__).info("not_available_yet", reason=str(error))
        time.sleep(_PAUSE_S)
