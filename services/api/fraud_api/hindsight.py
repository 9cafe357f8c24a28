"""Looks at stored decisions again: why they were made, and whether the recorded model still makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud_adapters.job.logs import get_logger
from fraud_adapters.models.loading import Model, NotExplainable
from fraud_adapters.models.recorded import VersionRefused
from fraud_adapters.models.registry import RegistryFailure
from fraud_adapters.models.version_files import ModelRefused
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_adapters.postgres.prediction_queries import ScoredVector, read_vectors
from fraud_adapters.postgres.session import Session
from fraud_api.problems import Problem, unavailable
from fraud_api.recorded_versions import RecordedVersions
from fraud_core.contract import Contract
from fraud_core.explanation import Contributions, Reason, reasons_of

TOLERANCE: Final = 1e-4  # between a stored score and what the contributions add up to
NO_DECISION: Final = "No prediction decides a transaction with this id."


MOST_REASONS: Final = 5  # unless a request asks for another number


@dataclass(frozen=True, slots=True)
class Explained:
    """Why a decision has its score: all reasons, the strongest first."""

    scored: ScoredVector
    contributions: Contributions
    reasons: Sequence[Reason]


def explanation_document(explained: Explained | str, most: int) -> dict[str, Any]:
    """An explanation as it is answered, with at most so many reasons; a text says why there is none."""
    if isinstance(explained, str):
        return {"available": False, "problem": explained}
    contributions, shown = explained.contributions, explained.reasons[:most]
    return {
        "available": True,
        "method": contributions.method,
        "of": contributions.of,
        "base": contributions.base,
        "log_odds": contributions.log_odds,
        "reasons": [asdict(reason) for reason in shown],
        "rest": sum(reason.contribution for reason in explained.reasons[most:]),
    }


@dataclass(frozen=True, slots=True)
class Replayed:
    """A decision with the score that its recorded model gives its stored features now."""

    scored: ScoredVector
    score: float

    @property
    def identical(self) -> bool:
        return self.score == self.scored.score


class Hindsight:
    """Reads decisions by transaction, and asks the versions that made them. Blocks: call it from a thread."""

    def __init__(self, contract: Contract, session: Session, versions: RecordedVersions) -> None:
        self._contract = contract
        self._session = session
        self._versions = versions

    def explain(self, transaction_id: str) -> Explained:
        """Why a transaction has its score.

        Raises:
            Problem: 404 if no prediction decides it, 409 if its version cannot explain it, 503 if the version
                cannot be fetched at the moment.
        """
        return self._explained(self._read(transaction_id))

    def explain_each(self, transaction_ids: Sequence[str]) -> dict[str, Explained | str]:
        """The explanation of each transaction, or in one sentence why there is none: it never raises."""
        try:
            found = self._session.run(lambda cursor: read_vectors(cursor, transaction_ids))
        except DatabaseUnavailable:
            return dict.fromkeys(transaction_ids, "The database does not answer.")
        except Exception:
            get_logger(__name__).exception("explanation_failed", transactions=len(transaction_ids))
            return dict.fromkeys(transaction_ids, _FAILED)
        missing: dict[str, Explained | str] = dict.fromkeys(transaction_ids, NO_DECISION)
        return missing | {scored.transaction_id: self._explained_or_why_not(scored) for scored in found}

    def replay(self, transaction_id: str) -> Replayed:
        """Score a transaction's stored features again, by the recorded version and engine.

        Raises:
            Problem: 404 if no prediction decides it, 409 if the version or engine is not to be had any more,
                503 if the version cannot be fetched at the moment.
        """
        scored = self._read(transaction_id)
        model = self._model(scored.model_version)
        try:
            scores = model.score_with(scored.engine, self._vector(scored))
        except ModelRefused as error:
            raise Problem(409, str(error)) from None
        return Replayed(scored, float(scores.values[0]))

    def _read(self, transaction_id: str) -> ScoredVector:
        found = self._session.run(lambda cursor: read_vectors(cursor, [transaction_id]))
        if not found:
            raise Problem(404, NO_DECISION)
        return found[0]

    def _model(self, version: str) -> Model:
        try:
            return self._versions.model(version)
        except VersionRefused as error:
            raise Problem(409, f"Version {version} cannot be loaded: {error}") from None
        except RegistryFailure:
            raise unavailable(
                f"Version {version} cannot be fetched: the model registry does not respond correctly."
            ) from None
        except OSError:
            raise unavailable("The model cache cannot be written.") from None

    def _vector(self, scored: ScoredVector) -> NDArray[np.float32]:
        width = len(self._contract.features)
        if len(scored.feature_vector) != width:
            raise Problem(409, f"The decision is of another contract: it has not {width} features.")
        return np.array([scored.feature_vector], dtype=np.float32)

    def _explained(self, scored: ScoredVector) -> Explained:
        model, vector = self._model(scored.model_version), self._vector(scored)
        try:
            contributions = model.explain(vector)
        except NotExplainable as error:
            raise Problem(409, str(error)) from None
        if not abs(contributions.score - scored.score) <= TOLERANCE:
            get_logger(__name__).error(
                "explanation_does_not_add_up",
                version=scored.model_version,
                stored=scored.score,
                sum=contributions.score,
            )
            raise Problem(
                409, "The contributions do not add up to the stored score, so there are no reasons to give."
            )
        reasons = reasons_of(self._contract, model.profile, vector[0], contributions.values)
        return Explained(scored, contributions, reasons)

    def _explained_or_why_not(self, scored: ScoredVector) -> Explained | str:
        try:
            return self._explained(scored)
        except Problem as problem:
            return problem.detail
        except DatabaseUnavailable:
            return "The database does not answer."
        except Exception:
            get_logger(__name__).exception("explanation_failed", version=scored.model_version)
            return _FAILED


_FAILED: Final = "The explanation failed; the service's log says why."
