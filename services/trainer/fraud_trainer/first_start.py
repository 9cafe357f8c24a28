"""What a new installation needs once: buckets, and a model to score with."""

from __future__ import annotations

import time
from typing import Any, Final

from config import constants, settings
from fraud_adapters.logs import get_logger
from fraud_adapters.objectstore import ObjectStore, ObjectStoreUnavailable
from fraud_adapters.registry import Registry

BUCKETS: Final = (constants.BUCKET_RUNS, constants.BUCKET_MLFLOW)
PATIENCE_S: Final = 60.0
_PROBE: Final = "ready"


def buckets() -> dict[str, Any]:
    """Make the platform's buckets with the administrator's key; those that exist stay as they are.

    A store that has just started says it is healthy some seconds before it takes the first object: the answer
    comes once it does.

    Raises:
        ObjectStoreUnavailable: the store does not answer, refuses, or takes no object in time.
    """
    store = settings.load(settings.ObjectStoreSettings)
    made = [name for name in BUCKETS if ObjectStore(store, name).ensure_bucket()]
    _wait_until_writable(ObjectStore(store, constants.BUCKET_RUNS), time.monotonic() + PATIENCE_S)
    return {"status": "done", "buckets": list(BUCKETS), "created": made}


def _wait_until_writable(store: ObjectStore, deadline: float) -> None:
    while True:
        try:
            return store.put_bytes(_PROBE, b"")
        except ObjectStoreUnavailable as error:
            if time.monotonic() > deadline:
                raise
            get_logger(__name__).info("not_writable_yet", reason=str(error))
        time.sleep(1)


def champion() -> str | None:
    """The version that decides in this installation, if there is one.

    Raises:
        RegistryUnavailable: MLflow does not answer.
    """
    name = f"{constants.REGISTERED_MODEL_PREFIX}{settings.load(settings.PlatformSettings).fraud_contract}"
    with Registry(settings.load(settings.MlflowSettings).tracking_uri) as registry:
        return registry.version_of_alias(name, constants.ALIAS_CHAMPION)
