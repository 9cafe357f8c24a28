"""Holds the served model: follows the registry's champion alias and accepts only versions that may serve."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Final, Protocol

from config.constants import ALIAS_CHAMPION, ALIAS_SHADOW
from fraud_adapters.job.logs import get_logger
from fraud_adapters.models.loading import Model
from fraud_adapters.models.recorded import VersionRefused, servable
from fraud_adapters.models.registry import RegistryFailure
from fraud_adapters.models.version_files import ModelRefused
from fraud_adapters.postgres import DatabaseUnavailable, audit
from fraud_adapters.postgres.model_versions import VersionRecord, read_version
from fraud_adapters.postgres.session import Session
from fraud_api.alias_audit import AliasAudit
from fraud_api.metrics import Metrics
from fraud_api.model_cache import ModelCache
from fraud_core.contract import Contract

KEEP_VERSIONS: Final = 3  # in the cache, so that a rollback needs no download
RETRY_SECONDS: Final = 30.0  # before a refused version is checked again, unless its record changed
_LAST_SERVED_FILE: Final = "champion"  # names the version served last, for a start without the registry


class ModelSource(Protocol):
    """The source of model versions, such as the registry. Every method raises `RegistryFailure`."""

    def version_of_alias(self, name: str, alias: str) -> str | None: ...

    def aliases(self, name: str) -> dict[str, str]: ...

    def experiment(self, name: str) -> str | None: ...

    def set_alias(self, name: str, alias: str, version: str) -> None: ...

    def download(self, name: str, version: str, destination: Path) -> Path: ...


@dataclass(frozen=True, slots=True)
class Serving:
    """The served model with its version and its record."""

    version: str
    model: Model
    record: VersionRecord


class ModelHolder:
    """Holds the champion. `current` is replaced in one assignment, and each request uses one model
    throughout."""

    def __init__(
        self, contract: Contract, source: ModelSource, session: Session, cache: Path, metrics: Metrics
    ) -> None:
        self.current: Serving | None = None
        self.shadow: Serving | None = None  # the version with that alias; it decides nothing
        self.problem: str | None = "not loaded yet"
        self._contract = contract
        self._source = source
        self._session = session
        self._cache = cache / contract.registered_model
        self._versions = ModelCache(contract, source, self._cache)
        self._metrics = metrics
        self._aliases = AliasAudit(contract.registered_model, source, session)
        self._refused: tuple[str, VersionRecord | None, float] | None = None
        self._shadow_version: str | None = None
        self._lock = Lock()  # the poller and requests look for versions; one of them at a time

    def poll(self) -> None:
        """Load the version of the alias if it may serve; otherwise keep the current model."""
        with self._lock:
            self._poll()

    def reload(self) -> Serving | None:
        """Poll at once, and check a version again even if it was refused lately; returns what serves."""
        with self._lock:
            self._refused = None
            self._poll()
            return self.current

    def check(self, version: str) -> None:
        """Verify a version as if it were to serve, without serving it; raises as `load`."""
        self.load(version)

    def load(self, version: str) -> Serving:
        """A version that may serve, verified and warmed up, as a canary or a shadow serves it.

        Raises:
            VersionRefused: it must not serve.
            RegistryUnavailable, DatabaseUnavailable: it cannot be verified at the moment.
        """
        with self._lock:
            return self._checked(version, self._record(version))

    def _poll(self) -> None:
        aliases: dict[str, str] | None = None
        try:
            aliases = self._read_aliases()
            is_current = aliases is not None
            version = self._last_served() if aliases is None else aliases.get(ALIAS_CHAMPION)
            if version is None:
                self._record_problem(
                    "no_champion", f"{self._contract.registered_model} has no {ALIAS_CHAMPION}."
                )
            elif self.current is None or self.current.version != version:
                self._take_over(version, audited=is_current)
            else:
                self.problem = None
        except VersionRefused as error:
            self._record_problem(error.reason, str(error))
        except (RegistryFailure, DatabaseUnavailable, OSError) as error:
            self._record_problem("unavailable", _public_sentence(error), str(error))
        if aliases is not None:
            self._follow_shadow(aliases.get(ALIAS_SHADOW))
            self._aliases.record(aliases)

    def _follow_shadow(self, version: str | None) -> None:
        """Load the shadow if it moved; one that cannot be loaded is looked at again when its alias moves."""
        if version == self._shadow_version:
            return
        self._shadow_version, self.shadow = version, None
        self._metrics.shadow_loaded.set(0)
        if version is None:
            return
        try:
            self.shadow = self._checked(version, self._record(version))
        except (ModelRefused, RegistryFailure, DatabaseUnavailable, OSError) as error:
            get_logger(__name__).error("shadow_not_loaded", version=version, detail=str(error))
        else:
            self._metrics.shadow_loaded.set(1)
            get_logger(__name__).info("shadow_loaded", version=version)

    def _read_aliases(self) -> dict[str, str] | None:
        """The registry's aliases now; None where it does not answer and the version served last may serve."""
        try:
            return self._source.aliases(self._contract.registered_model)
        except RegistryFailure:
            if self.current is not None or not (self._cache / _LAST_SERVED_FILE).is_file():
                raise
            return None

    def _last_served(self) -> str:
        """The version served last; it may serve again if its files are cached."""
        return (self._cache / _LAST_SERVED_FILE).read_text(encoding="ascii").strip()

    def _take_over(self, version: str, *, audited: bool) -> None:
        record = self._record(version)
        if self._was_refused_recently(version, record):
            return
        try:
            serving = self._checked(version, record)
        except VersionRefused:
            self._refused = (version, record, monotonic())
            raise
        if audited:
            self._audit(serving)
        self._start_serving(serving)

    def _record(self, version: str) -> VersionRecord | None:
        return self._session.run(
            lambda cursor: read_version(cursor, self._contract.registered_model, version)
        )

    def _checked(self, version: str, record: VersionRecord | None) -> Serving:
        record = servable(record, version)
        return Serving(version, self._versions.load(version, record), record)

    def _audit(self, serving: Serving) -> None:
        """Add an entry to the audit log if the alias was moved by hand; whoever else moves it adds one."""
        name, details = self._contract.registered_model, {"digest": serving.record.digest}
        by_hand = self._session.run(
            lambda cursor: audit.alias_taken_up(cursor, name, ALIAS_CHAMPION, serving.version, details)
        )
        if by_hand:
            get_logger(__name__).warning("alias_moved_by_hand", alias=ALIAS_CHAMPION, version=serving.version)

    def _was_refused_recently(self, version: str, record: VersionRecord | None) -> bool:
        if self._refused is None:
            return False
        *known, since = self._refused
        return known == [version, record] and monotonic() - since < RETRY_SECONDS

    def _start_serving(self, serving: Serving) -> None:
        previous, self.current, self.problem, self._refused = self.current, serving, None, None
        record = serving.record
        self._metrics.model.clear()
        self._metrics.model.labels(serving.version, record.digest, record.gate_policy).set(1)
        (self._cache / _LAST_SERVED_FILE).write_text(serving.version, encoding="ascii")
        self._versions.trim(KEEP_VERSIONS)
        get_logger(__name__).info(
            "model_served",
            version=serving.version,
            digest=record.digest,
            before=previous.version if previous else None,
        )

    def _record_problem(self, reason: str, sentence: str, detail: str | None = None) -> None:
        """Store the message for the readiness report, which is public; log it with the detail."""
        if sentence == self.problem:
            return
        self.problem = sentence
        self._metrics.model_refused.labels(reason).inc()
        serving = self.current.version if self.current else None
        get_logger(__name__).error(
            "model_not_taken", reason=reason, detail=detail or sentence, serving=serving
        )


def _public_sentence(error: Exception) -> str:
    """A public message: it names what is unavailable, without address, user or path."""
    if isinstance(error, RegistryFailure):
        return "The model registry does not respond correctly."
    return (
        "The database does not answer."
        if isinstance(error, DatabaseUnavailable)
        else "The model cache cannot be written."
    )
